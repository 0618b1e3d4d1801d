from __future__ import annotations

import shutil
import time
from pathlib import Path

import pydicom
import pytest

from dicom_node.deliver import confirmation
from dicom_node.deliver.confirmation import Reference, confirm
from dicom_node.deliver.delivery import DeliveryState, deliver_once
from dicom_node.ledger import deliveries as ledger
from dicom_node.ledger.deliveries import Deliveries, Delivery
from tests.deliver.scripted_peer import ABORT, ScriptedPeer, scripted_peer
from tests.peers import CALLING_AE, NOBODY_LISTENS, Peer, destination, storescp
from tests.ports import free_port

CASE = "case"


def plan(deliveries: Deliveries, name: str, files: list[Path]) -> list[str]:
    """Plan the delivery of files; returns their SOP Instance UIDs."""
    rows = []
    for path in files:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        rows.append(Delivery(CASE, name, str(dataset.SOPInstanceUID), str(dataset.SOPClassUID), str(path)))
    deliveries.plan(rows)
    return [row.sop_instance_uid for row in rows]


def attempt(where: Peer | ScriptedPeer, deliveries: Deliveries) -> DeliveryState:
    return deliver_once(where.destination, deliveries, CASE, 1000.0, calling_ae=CALLING_AE)


def states(deliveries: Deliveries) -> list[str]:
    return [row.state for row in deliveries.of_case(CASE)]


def reset(deliveries: Deliveries) -> None:
    """A person has the case run again."""
    with deliveries._engine.begin() as connection:
        ledger.reset(connection, CASE)


def reference_of(path: Path) -> Reference:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return Reference(str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["orthanc_peer", "dcmqrscp_peer"])
def test_an_archive_stores_and_confirms(
    request: pytest.FixtureRequest, kind: str, deliveries: Deliveries, objects: list[Path]
) -> None:
    peer: Peer = request.getfixturevalue(kind)
    plan(deliveries, peer.destination.name, objects)
    assert attempt(peer, deliveries) == DeliveryState("confirmed")
    assert states(deliveries) == ["confirmed"] * 3
    assert {row.status for row in deliveries.of_case(CASE)} == {0}


@pytest.mark.peer
def test_an_archive_says_what_it_does_not_have(dcmqrscp_peer: Peer, objects: list[Path]) -> None:
    references = [reference_of(path) for path in objects]
    answer = confirm(dcmqrscp_peer.destination, references, CALLING_AE)
    assert answer == {reference.sop_instance_uid: False for reference in references}


@pytest.mark.peer
def test_who_offers_no_query_is_believed_by_its_status(
    tmp_path: Path, deliveries: Deliveries, objects: list[Path]
) -> None:
    with storescp(tmp_path / "peer") as peer:
        assert confirm(peer.destination, [reference_of(objects[0])], CALLING_AE) is None
        plan(deliveries, peer.destination.name, objects)
        assert attempt(peer, deliveries).outcome == "confirmed"


def test_a_confirmed_case_is_not_sent_again(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects)
        assert [attempt(peer, deliveries).outcome for _ in range(2)] == ["confirmed"] * 2
        assert len(peer.received) == 3
        assert peer.queries == 3


def test_after_a_crash_only_what_is_missing_is_sent(deliveries: Deliveries, objects: list[Path]) -> None:
    """The attempt was on record and one object had arrived when the node died."""
    with scripted_peer() as peer:
        uids = plan(deliveries, "scripted", objects)
        for row in deliveries.of_case(CASE):
            deliveries.update(Delivery(**{**vars(row), "attempts": 1}))
        peer.kept.add(uids[1])
        assert attempt(peer, deliveries).outcome == "confirmed"
        assert sorted(peer.received) == sorted([uids[0], uids[2]])


