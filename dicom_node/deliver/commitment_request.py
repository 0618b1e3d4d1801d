"""One request for storage commitment, recorded before it leaves, so that a restart sends it again under the same UID.

The transaction UID derives from the case, the destination, how many transactions there were before, and the instances.
A request whose answer is not known (a kill, a broken connection) is the same question and keeps its UID: who took it
recognises it. After a report, a refusal or a report that is overdue another question is asked, under another UID: none
is used for two transactions (PS3.4 J.3.2.1.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.deliver.commitment import Answer, ask_commitment
from dicom_node.deliver.peer_words import without_patient
from dicom_node.ledger.commitments import Commitment
from dicom_node.ledger.deliveries import Deliveries, Delivery
from dicom_node.logs import get_logger
from dicom_node.settings import DestinationTable
from dicom_node.storage_commitment import REPORT_REFUSALS, Reference, Report
from dicom_node.uids import derived_uid

_log = get_logger("deliver")
_SUCCESS = 0x0000


@dataclass(frozen=True)
class CommitmentRequest:
    """Asks one destination to commit to results of one case.

    Attributes:
        destination: Whom to ask.
        deliveries: The ledger, under the claim of the delivery.
        now: Seconds since the epoch, for the record.
        calling_ae: Our AE title.
    """

    destination: DestinationTable
    deliveries: Deliveries
    now: float
    calling_ae: str

    def make(self, stored: Sequence[Delivery]) -> Answer:
        """Ask for some results of a case.

        Returns:
            The first answer that is no Success, else ``taken``.

        Raises:
            DeliveryFailed: No association, or no answer; what was asked stays on record and is asked again.
            TakenOver: Another worker goes on with the delivery; nothing was sent.
        """
        rows = {row.sop_instance_uid: row for row in stored}
        for commitment in (*self._unanswered(rows), *self._new(rows)):
            answer = self._ask(commitment, rows)
            if answer.kind != "taken":
                return answer
        return Answer("taken")

    def _unanswered(self, rows: dict[str, Delivery]) -> list[Commitment]:
        """Requests on record of which nobody knows whether they left this node, for these results and no others."""
        case_id = next(iter(rows.values())).case_id
        where = (self.destination.ae_title, self.destination.host)
        return [
            each
            for each in self.deliveries.commitments.of_case(case_id, self.destination.name)
            if each.is_open and each.taken_at is None and (each.ae_title, each.host) == where
            if each.instances and set(each.instances) <= set(rows)
        ]

    def _new(self, rows: dict[str, Delivery]) -> list[Commitment]:
        """The request for those results that no unanswered one names."""
        named = {uid for each in self._unanswered(rows) for uid in each.instances or ()}
        instances = sorted(set(rows) - named)
        if not instances:
            return []
        case_id = rows[instances[0]].case_id
        number = len(self.deliveries.commitments.of_case(case_id, self.destination.name))
        role = "/".join(["commitment", self.destination.name, str(number), *instances])
        return [
            Commitment(
                derived_uid(case_id, role),
                case_id,
                self.destination.name,
                self.destination.ae_title,
                self.now,
                host=self.destination.host,
                instances=instances,
            )
        ]

    def _ask(self, commitment: Commitment, rows: dict[str, Delivery]) -> Answer:
        commitments, uid = self.deliveries.commitments, commitment.transaction_uid
        references = [Reference(rows[each].sop_class_uid, each) for each in commitment.instances or ()]
        self.deliveries.require_claim()
        is_new = commitments.ask(commitment)
        answer = ask_commitment(self.destination, uid, references, self.calling_ae, self._take)
        if answer.kind == "taken":
            commitments.note_taken(uid, self.now)
        elif answer.kind == "refused" or not is_new:
            commitments.note_refused(uid, self.now)
        else:
            commitments.forget(uid)
        comment = without_patient(answer.comment, Path(next(iter(rows.values())).path))
        return replace(answer, message=f"{answer.message}: {comment}") if comment else answer

    def _take(self, report: Report) -> int:
        """Record a report that comes over the association that asks; the status to answer it with."""
        taken = self.deliveries.commitments.report(report, self.destination.ae_title, self.now)
        if taken not in REPORT_REFUSALS:
            return _SUCCESS
        status, reason = REPORT_REFUSALS[taken]
        facts = {"transaction": report.transaction_uid, "destination": self.destination.name}
        _log.warning("commitment report refused", reason=reason, **facts)
        return status
