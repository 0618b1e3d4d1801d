"""Instances that come by STOW-RS are stored, recorded and answered for one by one."""

from __future__ import annotations

import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.ledger.counters import RECEIVED, REFUSED, Counters
from dicom_node.ledger.database import open_database
from dicom_node.receive.storing import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH_SOP_CLASS,
    DUPLICATE_SOP_INSTANCE,
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    Answer,
    Reception,
)
from tests.peers import Receiver, wait_until
from tests.receive.calling import associations
from tests.receive.desk import arrival_of
from tests.receive.dicomweb.calling import (
    AUTHORISED,
    FAILED,
    MULTIPART,
    OTHERS,
    PATH,
    REFERENCED,
    answer_of,
    body_of,
    instances,
    reasons,
    request,
    web_peer,
    web_receiver,
)


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def edited(path: Path, tmp_path: Path, **elements: object) -> bytes:
    dataset = pydicom.dcmread(path)
    target, meta = tmp_path / "edited.dcm", elements.pop("meta", {})
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(target)
    content = target.read_bytes()
    for old, new in meta.items():  # type: ignore[attr-defined]
        content = content.replace(old, new, 1)
    return content


@pytest.mark.parametrize("is_chunked", [False, True])
def test_every_part_is_stored_with_its_data_set_unchanged(
    web: Receiver, ct_files: list[Path], is_chunked: bool
) -> None:
    body = body_of(path.read_bytes() for path in ct_files)
    pieces = (body[at : at + 1013] for at in range(0, len(body), 1013))
    answer = request(web.listener.dicomweb_port, pieces if is_chunked else body)
    assert answer.status == 200
    assert instances(answer.document, REFERENCED) == [uid_of(path) for path in ct_files]
    assert {arrival_of(path).encoded for path in web.spooled} == {arrival_of(path).encoded for path in ct_files}


def test_a_stored_instance_is_on_record_under_the_title_of_its_peer(web: Receiver, ct_files: list[Path]) -> None:
    request(web.listener.dicomweb_port, body_of([ct_files[0].read_bytes()]))
    record = web.intake.find(uid_of(ct_files[0]))
    (association,) = associations(web)
    assert record is not None
    assert (record.association_id, association.calling_ae) == (association.id, "WEB")


def test_the_series_is_quiet_once_its_request_has_ended(web: Receiver, ct_files: list[Path]) -> None:
    request(web.listener.dicomweb_port, body_of([ct_files[0].read_bytes()]))
    assert wait_until(lambda: web.intake.quiet_series(1e12, 20.0))
    assert web.intake.quiet_series(1e12, 20.0)[0].calling_ae == "WEB"


def test_what_is_on_record_already_is_stored_again_without_a_trace(web: Receiver, ct_files: list[Path]) -> None:
    body = body_of([ct_files[0].read_bytes()])
    first, second = (request(web.listener.dicomweb_port, body) for _ in range(2))
    assert (first.status, second.status, len(web.spooled)) == (200, 200, 1)


def test_another_object_of_the_same_uid_is_refused(web: Receiver, ct_files: list[Path], tmp_path: Path) -> None:
    other = edited(ct_files[0], tmp_path, PatientID="ANOTHER")
    answer = request(web.listener.dicomweb_port, body_of([ct_files[0].read_bytes(), other]))
    assert answer.status == 202
    assert reasons(answer.document, FAILED) == [DUPLICATE_SOP_INSTANCE]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"meta": {b"1.2.840.10008.5.1.4.1.1.2\0": b"1.2.840.10008.5.1.4.1.1.7\0"}}, SOP_CLASS_NOT_SUPPORTED),
        ({"meta": {b"1.2.840.10008.1.2.1\0": b"1.2.840.10008.1.2.3\0"}}, 0xC122),
        ({"meta": {b"1.2.840.10008.5.1.4.1.1.2\0": b"1.2.840.10008.5.1.4.1.1.4\0"}}, DOES_NOT_MATCH_SOP_CLASS),
        ({"StudyInstanceUID": ""}, CANNOT_UNDERSTAND),
    ],
)
def test_an_instance_that_is_not_taken_is_named_with_the_reason(
    web: Receiver, ct_files: list[Path], tmp_path: Path, change: dict[str, object], reason: int
) -> None:
    answer = request(web.listener.dicomweb_port, body_of([edited(ct_files[0], tmp_path, **change)]))
    assert answer.status == 409
    assert reasons(answer.document, FAILED) == [reason]
    assert web.spooled == []


def test_parts_that_are_refused_are_counted_by_status_like_refused_c_stores(
    ct_files: list[Path], tmp_path: Path
) -> None:
    image = ct_files[0].read_bytes()
    foreign_class = image.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.7\0", 1)
    foreign_syntax = image.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.3\0", 1)
    with web_receiver(tmp_path) as node:
        request(node.listener.dicomweb_port, body_of([b"text", foreign_class, foreign_syntax]))
    counted = Counters(open_database(node.settings.database_url)).counts()[REFUSED]
    assert counted == {f"{CANNOT_UNDERSTAND:04X}": 1, f"{SOP_CLASS_NOT_SUPPORTED:04X}": 1, "C122": 1}


