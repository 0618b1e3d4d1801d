"""What a listener counts: kept in memory, put on record every few seconds, off the path of C-STORE."""

from __future__ import annotations

import threading
from collections import Counter

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.ledger.counters import RECEIVED, RECEIVED_BYTES, REFUSED, REJECTED
from dicom_node.ledger.intake import Intake
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger("receive")
REPORT_SECONDS = 5.0
OTHER = "other"
"""Stands for the AE titles that no ``[[peer]]`` names: a stranger must not be able to make labels without end."""


class ReceptionCounts:
    """Counts of one listener; a kill loses what was counted since the last report.

    Args:
        settings: Whose AE titles may be named.
    """

    def __init__(self, settings: Settings) -> None:
        self._named = {peer.ae_title for peer in settings.peers} - {"*"}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._reported_at = float("-inf")

    def count_answer(self, status: int, calling_ae: str, size: int) -> None:
        """Count one answered C-STORE.

        Args:
            status: What was answered (PS3.4 B.2.3).
            calling_ae: Who sent it.
            size: Bytes of the data set.
        """
        label = calling_ae if calling_ae in self._named else OTHER
        with self._lock:
            if status == 0:
                self._counts[RECEIVED, label] += 1
                self._counts[RECEIVED_BYTES, label] += size
            else:
                self._counts[REFUSED, f"{status:04X}"] += 1

    def count_rejection(self, reason: int) -> None:
        """Count one rejected association, by its reason (PS3.8 Table 9-21)."""
        with self._lock:
            self._counts[REJECTED, str(reason)] += 1

    def report(self, intake: Intake, now: float, *, at_once: bool = False) -> None:
        """Put on record what was counted, and that this listener lives; what cannot be recorded is counted on."""
        if not at_once and 0 <= now - self._reported_at < REPORT_SECONDS:
            return
        with self._lock:
            counts, self._counts = self._counts, Counter()
        try:
            intake.report(counts, now)
            self._reported_at = now
        except SQLAlchemyError as error:
            log.warning("counts not recorded, trying again", error=type(error).__name__)
            with self._lock:
                self._counts.update(counts)
