"""A node that has loopback and nothing else works, asks nobody outside, and leaves private files without pickles."""

from __future__ import annotations

import base64
import json
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.installed import missing

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.peer, pytest.mark.slow]
_ADDRESS = re.compile(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_PICKLE = re.compile(rb"\x80[\x02-\x05].*\.", re.DOTALL)


def traced(trace: Path, *command: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command, and all it starts, with loopback alone; every address it calls goes to a file."""
    follow = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=connect,sendto,sendmsg,sendmmsg",
        "-e",
        "signal=none",
    ]
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *follow, "-o", str(trace), *command]
    return subprocess.run(
        ["unshare", "--net", *inside], cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout
    )


def called(trace: Path) -> set[str]:
    """The IP addresses in a trace."""
    return set(_ADDRESS.findall(trace.read_text(encoding="utf-8", errors="replace")))


def outside(addresses: set[str]) -> list[str]:
    """Those that are not this machine's own; the unspecified one (0.0.0.0, ::) means this machine too."""
    parsed = {address: ip_address(address) for address in addresses}
    return sorted(address for address, ip in parsed.items() if not (ip.is_loopback or ip.is_unspecified))


@dataclass(frozen=True)
class Alone:
    """What is left of a node that ran alone."""

    folder: Path
    called: set[str]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    if shutil.which("strace") is None:
        missing("strace is not installed (apt: strace)")
    folder = tmp_path_factory.mktemp("alone")
    probe = traced(folder / "probe", "true", timeout=60)
    if probe.returncode:
        pytest.skip(f"a network namespace and strace are not permitted here: {probe.stderr.strip()}")
    done = traced(folder / "trace", sys.executable, "-m", "tests.node.alone", str(folder), timeout=420)
    assert done.returncode == 0, done.stderr[-3000:]
    return Alone(folder, called(folder / "trace"), json.loads(done.stdout.splitlines()[-1]))


def test_a_node_without_a_network_works(alone: Alone) -> None:
    assert alone.report["sent"]
    assert (alone.report["state"], alone.report["reason"]) == ("done", None)


def test_no_address_outside_is_called(alone: Alone) -> None:
    assert "127.0.0.1" in alone.called  # the trace holds what was called: results went to the archive
    assert outside(alone.called) == []


def test_a_call_outside_would_be_seen(alone: Alone) -> None:
    for number, program in enumerate(
        (
            "import socket; socket.socket().connect_ex(('192.0.2.1', 80))",
            "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        )
    ):
        trace = alone.folder / f"call {number}"
        traced(trace, sys.executable, "-c", program, timeout=60)
        assert outside(called(trace)) == ["192.0.2.1"]


@pytest.mark.parametrize("when", ["running", "stopped"])
def test_every_file_is_its_owner_s_alone(alone: Alone, when: str) -> None:
    modes = alone.report[when]
    names = {Path(name).name for name in modes}
    assert {"node.sqlite", "workflows.sqlite", "spool", "cases", "archive", "worker.lock"} <= names
    assert when == "stopped" or {"node.sqlite-wal", "node.sqlite-shm"} <= names
    is_folder = {name: (alone.folder / "node" / name).is_dir() for name in modes}
    assert {name: mode for name, mode in modes.items() if mode != ("700" if is_folder[name] else "600")} == {}


def values(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Every value of every table of a database."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                yield from ((table, column, value) for column, value in zip(columns, row, strict=True))


def is_pickled(value: object) -> bool:
    """Whether a value is a pickle, as bytes or as base64."""
    content = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b""
    if _PICKLE.fullmatch(content):
        return True
    try:
        return bool(_PICKLE.fullmatch(base64.b64decode(content, validate=True)))
    except ValueError:
        return False


def test_a_pickle_would_be_seen() -> None:
    pickled = pickle.dumps({"case": 1})
    assert is_pickled(pickled)
    assert is_pickled(base64.b64encode(pickled).decode())
    assert not is_pickled('{"case": 1}')


@pytest.mark.parametrize("name", ["workflows.sqlite", "node.sqlite"])
def test_nothing_on_record_is_pickled(alone: Alone, name: str) -> None:
    found = list(values(alone.folder / "node" / "home" / name))
    assert len(found) > 50
    assert [(table, column) for table, column, value in found if is_pickled(value)] == []


def test_checkpoints_are_json(alone: Alone) -> None:
    found = list(values(alone.folder / "node" / "home" / "workflows.sqlite"))
    kept = [value for _, column, value in found if column in {"inputs", "output", "error"} and value is not None]
    assert len(kept) > 8
    for value in kept:
        json.loads(value)
