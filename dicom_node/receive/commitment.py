"""Storage commitment at the listener: reports of destinations come in, requests of senders are answered.

Both only reach the record (PS3.4 annex J, Push Model): the worker waits for the reports there, and answers the requests
over associations of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pydicom.dataset import Dataset
from pynetdicom import evt
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import InputRefused
from dicom_node.ledger.commitment_requests import CommitmentRequests
from dicom_node.ledger.commitments import Commitments
from dicom_node.logs import get_logger
from dicom_node.receive.admission import Caller
from dicom_node.receive.negotiation import caller_of
from dicom_node.receive.reporters import lack_of_origin
from dicom_node.settings import Settings
from dicom_node.storage_commitment import (
    DUPLICATE_TRANSACTION,
    REPORT_REFUSALS,
    REQUEST_ACTION,
    Report,
    read_report,
    read_request,
)

_log = get_logger("receive")
_Answer = tuple[int | Dataset, Dataset | None]
_SUCCESS, _PROCESSING_FAILURE, _INVALID_ARGUMENT, _NO_SUCH_ACTION = 0x0000, 0x0110, 0x0115, 0x0123


class CommitmentDesk:
    """Takes reports and requests.

    Args:
        commitments: What destinations were asked.
        requests: What senders ask.
        settings: Who may report what.
        now: The clock, in seconds since the epoch.
    """

    def __init__(
        self,
        commitments: Commitments,
        requests: CommitmentRequests,
        settings: Settings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._commitments = commitments
        self._requests = requests
        self._settings = settings
        self._now = now

    def on_report(self, event: evt.Event) -> _Answer:
        """N-EVENT-REPORT: a destination says what it committed to."""
        caller = caller_of(event.assoc)
        facts = {"calling_ae": caller.calling_ae.strip(), "address": caller.address}
        try:
            report = read_report(event.event_information)
            status, reason = self._take(report, caller)
        except InputRefused as refusal:
            _log.warning("commitment report refused", reason=refusal.message, **facts)
            return _INVALID_ARGUMENT, None
        except SQLAlchemyError as error:
            _log.exception("commitment report not recorded", error=type(error).__name__)
            return _PROCESSING_FAILURE, None
        facts["transaction"] = report.transaction_uid
        if reason:
            _log.warning("commitment report refused", reason=reason, **facts)
        else:
            _log.info("commitment report", committed=len(report.committed), failed=len(report.failed), **facts)
        return status, None

    def on_request(self, event: evt.Event) -> _Answer:
        """N-ACTION: a sender asks to have commitment reported to it."""
        facts = {"calling_ae": event.assoc.requestor.ae_title, "address": event.assoc.requestor.address}
        if event.action_type != REQUEST_ACTION:
            return _NO_SUCH_ACTION, None
        try:
            transaction_uid, references = read_request(event.action_information)
            taken = self._requests.take(transaction_uid, references, now=self._now(), **facts)
        except InputRefused as refusal:
            _log.warning("commitment request refused", reason=refusal.message, **facts)
            return _INVALID_ARGUMENT, None
        except SQLAlchemyError as error:
            _log.exception("commitment request not recorded", error=type(error).__name__)
            return _PROCESSING_FAILURE, None
        facts["transaction"] = transaction_uid
        if taken == "conflict":
            _log.warning("commitment request refused", reason="its transaction UID names other instances", **facts)
            return _duplicate(), None
        _log.info("commitment requested", instances=len(references), again=taken == "again", **facts)
        return _SUCCESS, None

    def _take(self, report: Report, caller: Caller) -> tuple[int, str]:
        """Record a report; the status to answer it with, and why it is refused."""
        asked = self._commitments.find(report.transaction_uid)
        if asked is not None and (lack := lack_of_origin(asked, caller, self._settings)):
            return REPORT_REFUSALS["foreign"][0], lack
        taken = self._commitments.report(report, caller.calling_ae, self._now())
        return REPORT_REFUSALS.get(taken, (_SUCCESS, ""))


def _duplicate() -> Dataset:
    """The answer to a transaction UID that is in use for other instances (PS3.3 C.14.1.1, PS3.4 J.3.2.1.3).

    It fails the N-ACTION: a report under that UID would be taken for the one on the instances it was used for first.
    """
    answer = Dataset()
    answer.Status = DUPLICATE_TRANSACTION
    answer.ErrorComment = "duplicate transaction UID: asked for other instances"
    return answer
