"""The listener against dcmtk's senders and against peers that misbehave."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.deliver.sender import send
from dicom_node.errors import SettingsError
from tests.peers import CALLING_AE, Receiver, orthanc, receiver, run_tool, wait_until
from tests.phantoms import PhantomSpec, write
from tests.receive.calling import CT, associate, associations

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
J2K = "1.2.840.10008.1.2.4.91"
STORESCU_OPTIONS = {
    ImplicitVRLittleEndian: "-xi",
    ExplicitVRLittleEndian: "-xe",
    ExplicitVRBigEndian: "-xb",
    DeflatedExplicitVRLittleEndian: "-xd",
    RLELossless: "-xr",
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEG2000Lossless: "-xv",
}


@pytest.mark.peer
def test_c_echo_is_answered(node: Receiver) -> None:
    result = run_tool("echoscu", "-aec", "DICOM_NODE", "127.0.0.1", str(node.listener.port))
    assert result.returncode == 0, result.stdout


@pytest.mark.peer
@pytest.mark.parametrize("syntax", [*STORESCU_OPTIONS, JPEGLossless], ids=lambda uid: uid.keyword)
def test_every_transfer_syntax_is_kept_as_it_was_sent(node: Receiver, tmp_path: Path, syntax: UID) -> None:
    sent = write(PhantomSpec(slices=3, transfer_syntax=syntax), tmp_path / "sent")
    if syntax == JPEGLossless:  # storescu cannot propose it
        result = run_tool("dcmsend", "-dn", "-aec", "DICOM_NODE", "127.0.0.1", str(node.listener.port), *sent)
    else:
        result = node.storescu(STORESCU_OPTIONS[syntax], *sent)
    assert result.returncode == 0, result.stdout
    by_uid = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, sent)}
    kept = [pydicom.dcmread(path) for path in node.spooled]
    assert {dataset.file_meta.TransferSyntaxUID for dataset in kept} == {syntax}
    assert all((made.pixel_array == by_uid[made.SOPInstanceUID].pixel_array).all() for made in kept)
    assert len(kept) == 3


@pytest.mark.peer
@pytest.mark.parametrize(
    "spec",
    [PhantomSpec(modality="MR", slices=3), PhantomSpec(multiframe=True), PhantomSpec(modality="MR", multiframe=True)],
    ids=["MR", "Enhanced CT", "Enhanced MR"],
)
def test_every_image_class_is_taken(node: Receiver, tmp_path: Path, spec: PhantomSpec) -> None:
    sent = write(spec, tmp_path / "sent")
    assert node.storescu(*sent).returncode == 0
    assert len(node.spooled) == len(sent)


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([J2K, JPEG2000Lossless], JPEG2000Lossless),
        ([J2K, JPEG2000Lossless, JPEGLSLossless], JPEGLSLossless),
        ([J2K, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([JPEG2000Lossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([J2K], J2K),
    ],
)
def test_lossless_is_preferred(node: Receiver, proposed: list[str], chosen: str) -> None:
    association = associate(node, (CT, proposed))
    try:
        assert [context.transfer_syntax for context in association.accepted_contexts] == [[chosen]]
    finally:
        association.release()


def test_other_classes_are_not_accepted_unless_set(node: Receiver, tmp_path: Path) -> None:
    wanted = (SECONDARY_CAPTURE, [ExplicitVRLittleEndian])
    association = associate(node, (CT, [ExplicitVRLittleEndian]), wanted)
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    association.release()
    assert accepted == {CT}
    private = "1.2.3.4.5.6.7"
    with receiver(tmp_path / "set", node={"storage_classes": [SECONDARY_CAPTURE, private]}) as with_more:
        association = associate(with_more, wanted, (private, [ExplicitVRLittleEndian]))
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        association.release()
    assert accepted == {SECONDARY_CAPTURE, private}


def test_a_storage_class_that_is_no_uid_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="storage_classes"), receiver(tmp_path, node={"storage_classes": ["CT"]}):
        pass


def rejection(node: Receiver, **titles: str) -> tuple[int, int, int]:
    """Result, source and reason of the A-ASSOCIATE-RJ that an association request is answered with."""
    association = associate(node, (CT, [ExplicitVRLittleEndian]), **titles)
    assert association.is_rejected
    answer = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def test_a_wrong_called_title_is_rejected_with_reason_7(node: Receiver) -> None:
    assert rejection(node, called="OTHER") == (1, 1, 7)


def test_an_unknown_calling_title_is_rejected_with_reason_3(tmp_path: Path) -> None:
    with receiver(tmp_path, peer=[{"ae_title": "SCANNER", "address": "127.0.0.1"}]) as node:
        assert rejection(node, calling="STRANGER") == (1, 1, 3)


def test_a_known_title_from_a_foreign_address_is_rejected(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with receiver(tmp_path, peer=[{"ae_title": "SCANNER", "address": "10.1.0.0/16"}]) as node:
        assert rejection(node, calling="SCANNER") == (1, 1, 3)
    output = capfd.readouterr()
    assert "association rejected" in output.out + output.err


def test_more_associations_than_the_limit_are_rejected_for_now(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiver(tmp_path, limits={"associations": 1}) as node:
        first = associate(node, (CT, [ExplicitVRLittleEndian]))
        try:
            assert rejection(node) == (2, 3, 2)
        finally:
            first.release()
    output = capfd.readouterr()
    assert "Local limit exceeded" in output.out + output.err


@pytest.mark.filterwarnings("ignore:.*for VR UI", "ignore:Invalid value for VR UI")
def test_a_path_instead_of_a_uid_is_refused_over_the_wire(node: Receiver, ct_files: list[Path]) -> None:
    dataset = pydicom.dcmread(ct_files[0])
    dataset.SOPInstanceUID = "../../../evil"
    association = associate(node, (CT, [ExplicitVRLittleEndian]))
    status = association.send_c_store(dataset)
    association.release()
    assert status.Status == 0x0117
    assert "not a UID" in status.ErrorComment
    assert node.spooled == []


def test_an_error_while_deciding_lets_nobody_in(node: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_facts: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr("dicom_node.receive.listener.admit", broken)
    assert rejection(node) == (1, 1, 3)


def test_an_error_while_storing_is_answered_and_logged(
    node: Receiver, ct_files: list[Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(node.listener._reception, "store", broken)
    association = associate(node, (CT, [ExplicitVRLittleEndian]))
    assert association.send_c_store(pydicom.dcmread(ct_files[0])).Status == 0x0110
    association.release()
    output = capfd.readouterr()
    assert "a bug of ours" in output.out + output.err


@pytest.mark.peer
def test_a_series_sent_twice_is_on_record_once(node: Receiver, ct_files: list[Path]) -> None:
    assert [node.storescu(*ct_files).returncode for _ in range(2)] == [0, 0]
    assert len(node.spooled) == len(ct_files)
    assert len(node.intake.instances_of(pydicom.dcmread(ct_files[0]).SeriesInstanceUID)) == len(ct_files)


@pytest.mark.peer
def test_a_different_object_under_a_known_uid_is_told_to_the_sender(
    node: Receiver, ct_files: list[Path], tmp_path: Path
) -> None:
    node.storescu(ct_files[0])
    other = pydicom.dcmread(ct_files[0])
    other.ImageComments = "another"
    other.save_as(tmp_path / "other.dcm")
    result = node.storescu("-d", tmp_path / "other.dcm")
    assert "0x0111" in result.stdout
    assert "another object with this SOP Instance UID" in result.stdout


@pytest.mark.peer
def test_an_association_is_on_record_from_its_first_instance_to_its_end(node: Receiver, ct_files: list[Path]) -> None:
    node.storescu(*ct_files, calling_ae="SCANNER")
    assert wait_until(lambda: [row.closed_at is not None for row in associations(node)] == [True])
    row = associations(node)[0]
    assert (row.calling_ae, row.address) == ("SCANNER", "127.0.0.1")
    assert row.opened_at <= row.closed_at


@pytest.mark.peer
def test_an_echo_leaves_no_trace_in_the_ledger(node: Receiver) -> None:
    run_tool("echoscu", "-aec", "DICOM_NODE", "127.0.0.1", str(node.listener.port))
    assert associations(node) == []


@pytest.mark.peer
def test_orthanc_sends_a_series_over(node: Receiver, ct_files: list[Path], tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as peer:
        assert all(outcome.ok for outcome in send(peer.destination, ct_files, CALLING_AE))
        modality = {"AET": CALLING_AE, "Host": "127.0.0.1", "Port": node.listener.port}
        peer.rest("PUT", "/modalities/node", modality)
        peer.rest("POST", "/modalities/node/store", peer.rest("GET", "/series"))
    pixels = {read.SOPInstanceUID: read.PixelData for read in map(pydicom.dcmread, node.spooled)}
    assert pixels == {read.SOPInstanceUID: read.PixelData for read in map(pydicom.dcmread, ct_files)}
