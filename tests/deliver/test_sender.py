from __future__ import annotations

import socket
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.deliver.echo import RESULT_CLASSES, echo
from dicom_node.deliver.sender import send
from dicom_node.errors import DeliveryFailed, DeliveryRefused
from dicom_node.uids import LABEL_MAP_SEGMENTATION
from tests.deliver.scripted_peer import ABORT, CT, HANG, scripted_peer
from tests.peers import CALLING_AE, NOBODY_LISTENS, Peer, destination, storescp
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def data_set_of(path: Path) -> bytes:
    """The encoded data set of a PS3.10 file, without its file meta."""
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    return path.read_bytes()[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]


@pytest.mark.peer
def test_what_arrives_is_byte_for_byte_what_was_verified(tmp_path: Path, objects: list[Path]) -> None:
    with storescp(tmp_path, "+B") as peer:  # +B: written exactly as read
        outcomes = send(peer.destination, objects, CALLING_AE)
        arrived = {uid_of(path): data_set_of(path) for path in peer.folder.iterdir()}
    assert [outcome.ok for outcome in outcomes] == [True] * len(objects)
    assert arrived == {uid_of(path): data_set_of(path) for path in objects}


@pytest.mark.peer
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
def test_compressed_objects_leave_as_they_are_stored(tmp_path: Path, syntax: str) -> None:
    files = write(PhantomSpec(slices=3, transfer_syntax=syntax), tmp_path / "files")
    with storescp(tmp_path / "peer", "+xa", "+B") as peer:
        assert all(outcome.ok for outcome in send(peer.destination, files, CALLING_AE))
        arrived = [pydicom.dcmread(path, force=True) for path in peer.folder.iterdir()]
    assert {dataset.file_meta.TransferSyntaxUID for dataset in arrived} == {syntax}


@pytest.mark.peer
def test_orthanc_stores_and_outcomes_come_in_order(orthanc_peer: Peer, objects: list[Path]) -> None:
    outcomes = send(orthanc_peer.destination, objects, CALLING_AE)
    assert [outcome.sop_instance_uid for outcome in outcomes] == [uid_of(path) for path in objects]
    assert {outcome.status for outcome in outcomes} == {0}


def test_a_peer_with_implicit_vr_alone_gets_the_same_object(objects: list[Path]) -> None:
    with scripted_peer(syntaxes=[ImplicitVRLittleEndian]) as peer:
        assert all(outcome.ok for outcome in send(peer.destination, objects, CALLING_AE))
        assert peer.received == [uid_of(path) for path in objects]


def test_a_class_the_peer_does_not_take_is_refused_for_good(objects: list[Path]) -> None:
    with scripted_peer(sop_classes=["1.2.840.10008.5.1.4.1.1.4"]) as peer:
        outcomes = send(peer.destination, objects, CALLING_AE)
    assert [(outcome.ok, outcome.retryable) for outcome in outcomes] == [(False, False)] * len(objects)
    assert "does not accept CT Image Storage" in outcomes[0].message


@pytest.mark.parametrize(
    ("status", "ok", "warning", "retryable"),
    [
        (0x0000, True, False, False),
        (0xB000, True, True, False),
        (0xB007, True, True, False),
        (0x0107, True, True, False),
        (0xA700, False, False, True),
        (0x0110, False, False, True),
        (0x0111, False, False, True),
        (0xA900, False, False, False),
        (0xC000, False, False, False),
        (0x0122, False, False, False),
        (0x0124, False, False, False),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) and not isinstance(value, bool) else "",
)
def test_each_status_means_what_the_standard_says(
    objects: list[Path], status: int, ok: bool, warning: bool, retryable: bool
) -> None:
    with scripted_peer() as peer:
        peer.statuses = [status]
        outcome = send(peer.destination, objects[:1], CALLING_AE)[0]
    assert (outcome.status, outcome.ok, outcome.warning, outcome.retryable) == (status, ok, warning, retryable)


def test_a_refused_instance_does_not_stop_the_others(objects: list[Path]) -> None:
    with scripted_peer() as peer:
        peer.statuses = [0, 0xC000, 0]
        outcomes = send(peer.destination, objects, CALLING_AE)
    assert [outcome.ok for outcome in outcomes] == [True, False, True]


def test_a_broken_association_keeps_what_was_answered(objects: list[Path]) -> None:
    with scripted_peer() as peer:
        peer.statuses = [0, ABORT]
        outcomes = send(peer.destination, objects, CALLING_AE)
    assert [(outcome.ok, outcome.retryable) for outcome in outcomes] == [(True, False), (False, True), (False, True)]
    assert outcomes[2].status is None


def test_a_silent_peer_is_given_up_after_the_timeout(objects: list[Path]) -> None:
    with scripted_peer(timeout_seconds=1.0) as peer:
        peer.statuses = [HANG]
        began = time.monotonic()
        outcomes = send(peer.destination, objects, CALLING_AE)
        assert time.monotonic() - began < 5
    assert all(outcome.retryable for outcome in outcomes)


@NOBODY_LISTENS
def test_nobody_listening_can_be_tried_again(objects: list[Path]) -> None:
    with pytest.raises(DeliveryFailed, match="cannot be reached") as caught:
        send(destination("gone", "GONE", free_port()), objects, CALLING_AE)
    assert caught.value.retryable


def test_a_port_that_never_answers_can_be_tried_again(objects: list[Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = destination("mute", "MUTE", mute.getsockname()[1], timeout_seconds=1.0)
        with pytest.raises(DeliveryFailed, match="did not answer the association request") as caught:
            send(where, objects, CALLING_AE)
    assert caught.value.retryable


@pytest.mark.peer
def test_an_unknown_called_title_is_refused_for_good(orthanc_peer: Peer, objects: list[Path]) -> None:
    wrong = orthanc_peer.destination.model_copy(update={"ae_title": "WRONG"})
    with pytest.raises(DeliveryRefused, match="rejected the association") as caught:
        send(wrong, objects, CALLING_AE)
    assert not caught.value.retryable


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.dcm").write_text("not DICOM")
    with pytest.raises(DeliveryRefused, match=r"note\.dcm"):
        send(destination("any", "ANY", 1), [tmp_path / "note.dcm"], CALLING_AE)


@pytest.mark.peer
def test_echo_tells_what_orthanc_takes(orthanc_peer: Peer) -> None:
    report = echo(orthanc_peer.destination, CALLING_AE)
    assert report.reachable
    assert (report.confirms, report.commits) == (True, True)
    assert all(
        report.accepted[uid] for uid in RESULT_CLASSES if uid != LABEL_MAP_SEGMENTATION
    )  # newer than Orthanc 1.10


def test_echo_tells_what_a_narrow_peer_does_not_take() -> None:
    with scripted_peer(sop_classes=[CT, RESULT_CLASSES[0]], find=False) as peer:
        report = echo(peer.destination, CALLING_AE)
    assert report.reachable
    assert (report.confirms, report.commits) == (False, False)
    assert report.accepted == {sop_class: sop_class == RESULT_CLASSES[0] for sop_class in RESULT_CLASSES}


@NOBODY_LISTENS
def test_echo_says_why_nobody_answers() -> None:
    report = echo(destination("gone", "GONE", free_port()), CALLING_AE)
    assert not report.reachable
    assert "cannot be reached" in report.reason
