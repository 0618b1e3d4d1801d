"""The open associations of a listener, and their record in the ledger.

An association is put on record when it first stores an instance, and its end is put on record however it ends. A series
counts as quiet only when nobody is sending to it any more, so an end that could not be recorded (database locked) is
tried again until it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.ledger.intake import Association, Intake
from dicom_node.logs import get_logger

log = get_logger("receive")


@dataclass
class _Entry:
    association: Association
    alive: Callable[[], bool]
    lock: threading.Lock = field(default_factory=threading.Lock)
    on_record: bool = False
    ended: bool = False


class OpenAssociations:
    """Which associations are open, by any key that identifies the connection.

    Args:
        intake: Where they are recorded.
        listener: Name of this listener in the ledger.
        now: The clock, in seconds since the epoch.
    """

    def __init__(self, intake: Intake, listener: str, now: Callable[[], float]) -> None:
        self._intake = intake
        self._listener = listener
        self._now = now
        self._entries: dict[object, _Entry] = {}
        self._lock = threading.Lock()

    def begin(self, key: object, *, calling_ae: str, address: str, alive: Callable[[], bool]) -> None:
        """An association was accepted; nothing is written yet.

        Args:
            key: What identifies the connection.
            calling_ae: Who calls.
            address: From where.
            alive: Whether the thread that serves it still runs.
        """
        association = Association(str(uuid4()), self._listener, calling_ae, address, self._now())
        with self._lock:
            self._entries[key] = _Entry(association, alive)

    def on_record(self, key: object) -> Association:
        """The association of a connection, recorded before this returns.

        Raises:
            KeyError: No such association was begun, or it has ended.
            SQLAlchemyError: The ledger cannot be written.
        """
        with self._lock:
            entry = self._entries[key]
        with entry.lock:
            if not entry.on_record:
                self._intake.open_association(entry.association)
                entry.on_record = True
        return entry.association

    def end(self, key: object) -> None:
        """An association ended, in whichever way; safe to call more than once."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is not None:
            entry.ended = True
            self._close(key, entry)

    def settle(self) -> None:
        """Record the ends that were missed or could not be recorded so far."""
        with self._lock:
            entries = list(self._entries.items())
        for key, entry in entries:
            if entry.ended or not entry.alive():
                self._close(key, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def _close(self, key: object, entry: _Entry) -> None:
        with entry.lock:
            if entry.on_record:
                try:
                    self._intake.close_association(entry.association.association_id, self._now())
                except SQLAlchemyError as error:
                    log.exception("association end not recorded, trying again", error=type(error).__name__)
                    return
            with self._lock:
                open_until_now = self._entries.pop(key, None) is not None
        if open_until_now:
            log.info("association closed", calling_ae=entry.association.calling_ae, address=entry.association.address)
