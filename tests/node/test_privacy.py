"""What names a patient stays in the images and in the audit trail, which is for its owner alone.

No log, message, reason, listing, record or metric holds it, at any level.
"""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.audit.schema import messages_in
from tests.machines.site import series_uid, small_series
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]
MOST_OF_A_FOLDER = 8

CONSPICUOUS = {
    "PatientName": "Zyxwvutsky^Qwertina",
    "PatientID": "KENNUNG-4711-0815",
    "PatientBirthDate": "19310229",
    "PatientAddress": "Verborgener Weg 99 Hinterhof",
    "PatientTelephoneNumbers": "+49-555-0147-555",
    "OtherPatientIDs": "ANDERE-KENNUNG-0816",
}
NOT_LATIN = {
    **CONSPICUOUS,
    "PatientName": "Щербакова^Ярославна=山田^太郎=やまだ^たろう",
    "PatientAddress": "Тайная улица 99",
}
OUT_OF_RULE = {**CONSPICUOUS, "PatientBirthDate": "31. Februar 1931, nachts", "PatientID": "KENNUNG-4711-0815-" * 8}
"""What scanners write where the standard allows no such thing."""
SECRETS = (
    "Zyxwvutsky", "Qwertina", "KENNUNG-4711", "19310229", "1931-02-29", "31. Februar", "Verborgener Weg",
    "555-0147", "KENNUNG-0816", "Щербакова", "Ярославна", "山田", "太郎", "やまだ", "Тайная",
)  # fmt: skip
RULES = """
[[rule]]
name = "by name"
when = { PatientName = { regex = "NOBODY" } }
card = "torso"
to = ["archive"]

[[rule]]
name = "by number and birth date"
when = { or = [{ PatientID = "NOBODY" }, { PatientBirthDate = { less = "18000101" } }, { PatientAddress = "NOWHERE" }] }
card = "torso"
to = ["archive"]

[[rule]]
name = "the rest"
card = "torso"
to = ["archive"]
"""


def test_the_search_finds_what_it_is_given() -> None:
    assert found_in("... ярославна щербакова ...") == []
    assert found_in("held: Щербакова^Ярославна") == ["Щербакова", "Ярославна"]
    assert found_in(json.dumps("山田^太郎")) == ["山田", "太郎"]
    assert found_in(repr("山田".encode())) == ["山田"]
    assert found_in("Щербакова".encode("iso8859-5").decode("latin-1")) == ["Щербакова"]


def found_in(text: str) -> list[str]:
    """Which secrets a text holds, as they are or in any form that logs and JSON would give them."""
    return [secret for secret in SECRETS if any(form in text for form in _forms(secret))]


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    for charset in ("utf-8", "iso8859-5", "shift_jis", "iso2022_jp"):
        try:
            encoded = secret.encode(charset)
        except UnicodeEncodeError:
            continue
        yield encoded.decode("latin-1")
        yield repr(encoded)[2:-1]


def renamed(files: list[Path], folder: Path, values: dict[str, str]) -> list[Path]:
    """Copies of images, of another patient; what cannot be changed is left out."""
    folder.mkdir(parents=True)
    copies = []
    for number, path in enumerate(files):
        try:
            dataset = pydicom.dcmread(path)
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            if not value_is_latin(values):
                dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.save_as(folder / f"{number:03d}.dcm")
        except (OSError, ValueError, TypeError, AttributeError, NotImplementedError, pydicom.errors.InvalidDicomError):
            continue
        copies.append(folder / f"{number:03d}.dcm")
    return copies


def value_is_latin(values: dict[str, str]) -> bool:
    return all(value.isascii() for value in values.values())


