"""One attempt to bring the results of a case to a destination, recorded so that the next one goes on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeGuard

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.deliver.commitment_request import CommitmentRequest
from dicom_node.deliver.confirmation import Reference
from dicom_node.deliver.courier import Courier, courier_to
from dicom_node.deliver.sender import SendOutcome
from dicom_node.deliver.standing import Standing, standing_of
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger import audit_facts
from dicom_node.ledger.audit_events import AuditEvent
from dicom_node.ledger.deliveries import Deliveries, Delivery, State
from dicom_node.logs import get_logger
from dicom_node.settings import Destination, DestinationTable
from dicom_node.storage_commitment import failure_in_words
from dicom_node.uids import LABEL_MAP_SEGMENTATION, SEGMENTATION, STUDY_ROOT_FIND

log = get_logger("deliver")

NO_REPORT = "no report of storage commitment came in time; C-FIND lists it"
_UNLISTED = "stored by the destination's word, but when it is asked for it is not there"
_QUERIED, _BELIEVED = frozenset({"c-find", "qido-rs"}), frozenset({"c-store", "stow-rs"})
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
    destination: Destination, deliveries: Deliveries, case_id: str, now: float, *, calling_ae: str
) -> DeliveryState:
    """Make one attempt.

    The attempt is on record before anything is sent. After a crash in its middle the next one therefore asks the
    destination (C-FIND, QIDO-RS) what it has and sends only the rest; results keep their UIDs, so nothing exists twice.

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
    standing = settle_commitment(destination, deliveries, case_id, now)
    unfinished = [row for row in deliveries.of_case(case_id, destination.name) if row.state in _UNFINISHED]
    rows = [row for row in unfinished if not standing.is_awaited(row)]
    if unfinished and not rows:
        return _wait(destination, standing, now)
    attempt = _Attempt(destination, courier_to(destination, calling_ae), deliveries, now, calling_ae)
    ask_first = _to_ask_for(destination, rows, standing)
    begun = [attempt.record(row, row.state, row.message, attempts=row.attempts + 1) for row in rows]
    try:
        attempt.make(begun, ask_first)
    except DeliveryFailed as error:
        attempt.note_failure(begun, error)
    state = _state_after(destination, deliveries, case_id, now)
    log.info("delivery attempt", case=case_id, destination=destination.name, outcome=state.outcome, why=state.reason)
    return state


def _state_after(destination: Destination, deliveries: Deliveries, case_id: str, now: float) -> DeliveryState:
    """How the delivery goes on; what has used up its attempts is given up while reports for the rest are awaited."""
    standing = settle_commitment(destination, deliveries, case_id, now)
    rows = [row for row in deliveries.of_case(case_id, destination.name) if not standing.is_awaited(row)]
    state = delivery_state(destination, rows)
    if not standing.awaited or state.outcome == "retry":
        return state
    for row in rows:
        if row.state in _UNFINISHED:
            deliveries.update(replace(row, state="refused", message=state.reason, updated_at=now))
    return _wait(destination, standing, now)


def _wait(destination: Destination, standing: Standing, now: float) -> DeliveryState:
    pause = standing.look_again_after(now, _patience(destination))
    return DeliveryState("retry", "waits for the destination's storage commitment", pause)


def delivery_state(destination: Destination, rows: Sequence[Delivery]) -> DeliveryState:
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


def settle_commitment(destination: Destination, deliveries: Deliveries, case_id: str, now: float) -> Standing:
    """Put on record what a destination reported about its storage commitment; returns where the rest stands."""
    if not _wants_commitment(destination):
        return Standing()
    rows = deliveries.of_case(case_id, destination.name)
    asked = deliveries.commitments.of_case(case_id, destination.name)
    standing = standing_of(rows, asked, now, _patience(destination))
    for row in rows:
        if row.sop_instance_uid in standing.committed:
            deliveries.update(replace(row, state="confirmed", message="committed to", updated_at=now))
        elif row.state == "stored" and standing.is_uncommitted(row):
            reason = failure_in_words((standing.uncommitted or {})[row.sop_instance_uid])
            message = f"the destination does not commit to it: {reason}"
            deliveries.update(replace(row, state="failed", message=message, updated_at=now))
    return standing


def _wants_commitment(destination: Destination) -> TypeGuard[DestinationTable]:
    return destination.confirm in {"commitment", "auto"}


def _patience(destination: Destination) -> float:
    """Seconds that a report of storage commitment may take."""
    return destination.commitment_seconds if isinstance(destination, DestinationTable) else 0.0


def _to_ask_for(destination: Destination, rows: Sequence[Delivery], standing: Standing) -> dict[str, State]:
    """Instances that C-FIND is asked for before anything is sent again, and what their being listed makes of them.

    Where commitment is wanted, the query proves only what was reported on too late; anything else that is listed is
    stored, and commitment has yet to be asked for. What the destination does not commit to is sent again unasked: it
    may well be listed.
    """
    if destination.confirm in _QUERIED:
        is_repeated = any(row.state != "waiting" or row.attempts > 0 for row in rows)
        return dict.fromkeys((row.sop_instance_uid for row in rows), "confirmed") if is_repeated else {}
    if not _wants_commitment(destination):
        return {}
    sent: dict[str, State] = {
        row.sop_instance_uid: "stored"
        for row in rows
        if row.state == "failed" or (row.state == "waiting" and row.attempts > 0)
        if not standing.is_uncommitted(row)
    }
    return {**sent, **dict.fromkeys(standing.overdue, "confirmed")}


