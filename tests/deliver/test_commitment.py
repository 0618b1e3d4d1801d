"""Storage commitment: results count as delivered only once the destination has committed to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node.deliver import commitment_request
from dicom_node.deliver.attempt import NO_REPORT
from dicom_node.deliver.commitment import send_report
from dicom_node.deliver.delivery import (
    DeliveryState,
    deliver_once,
    delivery_state,
    settle_commitment,
)
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger.commitments import Commitment
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
from tests.deliver.scripted_peer import ABORT
from tests.deliver.test_delivery import CASE, plan, states
from tests.peers import CALLING_AE, Receiver, destination, orthanc, receiver, wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
ASKED = Commitment("1.2.3", CASE, "pacs", "COMMITS", 1000.0, host="127.0.0.1", instances=["1.2.9"], taken_at=1000.0)


@dataclass
class CommittingPeer:
    """Stores everything; commits as a test says.

    Attributes:
        fails: SOP Instance UIDs it does not commit to.
        reports: Whether it reports over the association that asks.
        action_status: What it answers to an N-ACTION.
        lists: Whether its C-FIND lists what it stored.
        store_status: C-STORE status by SOP Instance UID, where it is not Success.
        stray: A report it sends before its own.
        asked: Transactions it was asked, with their instances.
        received: SOP Instance UIDs of all C-STORE requests.
        kept: Those of what it stored.
        queried: SOP Instance UIDs of all C-FIND requests.
        answered: What its reports were answered with.
    """

    destination: DestinationTable
    fails: set[str] = field(default_factory=set)
    reports: bool = True
    action_status: int = 0
    lists: bool = True
    store_status: dict[str, int] = field(default_factory=dict)
    stray: Report | None = None
    asked: list[tuple[str, tuple[Reference, ...]]] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    queried: list[str] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)

    @property
    def asked_for(self) -> list[set[str]]:
        """The instances of each transaction."""
        return [{each.sop_instance_uid for each in references} for _, references in self.asked]

    def report(self, number: int = -1) -> Report:
        """What it has to say about a transaction."""
        transaction, references = self.asked[number]
        failed = {each: PROCESSING_FAILURE for each in references if each.sop_instance_uid in self.fails}
        return Report(transaction, tuple(each for each in references if each not in failed), failed)

    def on_store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.received.append(uid)
        status = self.store_status.get(uid, 0)
        if status == 0:
            self.kept.add(uid)
        return status

    def on_action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        if self.action_status in {0, ABORT}:
            self.asked.append(read_request(event.action_information))
        if self.action_status == ABORT:
            event.assoc.abort()
            return 0, None
        return self.action_status, None

    def after_message(self, event: evt.Event) -> None:
        """Once the N-ACTION response is out, the report follows over the same association."""
        if type(event.message).__name__ == "N_ACTION_RSP" and self.reports and self.asked:
            for report in (self.stray, self.report()):
                if report is not None:
                    answer, _ = event.assoc.send_n_event_report(
                        report_information(report), report.event_type, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
                    )
                    self.answered.append(answer.get("Status"))

    def on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        uid = str(event.identifier.SOPInstanceUID)
        self.queried.append(uid)
        if self.lists and uid in self.kept:
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
    port = server.server_address[1]
    peer.destination = destination("pacs", "COMMITS", port, **{"confirm": "commitment", **options})
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
        assert not settle_commitment(peer.destination, deliveries, CASE, 1002.0).awaited
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


def test_a_refusal_that_names_the_patient_is_told_without_it(
    deliveries: Deliveries, objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(pydicom.dcmread(objects[0]).PatientName)

    def refuse(_peer: CommittingPeer, _event: evt.Event) -> tuple[Dataset, None]:
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0x0213, f"no room for {name}"
        return answer, None

    monkeypatch.setattr(CommittingPeer, "on_action", refuse)
    with committing_peer(find=False) as peer:
        plan(deliveries, "pacs", objects)
        assert attempt(peer, deliveries).reason.endswith("N-ACTION status 0213: no room for ...")


@contextmanager
def silent_peer(**options: object) -> Iterator[CommittingPeer]:
    """A committing peer that has not reported when its association ends."""
    with committing_peer(timeout_seconds=1.0, **options) as peer:
        peer.reports = False
        yield peer


def state_of(deliveries: Deliveries, uid: str) -> str:
    return next(row.state for row in deliveries.of_case(CASE) if row.sop_instance_uid == uid)


def test_what_waits_for_its_report_is_left_alone_when_another_result_failed(
    deliveries: Deliveries, objects: list[Path]
) -> None:
    with silent_peer(retry_seconds=[10, 60]) as peer:
        one, failing, other = plan(deliveries, "pacs", objects)
        peer.store_status = {failing: 0xA700}
        assert attempt(peer, deliveries).retry_after_seconds == 10
        peer.store_status = {}
        assert attempt(peer, deliveries, 1010.0).outcome == "retry"
        assert (peer.received.count(one), peer.received.count(failing), peer.received.count(other)) == (1, 2, 1)
        assert peer.asked_for == [{one, other}, {failing}]
        assert (one in peer.queried, other in peer.queried) == (False, False)
        assert states(deliveries) == ["stored"] * 3
        for number in (1, 0):  # in whichever order they come
            deliveries.commitments.report(peer.report(number), "COMMITS", 1011.0)
        assert attempt(peer, deliveries, 1012.0) == DeliveryState("confirmed")


def test_only_what_is_overdue_is_asked_for(deliveries: Deliveries, objects: list[Path]) -> None:
    with silent_peer(commitment_seconds=60) as peer:
        one, failing, other = plan(deliveries, "pacs", objects)
        peer.store_status = {failing: 0xA700}
        attempt(peer, deliveries)
        peer.store_status = {}
        attempt(peer, deliveries, 1050.0)
        peer.queried.clear()
        assert attempt(peer, deliveries, 1061.0).outcome == "retry"
        assert (sorted(peer.queried), state_of(deliveries, failing)) == (sorted([one, other]), "stored")
        assert attempt(peer, deliveries, 1111.0) == DeliveryState("confirmed")
    assert {row.message for row in deliveries.of_case(CASE)} == {NO_REPORT}


def test_what_has_used_up_its_attempts_is_given_up_and_the_rest_still_waits(
    deliveries: Deliveries, objects: list[Path]
) -> None:
    with silent_peer(retry_seconds=[]) as peer:
        _, failing, _ = plan(deliveries, "pacs", objects)
        peer.store_status = {failing: 0xA700}
        assert attempt(peer, deliveries).outcome == "retry"
        assert attempt(peer, deliveries, 1010.0).outcome == "retry"
        assert len(peer.received) == 3
        deliveries.commitments.report(peer.report(), "COMMITS", 1011.0)
        held = attempt(peer, deliveries, 1012.0)
    assert (held.outcome, "A700" in held.reason) == ("held", True)
    assert sorted(states(deliveries)) == ["confirmed", "confirmed", "refused"]


def test_after_a_kill_between_record_and_request_the_same_request_is_sent(
    deliveries: Deliveries, objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with silent_peer() as peer, monkeypatch.context() as patched:
        uids = plan(deliveries, "pacs", objects)
        patched.setattr(commitment_request, "ask_commitment", killed)
        with pytest.raises(KeyboardInterrupt):
            attempt(peer, deliveries)
        patched.undo()
        (recorded,) = deliveries.commitments.of_case(CASE, "pacs")
        assert attempt(peer, deliveries, 1001.0).outcome == "retry"
        assert peer.asked_for == [set(uids)]
        assert peer.asked[0][0] == recorded.transaction_uid
        assert (len(peer.received), peer.queried) == (3, [])
        assert attempt(peer, deliveries, 1002.0).outcome == "retry"
        assert len(peer.asked) == 1


def test_a_request_without_an_answer_is_sent_again_under_its_uid(deliveries: Deliveries, objects: list[Path]) -> None:
    with silent_peer() as peer:
        plan(deliveries, "pacs", objects)
        peer.action_status = ABORT
        assert "did not answer" in attempt(peer, deliveries).reason
        peer.action_status = 0
        attempt(peer, deliveries, 1010.0)
        assert peer.asked[0] == peer.asked[1]
        assert (len(peer.received), peer.queried) == (3, [])


def test_the_uid_of_a_refused_request_is_not_used_again(deliveries: Deliveries, objects: list[Path]) -> None:
    with silent_peer() as peer:
        plan(deliveries, "pacs", objects)
        peer.action_status = 0x0131
        attempt(peer, deliveries)
        (refused,) = deliveries.commitments.of_case(CASE, "pacs")
        peer.action_status = 0
        attempt(peer, deliveries, 1010.0)
        assert peer.asked[0][0] != refused.transaction_uid
        assert len(peer.received) == 3


@pytest.mark.parametrize(
    ("commits", "action_status", "message"), [(True, 0, "committed to"), (True, 0x0110, None), (False, 0, None)]
)
def test_auto_asks_for_commitment_where_it_is_to_be_had_and_for_a_list_elsewhere(
    deliveries: Deliveries, objects: list[Path], commits: bool, action_status: int, message: str | None
) -> None:
    with committing_peer(commits=commits, confirm="auto") as peer:
        peer.action_status = action_status
        plan(deliveries, "pacs", objects)
        assert wait_until(lambda: attempt(peer, deliveries).outcome == "confirmed", 10.0)
        assert sorted(peer.queried) == (sorted(peer.received) if message is None else [])
    assert {row.message for row in deliveries.of_case(CASE)} == {message}


def test_what_a_restored_ledger_does_not_know_of_is_found_and_committed_to(
    deliveries: Deliveries, objects: list[Path]
) -> None:
    with silent_peer() as peer:
        peer.kept = set(plan(deliveries, "pacs", objects))
        for row in deliveries.of_case(CASE):
            deliveries.update(replace(row, state="failed"))
        attempt(peer, deliveries)
        assert (peer.received, peer.asked_for) == ([], [peer.kept])
    assert states(deliveries) == ["stored"] * 3


def test_a_stray_report_over_the_association_that_asks_is_refused_and_logged(
    deliveries: Deliveries, objects: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with committing_peer() as peer:
        plan(deliveries, "pacs", objects)
        peer.stray = Report("1.2.3.4", (Reference(CT, "1.2.9"),))
        assert wait_until(lambda: attempt(peer, deliveries).outcome == "confirmed", 10.0)
        assert wait_until(lambda: len(peer.answered) == 2)
    assert peer.answered == [PROCESSING_FAILURE, 0]
    assert "nobody was asked this" in capsys.readouterr().out


def test_nobody_else_and_nobody_twice_may_report(deliveries: Deliveries) -> None:
    commitments = deliveries.commitments
    commitments.ask(ASKED)
    report = Report("1.2.3", (Reference(CT, "1.2.9"),))
    assert commitments.report(report, "SOMEBODY", 1001.0) == "foreign"
    assert commitments.report(replace(report, transaction_uid="1.2.4"), "COMMITS", 1001.0) == "unknown"
    assert commitments.report(report, "COMMITS", 1001.0) == "taken"
    assert commitments.report(replace(report, committed=()), "COMMITS", 1002.0) == "repeated"
    (known,) = commitments.of_case(CASE, "pacs")
    assert (known.committed, known.reported_at) == (["1.2.9"], 1001.0)


def test_what_a_report_calls_both_committed_and_failed_is_not_committed_to(deliveries: Deliveries) -> None:
    deliveries.commitments.ask(ASKED)
    reference = Reference(CT, "1.2.9")
    assert (
        deliveries.commitments.report(Report("1.2.3", (reference,), {reference: 0x0112}), "COMMITS", 1001.0) == "taken"
    )
    (known,) = deliveries.commitments.of_case(CASE, "pacs")
    assert (known.committed, known.failed) == ([], {"1.2.9": 0x0112})


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "home") as started:
        yield started


@pytest.mark.parametrize(
    ("transaction", "reporter", "status"),
    [("1.2.3", "COMMITS", None), ("1.2.4", "COMMITS", "0110"), ("1.2.3", "SOMEBODY", "0110")],
)
def test_the_listener_takes_reports_of_who_was_asked(
    node: Receiver, transaction: str, reporter: str, status: str | None
) -> None:
    commitments = node.intake.commitments
    commitments.ask(ASKED)
    to_node = destination("node", CALLING_AE, node.listener.port)
    report = Report(transaction, (Reference(CT, "1.2.9"),))
    if status is None:
        send_report(to_node, report, reporter)
    else:
        with pytest.raises(DeliveryFailed, match=status):
            send_report(to_node, report, reporter)
    (known,) = commitments.of_case(CASE, "pacs")
    assert known.committed == (["1.2.9"] if status is None else [])


def test_the_listener_takes_no_report_from_another_host_and_says_so(
    node: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    node.intake.commitments.ask(replace(ASKED, host="192.0.2.1"))
    with pytest.raises(DeliveryFailed, match="0110"):
        send_report(
            destination("node", CALLING_AE, node.listener.port), Report("1.2.3", (Reference(CT, "1.2.9"),)), "COMMITS"
        )
    assert node.intake.commitments.of_case(CASE, "pacs")[0].reported_at is None
    assert wait_until(lambda: "COMMITS was asked at 192.0.2.1" in capsys.readouterr().out)


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