def test_an_instance_of_another_study_than_the_path_names_is_refused(web: Receiver, ct_files: list[Path]) -> None:
    study = str(pydicom.dcmread(ct_files[0]).StudyInstanceUID)
    body = body_of([ct_files[0].read_bytes()])
    refused = request(web.listener.dicomweb_port, body, path=f"{PATH}/1.2.3")
    stored = request(web.listener.dicomweb_port, body, path=f"{PATH}/{study}")
    assert reasons(refused.document, FAILED) == [DOES_NOT_MATCH_SOP_CLASS]
    assert stored.status == 200


@pytest.mark.parametrize("content", [b"", b"text", bytes(128) + b"DICM", bytes(200_000)])
def test_a_part_that_is_no_dicom_file_fails_beside_one_that_is(
    web: Receiver, ct_files: list[Path], content: bytes
) -> None:
    answer = request(web.listener.dicomweb_port, body_of([content, ct_files[0].read_bytes()]))
    assert answer.status == 202
    assert reasons(answer.document, OTHERS) == [CANNOT_UNDERSTAND]
    assert instances(answer.document, REFERENCED) == [uid_of(ct_files[0])]


def test_a_part_of_another_media_type_fails(web: Receiver, ct_files: list[Path]) -> None:
    answer = request(web.listener.dicomweb_port, body_of([ct_files[0].read_bytes()], "image/png"))
    assert (answer.status, reasons(answer.document, OTHERS)) == (409, [CANNOT_UNDERSTAND])


def test_a_peer_may_store_its_own_classes_alone(tmp_path: Path, ct_files: list[Path]) -> None:
    peer = web_peer(tmp_path, storage_classes=["1.2.840.10008.5.1.4.1.1.4"])
    with web_receiver(tmp_path, peer=[peer]) as node:
        answer = request(node.listener.dicomweb_port, body_of([ct_files[0].read_bytes()]))
    assert reasons(answer.document, FAILED) == [NOT_AUTHORISED]


def test_what_a_quota_has_no_room_for_is_out_of_resources(tmp_path: Path, ct_files: list[Path]) -> None:
    size = len(ct_files[0].read_bytes())
    with web_receiver(tmp_path, limits={"spool_bytes": 2 * size, "high_watermark": 1.0}) as node:
        answer = request(node.listener.dicomweb_port, body_of(path.read_bytes() for path in ct_files))
    assert answer.status == 202
    assert set(reasons(answer.document, FAILED)) == {OUT_OF_RESOURCES}


def test_a_full_disk_asks_to_come_again(tmp_path: Path, ct_files: list[Path]) -> None:
    with web_receiver(tmp_path, limits={"free_bytes": 2**60}) as node:
        answer = request(node.listener.dicomweb_port, body_of([ct_files[0].read_bytes()]))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")


def test_one_request_more_than_the_limit_is_asked_to_come_again(tmp_path: Path, ct_files: list[Path]) -> None:
    with web_receiver(tmp_path, limits={"associations": 1}) as node:
        first = HTTPConnection("127.0.0.1", node.listener.dicomweb_port, timeout=20)
        body = body_of([ct_files[0].read_bytes()])
        first.putrequest("POST", PATH)
        for name, value in {**AUTHORISED, "Content-Type": MULTIPART, "Content-Length": str(len(body))}.items():
            first.putheader(name, value)
        first.endheaders()
        assert wait_until(lambda: request(node.listener.dicomweb_port, body).status == 503)
        first.send(body)
        assert answer_of(first).status == 200
        first.close()


def test_a_connection_takes_several_requests(web: Receiver, ct_files: list[Path]) -> None:
    connection = HTTPConnection("127.0.0.1", web.listener.dicomweb_port, timeout=20)
    statuses = []
    for path in ct_files[:3]:
        connection.request("POST", PATH, body_of([path.read_bytes()]), {**AUTHORISED, "Content-Type": MULTIPART})
        statuses.append(answer_of(connection).status)
    connection.close()
    assert (statuses, len(web.spooled)) == ([200, 200, 200], 3)


def test_instances_are_counted_with_those_of_dimse(web: Receiver, ct_files: list[Path]) -> None:
    request(web.listener.dicomweb_port, body_of([ct_files[0].read_bytes()]))
    web.listener.stop()
    counts = Counters(open_database(web.settings.database_url)).counts()
    assert counts[RECEIVED]["WEB"] == 1


def test_what_was_stored_as_the_node_stops_is_answered(
    monkeypatch: pytest.MonkeyPatch, web: Receiver, ct_files: list[Path]
) -> None:
    begun, store = threading.Event(), Reception.store

    def slow(*arguments: Any) -> Answer:
        begun.set()
        time.sleep(0.8)
        return store(*arguments)

    monkeypatch.setattr(Reception, "store", slow)
    stopper = threading.Thread(target=lambda: begun.wait() and web.listener.stop(grace_seconds=0.0))
    stopper.start()
    answer = request(web.listener.dicomweb_port, body_of([ct_files[0].read_bytes()]))
    stopper.join()
    assert instances(answer.document, REFERENCED) == [uid_of(ct_files[0])]
