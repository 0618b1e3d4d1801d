"""A label map segmentation goes only to a peer that accepts it; any other gets the binary one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.deliver.delivery import deliver_once
from dicom_node.deliver.echo import echo
from dicom_node.ledger.deliveries import Deliveries, Delivery
from dicom_node.profiles import Profile
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import write_object
from dicom_node.uids import LABEL_MAP_SEGMENTATION, SEGMENTATION
from tests.deliver.scripted_peer import CT, scripted_peer
from tests.deliver.test_delivery import reset
from tests.peers import CALLING_AE, NOBODY_LISTENS, destination
from tests.ports import free_port
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of

CASE = "case"
BOTH = (SEGMENTATION, LABEL_MAP_SEGMENTATION)


@pytest.fixture
def planned(deliveries: Deliveries, tmp_path: Path) -> Deliveries:
    """Both segmentations of one case, planned for one destination."""
    source = volume_of(phantom("axial")), labels_of(phantom("axial")), PROVENANCE
    rows = []
    for profile in Profile(seg="LABELMAP").variants:
        dataset = encode_seg(*source, profile)
        path = tmp_path / f"{profile.seg}.dcm"
        write_object(path, dataset)
        rows.append(Delivery(CASE, "scripted", str(dataset.SOPInstanceUID), str(dataset.SOPClassUID), str(path)))
    deliveries.plan(rows)
    return deliveries


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ((SEGMENTATION, LABEL_MAP_SEGMENTATION), {SEGMENTATION: "spared", LABEL_MAP_SEGMENTATION: "confirmed"}),
        ((SEGMENTATION,), {SEGMENTATION: "confirmed", LABEL_MAP_SEGMENTATION: "spared"}),
    ],
)
def test_the_peer_gets_the_one_it_accepts(
    planned: Deliveries, accepted: tuple[str, ...], expected: dict[str, str]
) -> None:
    with scripted_peer(sop_classes=accepted) as peer:
        state = deliver_once(peer.destination, planned, CASE, 1000.0, calling_ae=CALLING_AE)
        assert len(peer.kept) == 1
    assert state.outcome == "confirmed"
    assert {row.sop_class_uid: row.state for row in planned.of_case(CASE)} == expected


def states(deliveries: Deliveries) -> dict[str, str]:
    return {row.sop_class_uid: row.state for row in deliveries.of_case(CASE)}


def test_a_label_map_that_is_refused_though_its_class_is_accepted_is_replaced_once(planned: Deliveries) -> None:
    with scripted_peer(sop_classes=BOTH) as peer:
        peer.statuses = [0xA900, 0]
        state = deliver_once(peer.destination, planned, CASE, 1000.0, calling_ae=CALLING_AE)
        assert (state.outcome, state.retry_after_seconds) == ("retry", 0.0)
        assert deliver_once(peer.destination, planned, CASE, 1001.0, calling_ae=CALLING_AE).outcome == "confirmed"
        assert len(peer.received) == 2
    assert states(planned) == {SEGMENTATION: "confirmed", LABEL_MAP_SEGMENTATION: "spared"}


def test_a_peer_that_refuses_both_holds_the_case(planned: Deliveries) -> None:
    with scripted_peer(sop_classes=BOTH) as peer:
        peer.statuses = [0xC000]
        for _ in range(2):
            state = deliver_once(peer.destination, planned, CASE, 1000.0, calling_ae=CALLING_AE)
        assert (state.outcome, len(peer.received)) == ("held", 2)


def test_a_retry_asks_anew_which_segmentation_is_taken(planned: Deliveries) -> None:
    with scripted_peer(sop_classes=(CT,)) as peer:
        assert deliver_once(peer.destination, planned, CASE, 1000.0, calling_ae=CALLING_AE).outcome == "held"
    reset(planned)
    with scripted_peer(sop_classes=(LABEL_MAP_SEGMENTATION,)) as peer:
        assert deliver_once(peer.destination, planned, CASE, 1001.0, calling_ae=CALLING_AE).outcome == "confirmed"
    assert states(planned) == {SEGMENTATION: "spared", LABEL_MAP_SEGMENTATION: "confirmed"}


def test_a_retry_leaves_what_was_spared_where_the_other_has_arrived(planned: Deliveries) -> None:
    with scripted_peer(sop_classes=BOTH) as peer:
        deliver_once(peer.destination, planned, CASE, 1000.0, calling_ae=CALLING_AE)
    reset(planned)
    assert states(planned) == {SEGMENTATION: "spared", LABEL_MAP_SEGMENTATION: "confirmed"}


@NOBODY_LISTENS
def test_a_peer_that_is_down_is_asked_again_later(planned: Deliveries) -> None:
    nowhere = destination("scripted", "SCRIPTED", free_port(), retry_seconds=(5.0,))
    state = deliver_once(nowhere, planned, CASE, 1000.0, calling_ae=CALLING_AE)
    assert (state.outcome, state.retry_after_seconds) == ("retry", 5.0)
    assert {row.state for row in planned.of_case(CASE)} == {"failed"}


def test_an_echo_tells_whether_label_maps_are_accepted() -> None:
    with scripted_peer(sop_classes=(SEGMENTATION,)) as peer:
        accepted = echo(peer.destination, CALLING_AE).accepted
    assert (accepted[SEGMENTATION], accepted[LABEL_MAP_SEGMENTATION]) == (True, False)
