from __future__ import annotations

import errno
import hashlib
import os
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info

from dicom_node.errors import ImageGone
from dicom_node.ledger import database
from dicom_node.ledger.intake import Instance
from dicom_node.receive.identity import read_identity
from dicom_node.receive.spool import spool_file
from dicom_node.receive.storing import Answer, Arrival
from dicom_node.settings import LimitsTable, parse_settings
from tests import postgres
from tests.receive.desk import SENDER, Desk, arrival_of, changed


def test_success_means_the_recorded_file_is_there(desk: Desk, arrival: Arrival) -> None:
    assert desk.take(arrival) == Answer(0)
    record = desk.intake.find(arrival.sop_instance_uid)
    assert record is not None
    content = Path(record.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == record.sha256
    assert len(content) == record.size


def test_a_file_that_was_written_again_and_is_not_on_record_does_not_stay(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, arrival: Arrival
) -> None:
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"
    errors = iter([ImageGone("removed meanwhile"), sa.exc.OperationalError(None, None, busy)])

    def fails(_: Instance) -> bool:
        raise next(errors)

    monkeypatch.setattr(desk.reception._recorder, "record", fails)
    assert desk.take(arrival).status == 0xA700
    assert desk.files == []


def test_the_data_set_is_kept_byte_for_byte(desk: Desk, arrival: Arrival) -> None:
    desk.take(arrival)
    assert desk.files[0].read_bytes().endswith(arrival.encoded)


def test_the_file_meta_names_the_sender_and_the_syntax(desk: Desk, arrival: Arrival) -> None:
    desk.take(arrival)
    meta = pydicom.dcmread(desk.files[0]).file_meta
    assert meta.SourceApplicationEntityTitle == "SCANNER"
    assert meta.TransferSyntaxUID == arrival.transfer_syntax_uid
    assert meta.MediaStorageSOPInstanceUID == arrival.sop_instance_uid


@pytest.mark.parametrize("calling_ae", ["SCANNER", "CT1", ""])
def test_the_file_meta_is_what_pydicom_writes(arrival: Arrival, calling_ae: str) -> None:
    identity = read_identity(arrival.encoded, arrival.transfer_syntax_uid)
    head = spool_file(identity, arrival.transfer_syntax_uid, calling_ae, arrival.encoded).head
    meta = pydicom.dcmread(DicomBytesIO(head)).file_meta
    again = DicomBytesIO()
    write_file_meta_info(again, meta)
    assert head[132:] == again.getvalue()


def test_the_same_bytes_twice_are_recorded_once(desk: Desk, arrival: Arrival) -> None:
    assert [desk.take(arrival).status for _ in range(2)] == [0, 0]
    assert len(desk.files) == 1
    assert desk.intake.spool_bytes() == desk.files[0].stat().st_size


def test_the_same_object_from_another_sender_is_recorded_once(desk: Desk, arrival: Arrival) -> None:
    desk.take(arrival)
    kept = desk.files[0].read_bytes()
    other = replace(SENDER, calling_ae="OTHER")
    assert desk.reception.store(arrival, lambda: other).status == 0
    assert desk.files[0].read_bytes() == kept


def test_a_file_that_was_lost_is_written_again(desk: Desk, arrival: Arrival) -> None:
    desk.take(arrival)
    content = desk.files[0].read_bytes()
    desk.files[0].unlink()
    assert desk.take(arrival).status == 0
    assert desk.files[0].read_bytes() == content


def test_a_file_without_a_record_is_taken_over(desk: Desk, arrival: Arrival, engine: sa.Engine) -> None:
    """As after a crash between the file and the record."""
    desk.take(arrival)
    with engine.begin() as connection:
        connection.execute(sa.delete(database.instances))
        connection.execute(sa.delete(database.series))
    assert desk.take(arrival).status == 0
    assert desk.intake.find(arrival.sop_instance_uid) is not None


def test_eight_senders_of_one_uid_leave_one_true_record(desk: Desk, arrival: Arrival, tmp_path: Path) -> None:
    variants = [
        changed(
            arrival, tmp_path / str(number), lambda made, number=number: setattr(made, "ImageComments", str(number))
        )
        for number in range(8)
    ]
    answers: list[int] = []
    threads = [threading.Thread(target=lambda one=one: answers.append(desk.take(one).status)) for one in variants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = desk.intake.find(arrival.sop_instance_uid)
    assert record is not None
    assert hashlib.sha256(Path(record.path).read_bytes()).hexdigest() == record.sha256
    assert sorted(answers) == [0] + [0x0111] * 7


@pytest.mark.parametrize("uid", ["../../evil", "1.2/3", "..", "", "1" * 65, "1.2.\n"])
def test_a_uid_that_is_none_is_refused_before_any_file_is_touched(desk: Desk, arrival: Arrival, uid: str) -> None:
    assert desk.take(replace(arrival, sop_instance_uid=uid)).status == 0x0117
    assert desk.files == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_path_in_the_data_sets_uids_is_refused(desk: Desk, arrival: Arrival, tmp_path: Path, keyword: str) -> None:
    answer = desk.take(changed(arrival, tmp_path, lambda made: setattr(made, keyword, "../../../evil")))
    assert answer.status == 0xC000
    assert keyword in answer.comment
    assert desk.files == []


def test_another_sop_instance_than_the_command_says_is_a900(desk: Desk, arrival: Arrival) -> None:
    assert desk.take(replace(arrival, sop_instance_uid="1.2.3")).status == 0xA900


def test_another_sop_class_than_the_data_set_is_a900(desk: Desk, arrival: Arrival) -> None:
    mr = "1.2.840.10008.5.1.4.1.1.4"
    assert desk.take(replace(arrival, sop_class_uid=mr, abstract_syntax=mr)).status == 0xA900


def test_a_class_that_was_not_negotiated_is_refused(desk: Desk, arrival: Arrival) -> None:
    assert desk.take(replace(arrival, sop_class_uid="1.2.840.10008.5.1.4.1.1.7")).status == 0x0122


def test_garbage_instead_of_a_data_set_is_c000(desk: Desk, arrival: Arrival) -> None:
    assert desk.take(replace(arrival, encoded=b"garbage" * 20)).status == 0xC000


def test_the_quota_answers_a700_and_keeps_what_is_there(
    tmp_path: Path, engine: sa.Engine, ct_files: list[Path]
) -> None:
    arrivals = [arrival_of(path) for path in ct_files]
    two = 2 * (len(arrivals[0].encoded) + 600)
    desk = Desk(tmp_path, engine, LimitsTable(spool_bytes=two, free_bytes=0))
    assert [desk.take(one).status for one in arrivals[:4]] == [0, 0, 0xA700, 0xA700]
    assert len(desk.files) == 2


def test_room_that_is_made_is_used_at_once(tmp_path: Path, engine: sa.Engine, ct_files: list[Path]) -> None:
    free = [10]
    desk = Desk(tmp_path, engine, LimitsTable(free_bytes=1000), free_bytes=lambda: free[0])
    arrival = arrival_of(ct_files[0])
    assert desk.take(arrival).status == 0xA700
    free[0] = 10**9
    assert desk.take(arrival).status == 0


def test_a_locked_database_answers_a700_and_the_instance_can_be_sent_again(
    desk: Desk, arrival: Arrival, engine: sa.Engine
) -> None:
    on_sqlite = engine.dialect.name == "sqlite"  # where whoever begins to write holds the lock
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT 1" if on_sqlite else "LOCK TABLE instances"))
        assert desk.take(arrival).status == 0xA700
    assert desk.files == [] or not on_sqlite  # elsewhere another listener may be storing the same file
    assert desk.take(arrival).status == 0


@pytest.mark.peer
def test_a_database_server_that_is_away_answers_a700_until_it_is_back(
    tmp_path: Path, postgresql: postgres.Cluster, arrival: Arrival
) -> None:
    setting = postgresql.emptied_database()
    url = parse_settings({"node": {"database": setting}}, origin="test").database_url
    desk = Desk(tmp_path, database.open_database(url))
    assert desk.take(arrival).status == 0
    postgresql.stop(signal.SIGQUIT)
    assert desk.take(arrival).status == 0xA700
    postgresql.start()
    assert desk.take(arrival).status == 0
    desk.engine.dispose()


def test_a_corrupt_database_answers_a700(tmp_path: Path, arrival: Arrival, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = database.open_database(f"sqlite:///{tmp_path / 'broken.sqlite'}")
    desk = Desk(tmp_path, engine)
    engine.dispose()
    for path in tmp_path.glob("broken.sqlite*"):
        path.write_bytes(b"this is no database" * 500)
    assert desk.take(arrival).status == 0xA700
    engine.dispose()


def test_a_read_only_spool_answers_a700(desk: Desk, arrival: Arrival, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(desk.spool, "write", fail)
    assert desk.take(arrival).status == 0xA700
    assert desk.intake.find(arrival.sop_instance_uid) is None


def test_a_disk_that_cannot_sync_answers_a700_and_records_nothing(
    desk: Desk, arrival: Arrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dicom_node.durable_file.os.fsync", fail)
    assert desk.take(arrival).status == 0xA700
    assert desk.intake.find(arrival.sop_instance_uid) is None


def test_the_record_is_made_only_after_file_and_name_are_synced(
    desk: Desk, arrival: Arrival, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, record = os.fsync, desk.intake.record_all

    def noted_sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def noted_record(instances: Sequence[Instance], is_in_place: Callable[[Instance], bool]) -> list[bool | None]:
        steps.append("record")
        return record(instances, is_in_place)

    monkeypatch.setattr("dicom_node.durable_file.os.fsync", noted_sync)
    monkeypatch.setattr(desk.intake, "record_all", noted_record)
    assert desk.take(arrival).status == 0
    assert steps[-3:] == ["file", "folder", "record"]
