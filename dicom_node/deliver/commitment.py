"""Storage commitment over associations of ours: requests to destinations, reports to senders (PS3.4 annex J)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.presentation import build_context, build_role

from dicom_node.deliver.association import accepted_syntaxes, open_association
from dicom_node.deliver.sender import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicom_node.errors import DeliveryFailed, InputRefused
from dicom_node.settings import DestinationTable
from dicom_node.storage_commitment import (
    REQUEST_ACTION,
    Reference,
    Report,
    read_report,
    report_information,
    request_information,
)
from dicom_node.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE

REPORT_SECONDS: Final = 3.0
"""How long the association stays open for a report; one that comes later comes over an association of the peer's."""
_SUCCESS, _INVALID_ARGUMENT = 0x0000, 0x0115


@dataclass(frozen=True)
class Answer:
    """What became of a request for storage commitment.

    Attributes:
        kind: ``taken`` (a report will come, or has come), ``refused`` (the destination does not process it), or ``not
            offered`` (it has no storage commitment; nothing was sent).
        message: Why it was refused, in words.
        comment: What the destination said beside it, as it came.
    """

    kind: Literal["taken", "refused", "not offered"]
    message: str = ""
    comment: str = ""


def ask_commitment(
    destination: DestinationTable,
    transaction_uid: str,
    references: Sequence[Reference],
    calling_ae: str,
    on_report: Callable[[Report], int],
) -> Answer:
    """Ask a destination to commit to instances.

    Args:
        destination: Whom to ask.
        transaction_uid: New for each request; the same where one that was not answered is sent again.
        references: What it stored.
        calling_ae: Our AE title.
        on_report: Called, in another thread, with a report that comes while the association is open; returns the status
            to answer it with.

    Raises:
        DeliveryFailed: No association, or the request was not answered: whether it was taken is not known.
        DeliveryRefused: The association was rejected for good.
    """
    reported = threading.Event()

    def take(event: evt.Event) -> tuple[int, Dataset | None]:
        try:
            report = read_report(event.event_information)
        except InputRefused:
            return _INVALID_ARGUMENT, None
        status = on_report(report)
        if report.transaction_uid == transaction_uid:
            reported.set()
        return status, None

    contexts = [build_context(STORAGE_COMMITMENT, [EXPLICIT_LITTLE, IMPLICIT_LITTLE])]
    handlers = [(evt.EVT_N_EVENT_REPORT, take)]
    with open_association(destination, contexts, calling_ae, handlers=handlers) as association:
        if STORAGE_COMMITMENT not in accepted_syntaxes(association):
            return Answer("not offered")
        information = request_information(transaction_uid, references)
        answer, _ = association.send_n_action(
            information, REQUEST_ACTION, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
        )
        if "Status" not in answer:
            raise DeliveryFailed("the destination did not answer the request for storage commitment in time")
        if answer.Status != _SUCCESS:
            words = f"the destination refused storage commitment: N-ACTION status {answer.Status:04X}"
            return Answer("refused", words, str(answer.get("ErrorComment", "") or ""))
        reported.wait(min(REPORT_SECONDS, destination.timeout_seconds / 2))  # before it counts as idle
    return Answer("taken")


def send_report(sender: DestinationTable, report: Report, calling_ae: str) -> None:
    """Report to who asked this node to commit.

    We open the association and yet are the SCP of the class, which role selection says.

    Raises:
        DeliveryFailed: No association, or the report was not taken.
    """
    contexts = [build_context(STORAGE_COMMITMENT, [EXPLICIT_LITTLE, IMPLICIT_LITTLE])]
    role = build_role(UID(STORAGE_COMMITMENT), scp_role=True)
    with open_association(sender, contexts, calling_ae, roles=[role]) as association:
        if STORAGE_COMMITMENT not in accepted_syntaxes(association):
            raise DeliveryFailed(f"{sender.ae_title} takes no reports of storage commitment at port {sender.port}")
        answer, _ = association.send_n_event_report(
            report_information(report), report.event_type, UID(STORAGE_COMMITMENT), UID(STORAGE_COMMITMENT_INSTANCE)
        )
        status = answer.get("Status")
        if status != _SUCCESS:
            words = "nothing" if status is None else f"{status:04X}"
            raise DeliveryFailed(f"{sender.ae_title} answered {words} to a report of storage commitment")
