"""The audit file: whole lines, for its owner alone, whatever happens to it and to its disk."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.audit.audit_file import AuditFile
from dicom_node.audit.messages import message_of
from dicom_node.errors import StorageFull
from tests.audit.events import EVENTS, PATIENT, SOURCE, recorded
from tests.audit.schema import messages_in
from tests.full_disk import small_disk

ALL = [message_of(recorded(EVENTS[name]), SOURCE, PATIENT) for name in EVENTS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "trail.xml"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_messages_are_lines_in_their_order(path: Path) -> None:
    AuditFile(path).write(ALL[:2])
    AuditFile(path).write(ALL[2:])
    assert path.read_bytes().splitlines() == [message.xml for message in ALL]
    assert len(messages_in(path)) == len(ALL)


def test_only_its_owner_can_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        AuditFile(path).write(ALL[:1])
    finally:
        os.umask(before)
    assert mode(path) == 0o600


def test_a_file_that_others_can_read_is_closed_to_them(path: Path) -> None:
    path.parent.mkdir()
    path.touch(mode=0o644)
    AuditFile(path).write(ALL[:1])
    assert mode(path) == 0o600


def test_a_file_that_was_rotated_away_is_made_anew(path: Path) -> None:
    trail, old = AuditFile(path), path.with_suffix(".1")
    trail.write(ALL[:1])
    path.rename(old)
    trail.write(ALL[1:3])
    assert (len(messages_in(old)), len(messages_in(path)), mode(path)) == (1, 2, 0o600)


def test_half_a_line_of_a_power_cut_takes_no_other_with_it(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"<AuditMessage><Event")
    AuditFile(path).write(ALL[:2])
    assert path.read_bytes().splitlines()[1:] == [message.xml for message in ALL[:2]]


def test_on_a_full_disk_nothing_is_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        trail, filler = AuditFile(disk / "trail.xml"), disk / "filler"
        trail.write(ALL)
        before = (disk / "trail.xml").read_bytes()
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 4096))
        with pytest.raises(StorageFull, match="no room for the audit trail"):
            trail.write(ALL)
        assert (disk / "trail.xml").read_bytes() == before
        filler.unlink()
        trail.write(ALL)
        assert messages_in(disk / "trail.xml")[-1].event == "Security Alert: Use of Restricted Function"


WRITER = """
import sys
from pathlib import Path
from dicom_node.audit.audit_file import AuditFile
from tests.audit.test_audit_file import ALL
for _ in range(50):
    AuditFile(Path(sys.argv[1])).write(ALL)
"""


def test_lines_of_several_processes_do_not_mix(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3 * 50 * len(ALL)
    assert set(lines) == {message.xml for message in ALL}
