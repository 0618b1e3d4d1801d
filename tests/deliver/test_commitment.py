"""Storage commitment: results count as delivered only once the destination has committed to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node.deliver.commitment import send_report
from dicom_node.deliver.delivery import DeliveryState, deliver_once, delivery_state, settle_commitment
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.settings import DestinationTable
from dicom_node.storage_commitment import (
    PROCESSING_FAILURE,
    Reference,
    Report,
    read_request,
    report_information,
)
from dicom_node.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, STUDY_ROOT_FIND, VERIFICATION
from tests.deliver.test_delivery import CASE, plan, states
from tests.peers import CALLING_AE, Receiver, destination, orthanc, receiver, wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass
class CommittingPeer:
    """Stores everything; commits as a test says.

    Attributes:
        fails: SOP Instance UIDs it does not commit to.
        reports: Whether it reports over the association that asks.
        action_status: What it answers to an N-ACTION.
        lists: Whether its C-FIND lists what it stored.
        asked: Transactions it was asked, with their instances.
        received: SOP Instance UIDs of all C-STORE requests.
    """

    destination: DestinationTable
    fails: set[str] = field(default_factory=set)
    reports: bool = True
    action_status: int = 0
    lists: bool = True
    asked: list[tuple[str, tuple[Reference, ...]]] = field(default_factory=list)
    received: list[str] = field(default_factory=list)

    def report(self, number: int = -1) -> Report:
        """What it has to say about a transaction."""
        transaction, references = self.asked[number]
        failed = {each: PROCESSING_FAILURE for each in references if each.sop_instance_uid in self.fails}
        return Report(transaction, tuple(each for each in references if each not in failed), failed)

    def on_store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def on_action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        if self.action_status == 0:
            self.asked.append(read_request(event.action_information))
        return self.action_status, None

    def after_message(self, event: evt.Event) -> None:
        """Once the N-ACTION response is out, the report follows over the same association."""
        if type(event.message).__name__ == "N_ACTION_RSP" and self.reports and self.asked:
            report = self.report()
            event.assoc.send_n_event_report(
                report_information(report), report.event_type, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
            )

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        uid = str(event.identifier.SOPInstanceUID)
        if self.lists and uid in self.received:
            found = Dataset()
            found.QueryRetrieveLevel, found.SOPInstanceUID = "IMAGE", uid
            yield 0xFF00, found


@contextmanager
def committing_peer(*, commits: bool = True, find: bool = True, **options: object) -> Iterator[CommittingPeer]:
    entity = AE(ae_title="COMMITS")
    entity.add_supported_context(CT)
    entity.add_supported_context(VERIFICATION)
    if commits:
        entity.add_supported_context(STORAGE_COMMITMENT)
    if find:
        entity.add_supported_context(STUDY_ROOT_FIND)
    peer = CommittingPeer(destination("pacs", "COMMITS", 1))
    handlers = [
        (evt.EVT_C_STORE, peer.on_store),
        (evt.EVT_N_ACTION, peer.on_action),
        (evt.EVT_DIMSE_SENT, peer.after_message),
        (evt.EVT_C_FIND, peer.on_find),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.destination = destination("pacs", "COMMITS", server.server_address[1], confirm="commitment", **options)
    try:
        yield peer
    finally:
        entity.shutdown()


def attempt(peer: CommittingPeer, deliveries: Deliveries, now: float = 1000.0) -> DeliveryState:
    return deliver_once(peer.destination, deliveries, CASE, now, calling_ae=CALLING_AE)


def test_a_report_over_the_same_association_confirms(deliveries: Deliveries, objects: list[Path]) -> None:
    with committing_peer() as peer:
        uids = plan(deliveries, "pacs", objects)
        outcome = attempt(peer, deliveries)
        if outcome.outcome != "confirmed":  # the report came after the association had to be released
            outcome = attempt(peer, deliveries, 1005.0)
        assert outcome == DeliveryState("confirmed")
        assert sorted(item.sop_instance_uid for item in peer.asked[0][1]) == sorted(uids)
    assert states(deliveries) == ["confirmed"] * 3


def test_without_a_report_the_case_waits_and_sends_nothing_again(deliveries: Deliveries, objects: list[Path]) -> None:
    with committing_peer(timeout_seconds=1.0) as peer:
        peer.reports = False
        plan(deliveries, "pacs", objects)
        assert attempt(peer, deliveries).retry_after_seconds == 2.0
        later = attempt(peer, deliveries, 1100.0)
        assert (later.outcome, later.retry_after_seconds) == ("retry", 50.0)
        assert (len(peer.received), len(peer.asked)) == (3, 1)
        taken = deliveries.commitments.report(peer.report(), "COMMITS", 1150.0)  # over an association of the peer's
        assert taken == "taken"
        assert attempt(peer, deliveries, 1200.0) == DeliveryState("confirmed")
    assert [row.attempts for row in deliveries.of_case(CASE)] == [1] * 3


def test_what_is_not_committed_to_is_sent_again(deliveries: Deliveries, objects: list[Path]) -> None:
    with committing_peer(timeout_seconds=1.0) as peer:
        peer.reports = False
        uids = plan(deliveries, "pacs", objects)
        peer.fails = {uids[1]}
        attempt(peer, deliveries)
        deliveries.commitments.report(peer.report(), "COMMITS", 1001.0)
        attempt(peer, deliveries, 1002.0)
        row = next(row for row in deliveries.of_case(CASE) if row.sop_instance_uid == uids[1])
        assert peer.received.count(uids[1]) == 2
        assert len(peer.received) == 4
        peer.fails = set()
        deliveries.commitments.report(peer.report(), "COMMITS", 1003.0)
        assert attempt(peer, deliveries, 1004.0) == DeliveryState("confirmed")
    assert row.state == "stored"


def test_a_failure_is_told_in_words(deliveries: Deliveries, objects: list[Path]) -> None:
    with committing_peer(timeout_seconds=1.0, retry_seconds=[]) as peer:
        peer.reports = False
        peer.fails = set(plan(deliveries, "pacs", objects))
        attempt(peer, deliveries)
        deliveries.commitments.report(peer.report(), "COMMITS", 1001.0)
        assert settle_commitment(peer.destination, deliveries, CASE, 1002.0) is None
        state = delivery_state(peer.destination, deliveries.of_case(CASE))
    assert state.outcome == "held"
    assert "processing failure (failure reason 0110)" in state.reason


@pytest.mark.parametrize(("lists", "outcome", "sent"), [(True, "confirmed", 3), (False, "retry", 6)])
def test_after_the_time_for_a_report_the_archive_is_queried(
    deliveries: Deliveries, objects: list[Path], lists: bool, outcome: str, sent: int
) -> None:
    with committing_peer(timeout_seconds=1.0, commitment_seconds=60) as peer:
        peer.reports, peer.lists = False, lists
        plan(deliveries, "pacs", objects)
        attempt(peer, deliveries)
        assert attempt(peer, deliveries, 1061.0).outcome == outcome
        assert len(peer.received) == sent
        assert len(peer.asked) == sent // 3


@pytest.mark.parametrize(
    ("find", "lists", "outcome"), [(True, True, "confirmed"), (True, False, "retry"), (False, False, "confirmed")]
)
def test_who_offers_no_commitment_is_queried_or_believed(
    deliveries: Deliveries, objects: list[Path], find: bool, lists: bool, outcome: str
) -> None:
    with committing_peer(commits=False, find=find) as peer:
        peer.lists = lists
        plan(deliveries, "pacs", objects)
        assert attempt(peer, deliveries).outcome == outcome


def test_a_refused_request_is_tried_again(deliveries: Deliveries, objects: list[Path]) -> None:
    with committing_peer(find=False) as peer:
        peer.action_status = 0x0213
        plan(deliveries, "pacs", objects)
        refused = attempt(peer, deliveries)
        assert (refused.outcome, "0213" in refused.reason) == ("retry", True)
        peer.action_status = 0
        attempt(peer, deliveries, 1010.0)
        assert len(peer.asked) == 1


def test_nobody_else_and_nobody_twice_may_report(deliveries: Deliveries) -> None:
    commitments = deliveries.commitments
    commitments.ask("1.2.3", CASE, "pacs", ae_title="COMMITS", now=1000.0)
    report = Report("1.2.3", (Reference(CT, "1.2.9"),))
    assert commitments.report(report, "SOMEBODY", 1001.0) == "foreign"
    assert commitments.report(replace(report, transaction_uid="1.2.4"), "COMMITS", 1001.0) == "unknown"
    assert commitments.report(report, "COMMITS", 1001.0) == "taken"
    assert commitments.report(replace(report, committed=()), "COMMITS", 1002.0) == "repeated"
    latest = commitments.latest(CASE, "pacs")
    assert latest is not None
    assert (latest.committed, latest.reported_at) == (["1.2.9"], 1001.0)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "home") as started:
        yield started


@pytest.mark.parametrize(
    ("transaction", "reporter", "status"),
    [("1.2.3", "COMMITS", None), ("1.2.4", "COMMITS", "0110"), ("1.2.3", "SOMEBODY", "0124")],
)
def test_the_listener_takes_reports_of_who_was_asked(
    node: Receiver, transaction: str, reporter: str, status: str | None
) -> None:
    commitments = node.intake.commitments
    commitments.ask("1.2.3", CASE, "pacs", ae_title="COMMITS", now=1000.0)
    to_node = destination("node", CALLING_AE, node.listener.port)
    report = Report(transaction, (Reference(CT, "1.2.9"),))
    if status is None:
        send_report(to_node, report, reporter)
    else:
        with pytest.raises(DeliveryFailed, match=status):
            send_report(to_node, report, reporter)
    latest = commitments.latest(CASE, "pacs")
    assert latest is not None
    assert latest.committed == (["1.2.9"] if status is None else [])


@pytest.mark.peer
def test_orthanc_reports_over_an_association_of_its_own(
    tmp_path: Path, node: Receiver, objects: Sequence[Path]
) -> None:
    """Orthanc is told where this node listens, and the report reaches the record that the worker looks at."""
    deliveries = Deliveries(node.intake._engine)
    with orthanc(tmp_path / "orthanc", {CALLING_AE: node.listener.port}) as peer:
        table = peer.destination.model_copy(update={"confirm": "commitment"})
        plan(deliveries, table.name, list(objects))

        def looked() -> bool:
            return deliver_once(table, deliveries, CASE, 1000.0, calling_ae=CALLING_AE).outcome == "confirmed"

        assert looked() or wait_until(looked, 30.0)
    assert states(deliveries) == ["confirmed"] * 3
    assert {row.message for row in deliveries.of_case(CASE)} == {"committed to"}
    assert {row.attempts for row in deliveries.of_case(CASE)} == {1}
