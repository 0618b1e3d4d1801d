"""Storage commitment SCP, its second half: senders are told what this node has of what they asked for.

A report goes out over an association to the sender, at the port of its ``[[peer]]`` entry, and is tried again for hours
until it gets through (PS3.4 annex J, Push Model).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.deliver.commitment import send_report
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger.commitment_requests import CommitmentRequest, CommitmentRequests
from dicom_node.ledger.intake import Intake
from dicom_node.logs import get_logger
from dicom_node.settings import Settings
from dicom_node.storage_commitment import CLASS_CONFLICT, NO_SUCH_INSTANCE, Reference, Report
from dicom_node.worker.delivery_run import sender_destination

_log = get_logger("worker")
PAUSES: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
LOOK_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 300.0
"""A worker that dies over a report keeps the others from it for this long."""


class CommitmentReports:
    """Reports to senders.

    Args:
        requests: What senders ask.
        intake: What is on record.
        settings: Our AE title, and the ports of the peers.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, requests: CommitmentRequests, intake: Intake, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self._requests = requests
        self._intake = intake
        self._settings = settings
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Report until told to stop; a thread of its own, so that a silent sender delays nothing else."""
        while not stop.wait(LOOK_SECONDS):
            try:
                self.report_due()
            except (SQLAlchemyError, OSError):
                _log.exception("requests for commitment cannot be looked at; trying again")

    def report_due(self) -> None:
        """Report on every request that is due."""
        while (request := self._requests.claim_due(self._clock(), LEASE_SECONDS)) is not None:
            self._report(request)

    def report_on(self, request: CommitmentRequest) -> Report:
        """What is there of what a sender asks for: on record, and its file whole by its size."""
        outcomes = {reference: self._failure(reference) for reference in request.references}
        committed = tuple(reference for reference, failure in outcomes.items() if failure is None)
        failed = {reference: failure for reference, failure in outcomes.items() if failure is not None}
        return Report(request.transaction_uid, committed, failed)

    def _failure(self, reference: Reference) -> int | None:
        known = self._intake.find(reference.sop_instance_uid)
        if known is None:
            return NO_SUCH_INSTANCE
        if known.sop_class_uid != reference.sop_class_uid:
            return CLASS_CONFLICT
        path = Path(known.path)
        return None if path.is_file() and path.stat().st_size == known.size else NO_SUCH_INSTANCE

    def _report(self, request: CommitmentRequest) -> None:
        facts = {"calling_ae": request.calling_ae, "transaction": request.transaction_uid}
        report = self.report_on(request)
        try:
            sender = sender_destination(self._settings, request.calling_ae, request.address)
            send_report(sender, report, self._settings.node.ae_title)
        except DeliveryFailed as error:
            is_last = request.attempts >= len(PAUSES)
            next_at = None if is_last else self._clock() + PAUSES[request.attempts]
            self._requests.note(request, next_at=next_at, message=error.message)
            _log.warning("commitment not reported", reason=error.message, given_up=is_last, **facts)
        else:
            self._requests.note(request, next_at=None, message=None)
            counts = {"committed": len(report.committed), "failed": len(report.failed)}
            _log.info("commitment reported", **counts, **facts)
