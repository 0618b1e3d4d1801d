"""Who was not let in, for the audit trail: kept in memory, put on record every second, off the path of C-STORE.

Whoever floods the port must not flood the ledger: what repeats within a minute is told once, with how often it was, and
of different ones so many are told in a minute; what goes beyond is told as one.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.ledger.audit_facts import refused
from dicom_node.ledger.intake import Intake
from dicom_node.logs import get_logger
from dicom_node.receive.admission import Caller

log = get_logger("receive")
WINDOW_SECONDS: Final = 60.0
MOST_IN_A_WINDOW: Final = 20


@dataclass(frozen=True)
class _Refusal:
    what: str
    address: str
    reason: str
    calling_ae: str = ""


_FURTHER = _Refusal("association", "several", "further ones were refused within the same minute; the log names them")


class Alerts:
    """Refusals of one listener; a kill loses those of the last second, and how often others repeated."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[_Refusal] = Counter()
        self._told: set[_Refusal] = set()
        self._window_began = float("-inf")

    def association_refused(self, caller: Caller, reason: str) -> None:
        """Somebody whom no ``[[peer]]`` fits asked for an association."""
        self._count(_Refusal("association", caller.address, reason, caller.calling_ae.strip()))

    def handshake_failed(self, address: str, reason: str) -> None:
        """A TLS handshake failed."""
        self._count(_Refusal("TLS handshake", address, reason))

    def report(self, intake: Intake, now: float, *, at_once: bool = False) -> None:
        """Put on record what is new, and at the end of a minute what repeated; what cannot be recorded is kept."""
        with self._lock:
            if at_once or not 0 <= now - self._window_began < WINDOW_SECONDS:
                self._told, self._window_began = set(), now
            due = Counter({each: times for each, times in self._counts.items() if each not in self._told})
            for each in due:
                del self._counts[each]
            self._told |= set(due)
        try:
            intake.tell(now, *(refused(**vars(each), times=times) for each, times in due.items()))
        except SQLAlchemyError as error:
            log.warning("refusals not in the audit trail yet, trying again", error=type(error).__name__)
            with self._lock:
                self._counts.update(due)
                self._told -= set(due)

    def _count(self, refusal: _Refusal) -> None:
        with self._lock:
            known = self._told | set(self._counts)
            is_one_too_many = refusal not in known and len(known) >= MOST_IN_A_WINDOW
            self._counts[_FURTHER if is_one_too_many else refusal] += 1
