"""What each peer may store, how much of it, and over how many associations."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.errors import SettingsError
from dicom_node.receive.storing import Arrival
from dicom_node.settings import PeerTable
from dicom_node.uids import IMAGE_CLASSES
from tests.peers import Receiver, receiver, run_tool
from tests.phantoms import PhantomSpec, write
from tests.receive.calling import CT, associate
from tests.receive.desk import SENDER, Desk

MR = IMAGE_CLASSES[1]
SYNTAXES = [ExplicitVRLittleEndian]
HERE = {"address": "127.0.0.1"}


def rejection(node: Receiver, calling: str) -> tuple[int, int, int]:
    """Result, source and reason of an A-ASSOCIATE-RJ."""
    association = associate(node, (CT, SYNTAXES), calling=calling)
    assert association.is_rejected
    answer = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def accepted(node: Receiver, calling: str) -> set[str]:
    association = associate(node, (CT, SYNTAXES), (MR, SYNTAXES), ("1.2.840.10008.1.1", SYNTAXES), calling=calling)
    try:
        return {context.abstract_syntax for context in association.accepted_contexts}
    finally:
        association.release()


def test_contexts_for_other_classes_are_rejected_for_this_peer(tmp_path: Path) -> None:
    peers = [{"ae_title": "CT1", "storage_classes": [CT], **HERE}, {"ae_title": "ANY", **HERE}]
    with receiver(tmp_path, peer=peers) as node:
        assert accepted(node, "CT1") == {CT, "1.2.840.10008.1.1"}
        assert accepted(node, "ANY") == {CT, MR, "1.2.840.10008.1.1"}


@pytest.mark.peer
def test_a_peer_stores_its_own_class_and_no_other(tmp_path: Path, ct_files: list[Path]) -> None:
    mr_files = write(PhantomSpec(modality="MR", slices=2), tmp_path / "mr")
    with receiver(tmp_path / "home", peer=[{"ae_title": "CT1", "storage_classes": [CT], **HERE}]) as node:
        assert node.storescu(*mr_files, calling_ae="CT1").returncode != 0
        assert node.spooled == []
        assert node.storescu(*ct_files, calling_ae="CT1").returncode == 0
        assert len(node.spooled) == len(ct_files)


def test_the_class_is_looked_at_again_when_an_instance_comes(desk: Desk, arrival: Arrival) -> None:
    peer = PeerTable(ae_title="MR1", address="10.0.0.0/8", storage_classes=(MR,))
    answer = desk.reception.store(arrival, lambda: SENDER, peer)
    assert answer.status == 0x0124
    assert desk.files == []
    assert desk.reception.store(arrival, lambda: SENDER, replace_classes(peer, (MR, CT))).status == 0


def replace_classes(peer: PeerTable, classes: tuple[str, ...]) -> PeerTable:
    return peer.model_copy(update={"storage_classes": classes})


def test_a_class_that_the_node_does_not_accept_is_a_settings_error(tmp_path: Path) -> None:
    peers = [{"ae_title": "A", "storage_classes": ["1.2.3"], **HERE}]
    with pytest.raises(SettingsError, match="not accepted by this node"), receiver(tmp_path, peer=peers):
        pass


def test_associations_of_one_peer_are_limited(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    peers = [{"ae_title": "CT1", "associations": 1, **HERE}, {"ae_title": "CT2", **HERE}]
    with receiver(tmp_path, peer=peers) as node:
        first = associate(node, (CT, SYNTAXES), calling="CT1")
        assert rejection(node, "CT1") == (2, 3, 2)
        other = associate(node, (CT, SYNTAXES), calling="CT2")
        assert other.is_established
        other.release()
        first.release()
        again = associate(node, (CT, SYNTAXES), calling="CT1")
        assert again.is_established
        again.abort()
        assert associate(node, (CT, SYNTAXES), calling="CT1").is_established
    output = capfd.readouterr()
    assert '1 associations of peer "CT1" are open' in output.out + output.err


@pytest.mark.peer
def test_a_peer_above_its_quota_is_told_to_come_later(tmp_path: Path, ct_files: list[Path]) -> None:
    room = 2 * (ct_files[0].stat().st_size + 400)
    peers = [{"ae_title": "CT1", "spool_bytes": room, **HERE}, {"ae_title": "CT2", **HERE}]
    more = write(PhantomSpec(slices=3), tmp_path / "more")
    with receiver(tmp_path / "home", peer=peers) as node:
        result = node.storescu("-d", *ct_files, calling_ae="CT1")
        assert "0xa700" in result.stdout
        assert len(node.spooled) == 2
        assert node.storescu(*more, calling_ae="CT2").returncode == 0
        assert len(node.spooled) == 2 + len(more)


@pytest.mark.peer
def test_without_any_room_an_association_is_rejected_before_anything_is_sent(
    tmp_path: Path, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with receiver(tmp_path, limits={"free_bytes": 1 << 60}) as node:
        assert rejection(node, "ANY") == (2, 3, 1)
        echo = run_tool("echoscu", "-aec", "DICOM_NODE", "127.0.0.1", str(node.listener.port))
        assert echo.returncode == 0
        result = node.storescu(ct_files[0])
        assert "Temporary Congestion" in result.stdout
    output = capfd.readouterr()
    assert "disk nearly full" in output.out + output.err


@pytest.mark.peer
def test_above_the_mark_a_series_goes_on_and_a_new_one_waits(tmp_path: Path, ct_files: list[Path]) -> None:
    limits = {"spool_bytes": 100 * ct_files[0].stat().st_size, "high_watermark": 0.02, "low_watermark": 0.01}
    more = write(PhantomSpec(slices=3), tmp_path / "more")
    assert pydicom.dcmread(more[0]).SeriesInstanceUID != pydicom.dcmread(ct_files[0]).SeriesInstanceUID
    with receiver(tmp_path / "home", limits=limits) as node:
        assert node.storescu(*ct_files).returncode == 0
        assert "only series that have begun" in node.storescu("-d", *more).stdout
        assert len(node.spooled) == len(ct_files)
