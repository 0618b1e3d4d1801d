"""Writes what is on record for the audit trail to each place it goes to, and goes on where it was after any kill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.audit.audit_file import AuditFile
from dicom_node.audit.messages import AuditMessage, Source, message_of, together
from dicom_node.audit.patients import patient_of
from dicom_node.audit.syslog import SyslogServer
from dicom_node.errors import NodeError, SettingsError
from dicom_node.ledger.audit_events import AuditEvents, Place
from dicom_node.ledger.audit_facts import recording
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

_log = get_logger("audit")
LOOK_SECONDS: Final = 1.0
PAUSES: Final = (2.0, 5.0, 15.0, 60.0)
"""After each failure in a row."""
AT_ONCE: Final = 100
LAST_SECONDS: Final = 10.0
"""How long a stop tries to write what the other processes said as they ended."""


class Writer(Protocol):
    """A place that takes messages: all of them or an error."""

    def write(self, messages: Sequence[AuditMessage]) -> None:
        """Write messages; once this returns the place has them."""


class Trail:
    """The audit trail of a node; one process writes it.

    Args:
        database: The ledger.
        settings: With ``[audit]``.
        clock: Seconds since the epoch.

    Raises:
        SettingsError: There is no ``[audit]``, or a file for TLS cannot be used.
    """

    def __init__(self, database: sa.Engine, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        table = settings.audit
        if table is None:
            raise SettingsError("there is no table [audit]: set its file, its syslog server or both")
        self._source = Source(table.source_id or settings.node.name, table.enterprise_site, settings.node.ae_title)
        self._events = AuditEvents(database)
        self._clock = clock
        self._writers: Mapping[Place, Writer] = {
            **({"filed": AuditFile(table.file)} if table.file else {}),
            **({"sent": SyslogServer(table)} if table.syslog else {}),
        }

    def run(self, stop: threading.Event) -> None:
        """Write until told to stop; each place on its own, so that none waits for another."""
        self._begin()
        threads = [
            threading.Thread(target=self._serve, args=(place, stop), name=f"audit-{place}", daemon=True)
            for place in self._writers
        ]
        for thread in threads:
            thread.start()
        _log.info("audit trail begins", places=sorted(self._writers))
        stop.wait()
        for thread in threads:
            thread.join(LAST_SECONDS)
        self._record_own(started=False)
        for place in self._writers:
            self._try(place)

    def write_some(self, place: Place) -> int:
        """Bring the oldest events to a place that lacks them; returns how many.

        Raises:
            OSError, NodeError: The place does not take them; they stay on record.
            SQLAlchemyError: The ledger cannot be read or written.
        """
        events = self._events.untold(place, AT_ONCE)
        if events:
            messages = [message_of(event, self._source, patient_of(event.facts)) for event in together(events)]
            self._writers[place].write(messages)
            others = [other for other in self._writers if other != place]
            self._events.told(place, [event.event_id for event in events], others=others)
        return len(events)

    def _serve(self, place: Place, stop: threading.Event) -> None:
        failures, pause = 0, 0.0
        while not stop.wait(pause):
            written = self._try(place)
            failures = failures + 1 if written is None else 0
            if written is None:
                pause = PAUSES[min(failures, len(PAUSES)) - 1]
            else:
                pause = 0.0 if written == AT_ONCE else LOOK_SECONDS

    def _try(self, place: Place) -> int | None:
        try:
            return self.write_some(place)
        except (OSError, NodeError, SQLAlchemyError) as error:
            reason = error.message if isinstance(error, NodeError) else f"{type(error).__name__}: {_system(error)}"
            _log.error("audit trail not written, trying again", place=place, reason=reason)
        except Exception:  # noqa: BLE001 - an event that cannot be told stays on record and is seen; it is not passed over
            _log.exception("audit trail not written, trying again", place=place)
        return None

    def _begin(self) -> None:
        try:
            self._events.settle(self._writers.keys())
        except SQLAlchemyError as error:
            _log.warning("what is told already is not taken off the record", error=type(error).__name__)
        self._record_own(started=True)

    def _record_own(self, *, started: bool) -> None:
        try:
            self._events.record(self._clock(), recording(started=started))
        except SQLAlchemyError as error:
            _log.warning("start or stop not in the audit trail", error=type(error).__name__)


def _system(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else ""
