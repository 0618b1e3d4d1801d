"""Results on their way: one attempt at one destination, every answer on record as it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.deliver.commitment_request import CommitmentRequest
from dicom_node.deliver.confirmation import Reference
from dicom_node.deliver.courier import Courier
from dicom_node.deliver.sender import SendOutcome
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger import audit_facts
from dicom_node.ledger.audit_events import AuditEvent
from dicom_node.ledger.deliveries import Deliveries, Delivery, State
from dicom_node.settings import Destination, DestinationTable
from dicom_node.uids import LABEL_MAP_SEGMENTATION, SEGMENTATION

NO_REPORT: Final = "no report of storage commitment came in time; C-FIND lists it"
UNFINISHED: Final = frozenset({"waiting", "failed", "stored"})
_UNLISTED: Final = "stored by the destination's word, but when it is asked for it is not there"
_ARRIVED: Final = frozenset({"stored", "confirmed"})


@dataclass(frozen=True)
class Attempt:
    """Sends what has to be sent, has it proved, and puts each answer on record as it comes.

    Attributes:
        destination: Where to.
        courier: Who brings it there.
        deliveries: The ledger, under the claim of the delivery.
        now: Seconds since the epoch, for the record.
        calling_ae: Our AE title.
    """

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
        """Put a change on record, with what the audit trail has to tell of it; the delivery as it is now."""
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
            if row.state in UNFINISHED and row.sop_instance_uid in tried:
                given_up: State = "failed" if error.retryable else "refused"
                self.record(row, "stored" if row.state == "stored" else given_up, error.message)

    def make(self, rows: Sequence[Delivery], ask_first: Mapping[str, State]) -> None:
        """Make it.

        Args:
            rows: What is due.
            ask_first: What the destination is asked for before anything is sent, and what its being listed makes of it.

        Raises:
            DeliveryFailed: It ended early; what was answered until then is on record.
        """
        rows = self._one_segmentation(rows)
        references = {row.sop_instance_uid: self._reference(row) for row in rows}
        known = {uid: reference for uid, reference in references.items() if reference is not None}
        sendable = {row.sop_instance_uid: row for row in rows if row.sop_instance_uid in known}
        asked = [reference for uid, reference in known.items() if uid in ask_first]
        there = self._confirm(asked) if asked else None
        listed = [uid for uid, is_there in (there or {}).items() if is_there]
        late = NO_REPORT if self.destination.proof == "commitment" else None
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
            return self.destination.proof != "query"
        return there is None and self.destination.proof == "query"

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
        there = self._confirm(queries) if self.destination.proof != "answer" else None
        for uid, row in stored.items():
            if there is None or there[uid]:
                self.record(row, "confirmed", row.message)
            elif uid in now:
                self.record(row, "stored", f"{_UNLISTED} yet")
            else:
                self.record(row, "failed", _UNLISTED)

    def _find(self, unsure: Sequence[Delivery], references: Mapping[str, Reference]) -> None:
        """Ask for what may be there though its answer does not say so; what is not listed is tried again."""
        if not unsure or self.destination.proof == "answer":
            return
        there = self._confirm([references[row.sop_instance_uid] for row in unsure]) or {}
        for row in unsure:
            if there.get(row.sop_instance_uid):
                self.record(row, "confirmed", None)

    def _confirm(self, references: Sequence[Reference]) -> dict[str, bool] | None:
        """Ask what the destination holds; the audit trail tells of it."""
        self.deliveries.tell(self.now, *(self.courier.query(item) for item in references))
        return self.courier.confirm(references)

    def _commitment_asked(self, stored: Sequence[Delivery]) -> bool:
        """Ask the destination to commit to what it stored; False where it has to be asked what it has instead.

        Raises:
            DeliveryFailed: It did not take the request.
        """
        if not isinstance(self.destination, DestinationTable) or self.destination.proof != "commitment":
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