def with_the_name_as_a_number(path: Path) -> Path:
    """The same image, alone in its series, whose patient's name claims to be a floating point number."""
    dataset, copy = pydicom.dcmread(path), path.with_name("number.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName = f"{CONSPICUOUS['PatientName']}^^"  # 21 bytes and one of padding: no multiple of eight
    dataset.save_as(copy)
    copy.write_bytes(copy.read_bytes().replace(b"\x10\x00\x10\x00PN", b"\x10\x00\x10\x00FD"))
    return copy


@dataclass
class Watched:
    """A node that logs everything, and all it said."""

    node: RunningNode
    log: Path
    said: dict[str, str]
    trail: Path

    def named_in_the_trail(self) -> list[str]:
        """Which secrets the audit trail holds, once the node has ended; nobody else may read them."""
        assert [f"{stat.S_IMODE(path.stat().st_mode):o}" for path in (self.trail.parent, self.trail)] == ["700", "600"]
        assert len(messages_in(self.trail)) > 5
        return found_in(self.trail.read_text(encoding="utf-8"))

    def command(self, *arguments: str) -> None:
        """Note what a command prints."""
        done = subprocess.run(
            [sys.executable, "-m", MODULE, "--config", str(self.node.config), *arguments],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        self.said[" ".join(arguments)[:60]] = done.stdout + done.stderr

    def look(self) -> None:
        """Note what log, record and metrics say by now."""
        settings = self.node.settings
        url = f"http://127.0.0.1:{settings.monitoring.port}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            self.said["metrics"] = answer.read().decode()
        self.said["log"] = self.log.read_text(encoding="utf-8")
        self.said["names of files"] = "\n".join(str(path) for path in settings.node.home.rglob("*"))
        for path in settings.node.home.glob("*.sqlite*"):
            self.said[path.name] = path.read_bytes().decode("latin-1")

    def leaks(self) -> dict[str, list[str]]:
        """Where which secrets were said."""
        return {place: found for place, text in self.said.items() if (found := found_in(text))}


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    trail = folder / "audit" / "trail.xml"
    audit = f'[audit]\nfile = "{trail}"\n'
    config = write_config(folder / "node", extra=f"{RULES}\n{audit}[monitoring]\nport = {free_port()}\n")
    log = folder / "log"
    with log.open("wb") as messages:
        node = RunningNode(config, {"QUICK_LOG_LEVEL": "DEBUG", "PYTHONWARNINGS": "always"}, MODULE, messages)
        with node:
            yield Watched(node, log, {}, trail)


def in_batches(node: RunningNode, files: list[Path]) -> set[str]:
    """Send everything; returns the series of which something was taken."""
    outcomes = node.send(files)
    return {series_uid([path]) for path, outcome in zip(files, outcomes, strict=True) if outcome.ok}


@pytest.mark.parametrize("values", [CONSPICUOUS, NOT_LATIN, OUT_OF_RULE], ids=["plain", "not Latin", "out of rule"])
@pytest.mark.filterwarnings("ignore:::pydicom")
def test_phantoms_go_through_without_a_trace_of_their_patient(tmp_path: Path, values: dict[str, str]) -> None:
    good = renamed(small_series(tmp_path, 1), tmp_path / "good", values)
    whole = write(PhantomSpec(seed=5), tmp_path / "whole")
    gap = renamed([*whole[:9], *whole[12:]], tmp_path / "gap", values)
    odd = with_the_name_as_a_number(good[0])
    with watched(tmp_path) as seen:
        series = [
            series_uid(good),
            series_uid(gap),
            str(pydicom.dcmread(odd, stop_before_pixels=True).SeriesInstanceUID),
        ]
        assert all(outcome.ok for outcome in seen.node.send([*good, *gap, odd]))
        assert all(outcome.ok for outcome in seen.node.send(good[:2]))
        other = pydicom.dcmread(good[0])
        other.PatientComments = "another object under the same UID"
        other.save_as(tmp_path / "other.dcm")
        assert not seen.node.send([tmp_path / "other.dcm"])[0].ok
        cases = seen.node.wait_for_cases(series, seconds=180)
        assert [case["state"] for case in cases] == ["done", "held", "held"]
        assert "the value of PatientName cannot be read" in str(cases[2]["reason"])
        seen.command("cases", "list", "--json")
        for case in cases:
            seen.command("cases", "show", case["case_id"], "--json")
        seen.command("cases", "list")
        seen.command("route", str(good[0]), str(gap[0]), str(odd), "--json")
        seen.command("segment", str(gap[0].parent), str(odd), "--output", str(tmp_path / "out"))
        seen.command("decode", str(good[0]), "--series", str(good[0].parent), "--output", str(tmp_path / "x.nii.gz"))
        seen.look()
    assert '"event": "instance stored", "level": "debug"' in seen.said["log"]
    assert seen.leaks() == {}
    assert {"KENNUNG-4711", values["PatientName"].partition("^")[0]} <= set(seen.named_in_the_trail())


@pytest.mark.filterwarnings("ignore:::pydicom")
def test_hard_cases_leave_no_trace_of_their_patient(tmp_path: Path, test_data: Path) -> None:
    series: set[str] = set()
    with watched(tmp_path) as seen:
        folders = sorted(test_data.glob("hard_*"))
        for number, folder in enumerate(folders):
            files = sorted(path for path in folder.rglob("*") if path.is_file())[:MOST_OF_A_FOLDER]
            copies = renamed(files, tmp_path / folder.name, (CONSPICUOUS, NOT_LATIN, OUT_OF_RULE)[number % 3])
            series |= in_batches(seen.node, copies)
        assert len(series) > 5
        paths = [str(tmp_path / folder.name) for folder in folders]
        seen.command("segment", *paths, "--output", str(tmp_path / "out"))
        seen.command("route", *paths)
        seen.node.wait_for_cases(sorted(series), seconds=240)
        seen.command("cases", "list", "--json")
        seen.look()
    assert seen.leaks() == {}
    assert "KENNUNG-4711" in seen.named_in_the_trail()