@dataclass(frozen=True)
class _Attempt:
    destination: Destination
    courier: Courier
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

    def note_failure(self, rows: Sequence[Delivery], error: DeliveryFailed) -> None:
        """Note why an attempt at some results ended early."""
        tried = {row.sop_instance_uid for row in rows}
        for row in self.deliveries.of_case(rows[0].case_id, self.destination.name):
            if row.state in _UNFINISHED and row.sop_instance_uid in tried:
                given_up: State = "failed" if error.retryable else "refused"
                self.record(row, "stored" if row.state == "stored" else given_up, error.message)

    def make(self, rows: Sequence[Delivery], ask_first: Mapping[str, State]) -> None:
        rows = self._one_segmentation(rows)
        references = {row.sop_instance_uid: self._reference(row) for row in rows}
        known = {uid: reference for uid, reference in references.items() if reference is not None}
        sendable = {row.sop_instance_uid: row for row in rows if row.sop_instance_uid in known}
        asked = [reference for uid, reference in known.items() if uid in ask_first]
        there = self._confirm(asked) if asked else None
        listed = [uid for uid, is_there in (there or {}).items() if is_there]
        late = NO_REPORT if _wants_commitment(self.destination) else None
        found = [
            self.record(sendable.pop(uid), ask_first[uid], late if ask_first[uid] == "confirmed" else None)
            for uid in listed
        ]
        unproved = {row.sop_instance_uid: row for row in found if row.state == "stored"}
        # stored, and nobody says that it is not there: it is proved as far as may be, and not sent again
        of_before = [
            uid for uid, row in sendable.items() if row.state == "stored" and self._is_left(uid, ask_first, there)
        ]
        unproved |= {uid: sendable.pop(uid) for uid in of_before}
        files = [Path(row.path) for row in sendable.values()]
        if sendable:
            instances = [(row.sop_class_uid, row.path) for row in sendable.values()]
            self.deliveries.tell(self.now, audit_facts.sending(self.destination, rows[0].case_id, instances))
        outcomes = self.courier.send(files, before_each=self.deliveries.require_claim)
        answered = [self._outcome(row, outcome) for row, outcome in zip(sendable.values(), outcomes, strict=True)]
        self._fall_back(answered)
        self._find([row for row, outcome in zip(answered, outcomes, strict=True) if outcome.is_unsure], known)
        self._prove(unproved, {row.sop_instance_uid: row for row in answered if row.state == "stored"}, known)

    def _is_left(self, uid: str, ask_first: Mapping[str, State], there: Mapping[str, bool] | None) -> bool:
        """Whether a result of an earlier attempt is neither looked for by a query nor missed by one."""
        if uid not in ask_first:
            return self.destination.confirm not in _QUERIED
        return there is None and self.destination.confirm in _QUERIED

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
        report = self.courier.echo()
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

    def _prove(
        self, before: Mapping[str, Delivery], now: Mapping[str, Delivery], references: Mapping[str, Reference]
    ) -> None:
        """Have proved what is stored; who offers no way to ask is believed by its answer to what was sent.

        Args:
            before: Stored by an earlier attempt, by UID.
            now: Stored by this one.
            references: How a query names each.
        """
        stored = {**before, **now}
        if not stored or self._commitment_asked(list(stored.values())):
            return
        queries = [references[uid] for uid in stored]
        there = self._confirm(queries) if self.destination.confirm not in _BELIEVED else None
        for uid, row in stored.items():
            if there is None or there[uid]:
                self.record(row, "confirmed", row.message)
            elif uid in now:
                self.record(row, "stored", f"{_UNLISTED} yet")
            else:
                self.record(row, "failed", _UNLISTED)

    def _find(self, unsure: Sequence[Delivery], references: Mapping[str, Reference]) -> None:
        """Ask for what may be there though its answer does not say so; what is not listed is tried again."""
        if not unsure or self.destination.confirm in _BELIEVED:
            return
        there = self._confirm([references[row.sop_instance_uid] for row in unsure]) or {}
        for row in unsure:
            if there.get(row.sop_instance_uid):
                self.record(row, "confirmed", None)

    def _confirm(self, references: Sequence[Reference]) -> dict[str, bool] | None:
        """Ask what the destination holds; the audit trail tells of it."""
        queries = [audit_facts.queried(self.destination, STUDY_ROOT_FIND, item.keys) for item in references]
        self.deliveries.tell(self.now, *queries)
        return self.courier.confirm(references)

    def _commitment_asked(self, stored: Sequence[Delivery]) -> bool:
        """Ask the destination to commit to what it stored; False where it has to be asked what it has instead.

        Raises:
            DeliveryFailed: It did not take the request.
        """
        if not _wants_commitment(self.destination):
            return False
        request = CommitmentRequest(self.destination, self.deliveries, self.now, self.calling_ae)
        answer = request.make(stored)
        if answer.kind == "refused" and self.destination.confirm == "commitment":
            raise DeliveryFailed(answer.message)
        return answer.kind == "taken"

    def _outcome(self, row: Delivery, outcome: SendOutcome) -> Delivery:
        state: State = "stored" if outcome.ok else "failed" if outcome.retryable else "refused"
        status = None if outcome.is_unsure else outcome.status  # an answer to something else, perhaps
        return self.record(row, state, outcome.message or None, status=status)

    def _reference(self, row: Delivery) -> Reference | None:
        """How a query names a result; None, and the row refused, when its file cannot be read."""
        keys = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
        try:
            dataset = pydicom.dcmread(row.path, specific_tags=list(keys), stop_before_pixels=True)
            return Reference(*(str(dataset[key].value) for key in keys))
        except (OSError, InvalidDicomError, KeyError) as error:
            self.record(row, "refused", f"the result file {row.path} cannot be read ({error}); process the case again")
            return None