def test_a_broken_association_is_finished_by_the_next_attempt(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer(retry_seconds=[7, 70]) as peer:
        plan(deliveries, "scripted", objects)
        peer.statuses = [0, ABORT, 0]
        first = attempt(peer, deliveries)
        assert (first.outcome, first.retry_after_seconds) == ("retry", 7)
        assert attempt(peer, deliveries).outcome == "confirmed"
        assert len(peer.kept) == 3
        assert len(peer.received) == 4


@NOBODY_LISTENS
def test_a_peer_that_is_down_is_tried_with_growing_pauses_and_then_held(
    deliveries: Deliveries, objects: list[Path]
) -> None:
    peer = ScriptedPeer(destination("down", "DOWN", free_port(), retry_seconds=[10, 60]))
    plan(deliveries, "down", objects)
    result = [attempt(peer, deliveries) for _ in range(3)]
    assert [(state.outcome, state.retry_after_seconds) for state in result] == [
        ("retry", 10),
        ("retry", 60),
        ("held", None),
    ]
    assert "given up after 3 attempts" in result[-1].reason
    assert "cannot be reached" in result[-1].reason


def test_a_refused_object_is_held_with_the_peers_words(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects)
        peer.statuses = [0, 0xC123, 0]
        state = attempt(peer, deliveries)
    assert state.outcome == "held"
    assert "C123" in state.reason
    assert sorted(states(deliveries)) == ["confirmed", "confirmed", "refused"]


def test_what_can_still_arrive_is_tried_before_a_case_is_held(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects)
        peer.statuses = [0xC000, 0xA700, 0]
        assert attempt(peer, deliveries).outcome == "retry"
        assert attempt(peer, deliveries).outcome == "held"
        assert sorted(states(deliveries)) == ["confirmed", "confirmed", "refused"]


def test_stored_but_not_listed_is_asked_again_and_sent_again(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects)
        peer.lists = False
        assert attempt(peer, deliveries).outcome == "retry"
        assert states(deliveries) == ["stored"] * 3
        peer.lists = True
        assert attempt(peer, deliveries).outcome == "confirmed"
        assert len(peer.received) == 3


def test_a_query_that_fails_is_tried_again_and_nothing_is_lost(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects)
        peer.find_status = 0xA700
        state = attempt(peer, deliveries)
        assert state.outcome == "retry"
        assert "A700" in state.reason
        peer.find_status = 0
        assert attempt(peer, deliveries).outcome == "confirmed"
        assert len(peer.received) == 3


def test_a_peer_that_leaves_between_two_queries_is_asked_again_later(
    deliveries: Deliveries, objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects)
        peer.leaves = True
        ask = confirmation._is_there
        monkeypatch.setattr(confirmation, "_is_there", lambda *asked: (time.sleep(0.3), ask(*asked))[1])
        assert attempt(peer, deliveries).outcome == "retry"
        assert states(deliveries) == ["stored"] * 3


@pytest.mark.parametrize(("confirm", "find"), [("c-store", True), ("c-find", False)])
def test_what_was_answered_before_a_kill_is_not_sent_again(
    deliveries: Deliveries, objects: list[Path], confirm: str, find: bool
) -> None:
    """Killed after the answer was put on record, and before what it proves was."""
    with scripted_peer(confirm=confirm, find=find) as peer:
        uids = plan(deliveries, "scripted", objects)
        for row in deliveries.of_case(CASE)[:2]:
            deliveries.update(Delivery(**{**vars(row), "attempts": 1, "state": "stored", "status": 0}))
        assert attempt(peer, deliveries) == DeliveryState("confirmed")
        assert peer.received == sorted(uids)[2:]


def test_by_setting_the_status_alone_is_proof(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer(confirm="c-store") as peer:
        plan(deliveries, "scripted", objects)
        peer.find_status = 0xC000
        assert attempt(peer, deliveries).outcome == "confirmed"
        assert peer.queries == 0


def test_a_warning_counts_as_stored_and_is_kept(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects[:1])
        peer.statuses = [0xB000]
        assert attempt(peer, deliveries).outcome == "confirmed"
    row = deliveries.of_case(CASE)[0]
    assert row.status == 0xB000
    assert row.message is not None
    assert "warning" in row.message


def test_a_lost_result_file_is_held_and_the_rest_delivered(
    deliveries: Deliveries, objects: list[Path], tmp_path: Path
) -> None:
    with scripted_peer() as peer:
        gone = tmp_path / "gone.dcm"
        shutil.copyfile(objects[2], gone)
        plan(deliveries, "scripted", [*objects[:2], gone])
        gone.unlink()
        state = attempt(peer, deliveries)
        assert state.outcome == "held"
        assert "gone.dcm" in state.reason
        assert len(peer.kept) == 2


def test_results_that_were_made_anew_are_sent_from_where_they_lie_now(
    deliveries: Deliveries, objects: list[Path], tmp_path: Path
) -> None:
    """Retention had removed the earlier ones, and a person had the case run again."""
    gone = tmp_path / "gone.dcm"
    shutil.copy(objects[0], gone)
    with scripted_peer() as peer:
        plan(deliveries, "scripted", [gone])
        gone.unlink()
        assert attempt(peer, deliveries).outcome == "held"
        reset(deliveries)
        plan(deliveries, "scripted", objects[:1])
        assert attempt(peer, deliveries).outcome == "confirmed"


def test_what_a_new_plan_lacks_is_not_sent_any_more(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects[:2])
        peer.statuses = [0, 0xC000, 0]
        assert attempt(peer, deliveries).outcome == "held"
        reset(deliveries)
        (new,) = plan(deliveries, "scripted", objects[2:3])
        assert attempt(peer, deliveries).outcome == "confirmed"
        assert peer.received[2:] == [new]
    assert states(deliveries) == ["confirmed", "confirmed"]  # what had arrived stays on record


def test_a_retry_that_a_person_asked_for_starts_over(deliveries: Deliveries, objects: list[Path]) -> None:
    with scripted_peer() as peer:
        plan(deliveries, "scripted", objects[:1])
        peer.statuses = [0xC000, 0]
        assert attempt(peer, deliveries).outcome == "held"
        reset(deliveries)
        assert attempt(peer, deliveries).outcome == "confirmed"
