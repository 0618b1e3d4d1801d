"""Storage commitment SCP, its second half: senders are told what this node has of what they asked for.

A report goes out over an association to the sender, at the port of its ``[[peer]]`` entry, and is tried again for hours
until it gets through (PS3.4 annex J, Push Model). Each sender has a thread of its own: one that does not answer delays
no other.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.deliver.commitment import send_report
from dicom_node.errors import DeliveryFailed
from dicom_node.ledger.commitment_requests import CommitmentRequest, CommitmentRequests, Sender
from dicom_node.ledger.intake import Instance, Intake
from dicom_node.logs import get_logger
from dicom_node.outages import LOOK_AGAIN_SECONDS, outage_of
from dicom_node.settings import Settings
from dicom_node.storage_commitment import CLASS_CONFLICT, NO_SUCH_INSTANCE, PROCESSING_FAILURE, Reference, Report
from dicom_node.worker.delivery_run import sender_destination

_log = get_logger("worker")
PAUSES: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
LOOK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 30.0
"""How long a sender may take over each answer."""
SENDERS_AT_ONCE: Final = 16
LEASE_SECONDS: Final = 900.0
"""A worker that dies over a report keeps the others from it for this long; while it reads, it renews the lease."""


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
        self._telling: dict[Sender, threading.Thread] = {}

    def run(self, stop: threading.Event) -> None:
        """Report until told to stop."""
        pause = LOOK_SECONDS
        while not stop.wait(pause):
            pause = LOOK_SECONDS
            try:
                self.begin_due()
            except Exception as error:  # noqa: BLE001 - nobody starts this thread again: no thread left, a busy ledger, all pass
                if (reason := outage_of(error)) is None:
                    _log.exception("requests for commitment cannot be looked at; trying again")
                else:
                    _log.warning("waiting", reason=reason, seconds=LOOK_AGAIN_SECONDS)
                    pause = LOOK_AGAIN_SECONDS

    def report_due(self) -> None:
        """Report on every request that is due; returns once all senders have been told or given up for now."""
        for thread in self.begin_due():
            thread.join()

    def begin_due(self) -> tuple[threading.Thread, ...]:
        """Begin to tell each sender that waits for a report and is not being told already; returns all that run."""
        self._telling = {sender: thread for sender, thread in self._telling.items() if thread.is_alive()}
        for sender in self._requests.senders_due(self._clock()):
            if sender not in self._telling and len(self._telling) < SENDERS_AT_ONCE:
                name = f"commitment to {sender.calling_ae}"
                thread = threading.Thread(target=self._tell, args=(sender,), name=name, daemon=True)
                self._telling[sender] = thread
                thread.start()
        return tuple(self._telling.values())

    def report_on(self, request: CommitmentRequest, *, before_each: Callable[[], object] = lambda: None) -> Report:
        """What is there of what a sender asks for: on record, and its file the one that was acknowledged.

        Args:
            request: What it asks for.
            before_each: Called before each file is read.
        """
        outcomes: dict[Reference, int | None] = {}
        for reference in request.references:
            before_each()
            outcomes[reference] = self._failure(reference)
        committed = tuple(reference for reference, failure in outcomes.items() if failure is None)
        failed = {reference: failure for reference, failure in outcomes.items() if failure is not None}
        return Report(request.transaction_uid, committed, failed)

    def _tell(self, sender: Sender) -> None:
        try:
            while (request := self._requests.claim_due(sender, self._clock(), LEASE_SECONDS)) is not None:
                if not self._report(request):
                    return
        except (SQLAlchemyError, OSError) as error:
            if (reason := outage_of(error)) is None:
                _log.exception("commitment not reported; trying again", calling_ae=sender.calling_ae)
            else:
                _log.warning("waiting", reason=reason, calling_ae=sender.calling_ae)

    def _failure(self, reference: Reference) -> int | None:
        """Failure reason of an instance (PS3.3 C.14.1.1); None where it is committed to."""
        known = self._intake.find(reference.sop_instance_uid)
        if known is None:
            return NO_SUCH_INSTANCE
        if known.sop_class_uid != reference.sop_class_uid:
            return CLASS_CONFLICT
        try:
            if _is_as_received(known):
                return None
        except FileNotFoundError:
            return NO_SUCH_INSTANCE
        except OSError:
            _log.exception("the file of an image cannot be read", path=known.path)
            return PROCESSING_FAILURE
        _log.error("the file of an image is not what was received", path=known.path)
        return PROCESSING_FAILURE

    def _report(self, request: CommitmentRequest) -> bool:
        """Send one report; False where the sender could not be told."""
        facts = {"calling_ae": request.sender.calling_ae, "transaction": request.transaction_uid}
        lease = _Lease(self._requests, request, self._clock)
        report = self.report_on(request, before_each=lease.keep)
        request = lease.keep()
        try:
            sender = sender_destination(self._settings, request.sender.calling_ae, request.sender.address)
            limited = sender.model_copy(update={"timeout_seconds": ANSWER_SECONDS})
            send_report(limited, report, self._settings.node.ae_title)
        except DeliveryFailed as error:
            is_last = request.attempts >= len(PAUSES)
            pause = PAUSES[min(request.attempts, len(PAUSES) - 1)]
            next_at = None if is_last else self._clock() + pause
            self._requests.note(request, next_at=next_at, message=error.message)
            self._requests.postpone(request.sender, self._clock(), self._clock() + PAUSES[0])
            _log.warning("commitment not reported", reason=error.message, given_up=is_last, **facts)
            return False
        self._requests.note(request, next_at=None, message=None)
        counts = {"committed": len(report.committed), "failed": len(report.failed)}
        _log.info("commitment reported", **counts, **facts)
        return True


class _Lease:
    """Keeps a request from other workers while its files are read, however long that takes.

    One that was asked again meanwhile is due again, and is reported on as it is.
    """

    def __init__(self, requests: CommitmentRequests, request: CommitmentRequest, clock: Callable[[], float]) -> None:
        self._requests = requests
        self._request = request
        self._clock = clock

    def keep(self) -> CommitmentRequest:
        """The request, its lease renewed once half of it is over."""
        now = self._clock()
        if now >= self._request.leased_until - LEASE_SECONDS / 2:
            self._request = self._requests.renew(self._request, now + LEASE_SECONDS)
        return self._request


def _is_as_received(known: Instance) -> bool:
    """Whether a file has the bytes that were acknowledged."""
    path = Path(known.path)
    if path.stat().st_size != known.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == known.sha256
