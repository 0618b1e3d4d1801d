"""One attempt to bring the results of a case to a destination, recorded so that the next one goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.deliver.commitment import ask_commitment
from dicom_node.deliver.confirmation import Reference, confirm
from dicom_node.deliver.echo import echo
from dicom_node.deliver.sender import SendOutcome, send
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger import audit_facts
from dicom_node.ledger.audit_events import AuditEvent
from dicom_node.ledger.deliveries import Deliveries, Delivery, State
from dicom_node.logs import get_logger
from dicom_node.settings import DestinationTable
from dicom_node.storage_commitment import Reference as ObjectReference
from dicom_node.storage_commitment import Report, failure_in_words
from dicom_node.uids import LABEL_MAP_SEGMENTATION, SEGMENTATION, STUDY_ROOT_FIND

log = get_logger("deliver")

_UNFINISHED = frozenset({"waiting", "failed", "stored"})
_ARRIVED = frozenset({"stored", "confirmed"})


@dataclass(frozen=True)
class DeliveryState:
    """Where the delivery of a case to a destination stands after an attempt.

    Attributes:
        outcome: ``confirmed`` (all results are there), ``retry`` (try again after ``retry_after_seconds``), or ``held``
            (a person has to look).
        reason: Why not confirmed, in words; empty when confirmed.
        retry_after_seconds: Pause before the next attempt; None unless ``retry``.
    """

    outcome: Literal["confirmed", "retry", "held"]
    reason: str = ""
    retry_after_seconds: float | None = None


def deliver_once(
    destination: DestinationTable, deliveries: Deliveries, case_id: str, now: float, *, calling_ae: str
) -> DeliveryState:
    """Make one attempt.

    The attempt is on record before anything is sent. After a crash in its middle the next one therefore asks the
    destination (C-FIND) what it has and sends only the rest; results keep their UIDs, so nothing exists twice.

    Args:
        destination: Where to.
        deliveries: The ledger; the results were planned there.
        case_id: Whose results.
        now: Seconds since the epoch, for the record.
        calling_ae: Our AE title.

    Returns:
        The state, also when the destination failed; only a broken ledger raises.

    Raises:
        TakenOver: Another worker goes on with this delivery; nothing more was sent or recorded.
    """
    waiting = settle_commitment(destination, deliveries, case_id, now)
    if waiting is not None:
        return waiting
    attempt = _Attempt(destination, deliveries, now, calling_ae)
    rows = [row for row in deliveries.of_case(case_id, destination.name) if row.state in _UNFINISHED]
    repeated = any(row.state != "waiting" or row.attempts > 0 for row in rows)
    begun = [attempt.record(row, row.state, row.message, attempts=row.attempts + 1) for row in rows]
    try:
        attempt.make(begun, ask_first=_to_ask_for(destination, begun) if repeated else [])
    except DeliveryFailed as error:
        for row in deliveries.of_case(case_id, destination.name):
            if row.state in _UNFINISHED:
                given_up: State = "failed" if error.retryable else "refused"
                attempt.record(row, "stored" if row.state == "stored" else given_up, error.message)
    state = settle_commitment(destination, deliveries, case_id, now) or delivery_state(
        destination, deliveries.of_case(case_id, destination.name)
    )
    log.info("delivery attempt", case=case_id, destination=destination.name, outcome=state.outcome, why=state.reason)
    return state


def delivery_state(destination: DestinationTable, rows: Sequence[Delivery]) -> DeliveryState:
    """What the records of a case at a destination amount to.

    As long as one result may still get through, it is tried; a case is held when none may, or when every pause of
    ``retry_seconds`` has been used.
    """
    unfinished = [row for row in rows if row.state in _UNFINISHED]
    refused = [row for row in rows if row.state == "refused"]
    reason = "; ".join(dict.fromkeys(row.message or row.state for row in (*refused, *unfinished)))
    if unfinished:
        attempts = max(row.attempts for row in unfinished)
        if attempts == 0:
            return DeliveryState("retry", reason, 0.0)
        if attempts <= len(destination.retry_seconds):
            return DeliveryState("retry", reason, destination.retry_seconds[attempts - 1])
        return DeliveryState("held", f"given up after {attempts} attempts: {reason}")
    return DeliveryState("held", reason) if refused else DeliveryState("confirmed")


def settle_commitment(
    destination: DestinationTable, deliveries: Deliveries, case_id: str, now: float
) -> DeliveryState | None:
    """Take over what a destination reported about its storage commitment.

    Returns:
        How to wait, where everything that is left to do is to wait for the report; None otherwise.
    """
    rows = deliveries.of_case(case_id, destination.name)
    stored = [row for row in rows if row.state == "stored"]
    asked = deliveries.commitments.latest(case_id, destination.name) if destination.confirm == "commitment" else None
    if asked is None or not stored:
        return None
    for row in stored:
        if row.sop_instance_uid in asked.committed:
            deliveries.update(replace(row, state="confirmed", message="committed to", updated_at=now))
        elif row.sop_instance_uid in asked.failed:
            reason = failure_in_words(asked.failed[row.sop_instance_uid])
            message = f"the destination does not commit to it: {reason}"
            deliveries.update(replace(row, state="failed", message=message, updated_at=now))
    age = now - asked.asked_at
    is_all = len(stored) == len([row for row in rows if row.state in _UNFINISHED])
    if asked.reported_at is not None or age >= destination.commitment_seconds or not is_all:
        return None
    return DeliveryState("retry", "waits for the destination's storage commitment", _look_again_after(age))


def _look_again_after(age: float) -> float:
    """Seconds until the ledger is looked at again: soon at first, every five minutes after hours."""
    return min(300.0, max(2.0, age / 2))


def _to_ask_for(destination: DestinationTable, rows: Sequence[Delivery]) -> list[str]:
    """Instances that C-FIND is asked for before anything is sent again.

    Where commitment is wanted, those alone that were stored and not reported in time: what the destination does not
    commit to may well be listed.
    """
    if destination.confirm == "c-find":
        return [row.sop_instance_uid for row in rows]
    if destination.confirm == "commitment":
        return [row.sop_instance_uid for row in rows if row.state == "stored"]
    return []


@dataclass(frozen=True)
class _Attempt:
    destination: DestinationTable
    deliveries: Deliveries
    now: float
    calling_ae: str

    def record(
        self,
        row: Delivery,
        state: State,
        message: str | None,
        *,
        status: int | None = None,
        attempts: int | None = None,
    ) -> Delivery:
        changed = replace(
            row,
            state=state,
            message=message,
            status=row.status if status is None else status,
            attempts=row.attempts if attempts is None else attempts,
            updated_at=self.now,
        )
        self.deliveries.update(changed, *self._told(row, changed))
        return changed

    def _told(self, before: Delivery, after: Delivery) -> list[AuditEvent]:
        """What the audit trail has to tell of a change: that a result arrived, or was answered otherwise."""
        arrived = after.state in _ARRIVED and before.state not in _ARRIVED
        denied = after.state in {"failed", "refused"} and after.status not in {None, before.status}
        if not (arrived or denied):
            return []
        failure = "" if arrived else after.message or after.state
        sent = audit_facts.sent(self.destination, after.case_id, after.sop_class_uid, after.path, failure=failure)
        return [sent]

    def make(self, rows: Sequence[Delivery], *, ask_first: Sequence[str]) -> None:
        rows = self._one_segmentation(rows)
        references = {row.sop_instance_uid: self._reference(row) for row in rows}
        sendable = {row.sop_instance_uid: row for row in rows if references[row.sop_instance_uid] is not None}
        known = [reference for reference in references.values() if reference is not None]
        asked = [reference for reference in known if reference.sop_instance_uid in ask_first]
        there = self._confirm(asked) if asked else None
        for uid in [uid for uid, is_there in (there or {}).items() if is_there]:
            self.record(sendable.pop(uid), "confirmed", None)
        files = [Path(row.path) for row in sendable.values()]
        if sendable:
            instances = [(row.sop_class_uid, row.path) for row in sendable.values()]
            self.deliveries.tell(self.now, audit_facts.sending(self.destination, rows[0].case_id, instances))
        outcomes = send(self.destination, files, self.calling_ae, before_each=self.deliveries.require_claim)
        answered = [self._outcome(row, outcome) for row, outcome in zip(sendable.values(), outcomes, strict=True)]
        self._fall_back(answered)
        stored = {row.sop_instance_uid: row for row in answered if row.state == "stored"}
        self._confirm_stored(stored, [reference for reference in known if reference.sop_instance_uid in stored])

    def _one_segmentation(self, rows: Sequence[Delivery]) -> list[Delivery]:
        """Of a label map segmentation and a binary one of the same labels, that which the destination takes.

        A destination whose profile asks for label maps has both on record; it is asked once what it accepts.

        Raises:
            DeliveryFailed: It does not answer.
        """
        label_maps = [row for row in rows if row.sop_class_uid == LABEL_MAP_SEGMENTATION]
        binary = [row for row in rows if row.sop_class_uid == SEGMENTATION]
        if not label_maps or not binary:
            return list(rows)
        report = echo(self.destination, self.calling_ae)
        if not report.reachable:
            raise DeliveryFailed(report.reason)
        takes_label_maps = report.accepted[LABEL_MAP_SEGMENTATION]
        spared = binary if takes_label_maps else label_maps
        reason = "the label map segmentation" if takes_label_maps else "it takes no label map: the binary segmentation"
        for row in spared:
            self.record(row, "spared", f"{reason} goes instead")
        return [row for row in rows if row not in spared]

    def _fall_back(self, answered: Sequence[Delivery]) -> None:
        """Where a destination accepts label maps but refuses this one, the binary segmentation goes after all."""
        refused = [row for row in answered if row.state == "refused" and row.sop_class_uid == LABEL_MAP_SEGMENTATION]
        for label_map in refused:
            for row in self.deliveries.of_case(label_map.case_id, label_map.destination):
                if row.state == "spared" and row.sop_class_uid == SEGMENTATION:
                    self.record(row, "waiting", None, attempts=0)
                    self.record(label_map, "spared", f"{label_map.message}: the binary segmentation goes instead")

    def _confirm_stored(self, stored: dict[str, Delivery], references: Sequence[Reference]) -> None:
        """Ask after what was just stored; who offers no way to ask is believed by its C-STORE status."""
        if self.destination.confirm == "commitment" and stored and self._commitment_asked(list(stored.values())):
            return
        asked = self.destination.confirm != "c-store" and bool(stored)
        there = self._confirm(references) if asked else None
        for uid, row in stored.items():
            if there is None or there[uid]:
                self.record(row, "confirmed", row.message)
            else:
                self.record(row, "stored", "stored by the destination's word, but its C-FIND does not list it yet")

    def _confirm(self, references: Sequence[Reference]) -> dict[str, bool] | None:
        """Ask what the destination holds; the audit trail tells of it."""
        queries = [audit_facts.queried(self.destination, STUDY_ROOT_FIND, item.keys) for item in references]
        self.deliveries.tell(self.now, *queries)
        return confirm(self.destination, references, self.calling_ae)

    def _commitment_asked(self, stored: Sequence[Delivery]) -> bool:
        """Ask the destination to commit to what it stored; False where it offers no storage commitment.

        Raises:
            DeliveryFailed: It did not take the request.
        """
        commitments, where = self.deliveries.commitments, self.destination
        transaction_uid = f"2.25.{uuid4().int}"
        references = [ObjectReference(row.sop_class_uid, row.sop_instance_uid) for row in stored]
        commitments.ask(transaction_uid, stored[0].case_id, where.name, ae_title=where.ae_title, now=self.now)

        def take(report: Report) -> None:
            commitments.report(report, where.ae_title, self.now)

        is_taken = False
        try:
            is_taken = ask_commitment(where, transaction_uid, references, self.calling_ae, take)
        finally:
            if not is_taken:
                commitments.forget(transaction_uid)
        return is_taken

    def _outcome(self, row: Delivery, outcome: SendOutcome) -> Delivery:
        state: State = "stored" if outcome.ok else "failed" if outcome.retryable else "refused"
        return self.record(row, state, outcome.message or None, status=outcome.status)

    def _reference(self, row: Delivery) -> Reference | None:
        """How a query names a result; None, and the row refused, when its file cannot be read."""
        keys = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
        try:
            dataset = pydicom.dcmread(row.path, specific_tags=list(keys), stop_before_pixels=True)
            return Reference(*(str(dataset[key].value) for key in keys))
        except (OSError, InvalidDicomError, KeyError) as error:
            self.record(row, "refused", f"the result file {row.path} cannot be read ({error}); process the case again")
            return None
