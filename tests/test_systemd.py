"""The units of systemd, as systemd itself judges them."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.serve import STOP_SECONDS
from tests.peers import tool

pytestmark = pytest.mark.peer
FOLDER = Path(__file__).parents[1] / "deploy" / "systemd"
UNITS = {"dicom-node.service": "dicom-node.service", "dicom-node@.service": "dicom-node@listen.service"}
PROGRAM = "/opt/dicom-node/.venv/bin/dicom-node"
MOST_EXPOSED = 20
"""Ten times the highest exposure that is let through; an unhardened service has 96, Debian's own sshd as much."""


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit, calling a program that is there."""
    path = tmp_path / UNITS[request.param]
    path.write_text((FOLDER / request.param).read_text().replace(PROGRAM, "/bin/true"))
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("systemd-analyze"), *map(str, arguments)], capture_output=True, text=True, check=False)


def directives(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return dict(parser["Service"])


def test_systemd_understands_every_line(unit: Path) -> None:
    judged = analyze("verify", "--man=no", unit)
    assert (judged.returncode, judged.stderr) == (0, "")


def test_systemd_would_complain(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert "NoNewPrivilege" in analyze("verify", "--man=no", unit).stderr


def test_little_is_exposed(unit: Path) -> None:
    judged = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit)
    assert judged.returncode == 0, judged.stdout
    unit.write_text(re.sub(r"(?m)^(Protect|Private|Capability|SystemCall|Restrict).*\n", "", unit.read_text()))
    assert analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit).returncode != 0


@pytest.mark.parametrize("drop_in", ["dicom-node-gpu.conf", "dicom-node-port.conf"])
def test_a_drop_in_is_understood(drop_in: str, tmp_path: Path) -> None:
    unit = tmp_path / "dicom-node.service"
    unit.write_text((FOLDER / "dicom-node.service").read_text().replace(PROGRAM, "/bin/true"))
    folder = tmp_path / "dicom-node.service.d"
    folder.mkdir()
    (folder / drop_in).write_text((FOLDER / drop_in).read_text())
    judged = analyze("verify", "--man=no", unit)
    assert (judged.returncode, judged.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_the_node_gets_the_time_it_needs_to_stop(name: str) -> None:
    of_the_others, of_the_audit_trail = STOP_SECONDS, STOP_SECONDS
    assert int(directives(FOLDER / name)["TimeoutStopSec"]) > of_the_others + of_the_audit_trail + 10


@pytest.mark.parametrize("name", UNITS)
def test_an_audit_trail_can_be_written_where_the_manual_puts_it(name: str) -> None:
    documented = re.search(r'(?m)^file = "(.*?)"', (FOLDER.parent / "operating.md").read_text())
    assert documented is not None
    unit = directives(FOLDER / name)
    assert unit["ProtectSystem"] == "strict"
    assert Path(documented[1]).parent == Path("/var/log") / unit["LogsDirectory"]


def test_the_commands_exist() -> None:
    for name, roles in (
        ("dicom-node.service", ["serve"]),
        ("dicom-node@.service", ["listen", "work", "monitor", "audit"]),
    ):
        for role in roles:
            command = directives(FOLDER / name)["ExecStart"].replace("%i", role).split()
            assert command[0] == PROGRAM
            arguments = [word for word in command[1:] if not word.endswith(".toml") and word != "--config"]
            done = subprocess.run([sys.executable, "-m", "dicom_node", *arguments, "--help"], check=False)
            assert (arguments, done.returncode) == ([role], 0)
