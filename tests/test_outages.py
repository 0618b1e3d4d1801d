"""What is waited for: a full disk and an absent server; never what refuses us or is wrong."""

from __future__ import annotations

import shutil
import sqlite3
from itertools import islice
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import SegmentationFailed, StorageFull
from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.outages import LONGEST_PAUSE_SECONDS, outage_of, pauses
from tests.full_disk import small_disk
from tests.ledger.test_cases import CASE


def of_sqlite(name: str) -> sa.exc.DBAPIError:
    cause = sqlite3.OperationalError("said by SQLite")
    cause.sqlite_errorname = name
    return sa.exc.OperationalError("UPDATE", {}, cause)


def count_starts(cases: Cases) -> None:
    """Until the write-ahead log has to grow."""
    for _ in range(100):
        cases.count_start(CASE.case_id, "segment")


@pytest.mark.parametrize(
    "name", ["SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_FSYNC", "SQLITE_CANTOPEN"]
)
def test_what_sqlite_says_of_a_full_disk_is_an_outage(name: str) -> None:
    assert "room" in str(outage_of(of_sqlite(name)))


@pytest.mark.parametrize(
    "error",
    [of_sqlite("SQLITE_CORRUPT"), of_sqlite("SQLITE_CONSTRAINT"), of_sqlite("SQLITE_IOERR_CORRUPTFS"), ValueError("x"),
     SegmentationFailed("the process died")],
    ids=str,
)  # fmt: skip
def test_what_waiting_does_not_mend_is_none(error: Exception) -> None:
    assert outage_of(error) is None


def test_a_file_without_room_is_an_outage_in_its_own_words() -> None:
    assert outage_of(StorageFull("no room to write labels.npy")) == "no room to write labels.npy"


def test_a_ledger_on_a_full_disk_says_so_and_goes_on_with_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        engine = open_database(f"sqlite:///{disk}/node.sqlite")
        cases = Cases(engine)
        cases.open(CASE)
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free))
        with pytest.raises(sa.exc.OperationalError) as caught:
            count_starts(cases)
        assert outage_of(caught.value) == "there is no room on the disk of the database"
        (disk / "ballast").unlink()
        assert cases.count_start(CASE.case_id, "segment") >= 1
        engine.dispose()


def test_pauses_grow_and_end_at_the_longest() -> None:
    waits = list(islice(pauses(), 30))
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_PAUSE_SECONDS
