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
from dicom_node.storage_commitment import REQUEST_ACTION, read_report, read_request

_log = get_logger("receive")
_Answer = tuple[int, Dataset | None]
_SUCCESS, _PROCESSING_FAILURE, _INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115
_NO_SUCH_ACTION, _NOT_AUTHORISED = 0x0123, 0x0124


class CommitmentDesk:
    """Takes reports and requests.

    Args:
        commitments: What destinations were asked.
        requests: What senders ask.
        now: The clock, in seconds since the epoch.
    """

    def __init__(
        self, commitments: Commitments, requests: CommitmentRequests, now: Callable[[], float] = time.time
    ) -> None:
        self._commitments = commitments
        self._requests = requests
        self._now = now

    def on_report(self, event: evt.Event) -> _Answer:
        """N-EVENT-REPORT: a destination says what it committed to."""
        calling_ae, address = event.assoc.requestor.ae_title, event.assoc.requestor.address
        try:
            report = read_report(event.event_information)
            taken = self._commitments.report(report, calling_ae, self._now())
        except InputRefused as refusal:
            _log.warning("commitment report refused", reason=refusal.message, calling_ae=calling_ae, address=address)
            return _INVALID_ARGUMENT, None
        except SQLAlchemyError as error:
            _log.exception("commitment report not recorded", error=type(error).__name__)
            return _PROCESSING_FAILURE, None
        facts = {"transaction": report.transaction_uid, "calling_ae": calling_ae, "address": address}
        if taken in {"unknown", "foreign"}:
            reason = "nobody was asked this" if taken == "unknown" else "somebody else was asked this"
            _log.warning("commitment report refused", reason=reason, **facts)
            return (_PROCESSING_FAILURE if taken == "unknown" else _NOT_AUTHORISED), None
        _log.info("commitment report", committed=len(report.committed), failed=len(report.failed), **facts)
        return _SUCCESS, None

    def on_request(self, event: evt.Event) -> _Answer:
        """N-ACTION: a sender asks to have commitment reported to it."""
        calling_ae, address = event.assoc.requestor.ae_title, event.assoc.requestor.address
        if event.action_type != REQUEST_ACTION:
            return _NO_SUCH_ACTION, None
        try:
            transaction_uid, references = read_request(event.action_information)
            self._requests.take(transaction_uid, references, calling_ae=calling_ae, address=address, now=self._now())
        except InputRefused as refusal:
            _log.warning("commitment request refused", reason=refusal.message, calling_ae=calling_ae, address=address)
            return _INVALID_ARGUMENT, None
        except SQLAlchemyError as error:
            _log.exception("commitment request not recorded", error=type(error).__name__)
            return _PROCESSING_FAILURE, None
        _log.info("commitment requested", instances=len(references), calling_ae=calling_ae, address=address)
        return _SUCCESS, None
