"""What the audit trail still has to tell.

An event is put on record in the transaction of what it tells of: neither is there without the other, whatever is
killed. It stays until every place the trail goes to has it; a kill in between has it told twice. Events hold
identifiers and paths, never what names a patient: that is read from the images when the message is written.

Nothing is recorded unless the settings ask for an audit trail (:func:`audited`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.database import reading
from dicom_node.settings import Settings

Kind = Literal[
    "application", "recording", "received", "sending", "sent", "queried", "accessed", "removed", "refused", "restricted"
]
Place = Literal["filed", "sent"]
"""Where the trail goes: into the file, to the syslog server."""
_AUDITED = "dicom_node_audited"


@dataclass(frozen=True)
class AuditEvent:
    """Something that the audit trail has to tell.

    Attributes:
        kind: Which message (PS3.15 A.5.3) it becomes.
        subject: Names what it is about; transfers with one subject may become one message.
        facts: JSON; made by the functions of :mod:`dicom_node.ledger.audit_facts`.
    """

    kind: Kind
    subject: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class RecordedEvent(AuditEvent):
    """An event on record.

    Attributes:
        event_id: Its number; events are told in this order.
        at: When it happened, seconds since the epoch.
    """

    event_id: int = 0
    at: float = 0.0


def audited(engine: sa.Engine, settings: Settings) -> sa.Engine:
    """The ledger, from now on with events for the audit trail where the settings ask for one."""
    if settings.audit is not None:
        engine.update_execution_options(**{_AUDITED: True})
    return engine


def is_audited(connection: sa.Connection) -> bool:
    """Whether events are recorded."""
    return bool(connection.get_execution_options().get(_AUDITED, False))


def note(connection: sa.Connection, at: float, *events: AuditEvent) -> None:
    """Record events within the transaction of what they tell of; nothing without an audit trail."""
    if events and is_audited(connection):
        here = {"process": os.getpid(), "host": socket.gethostname()}
        rows = [{"kind": e.kind, "subject": e.subject, "facts": {**here, **e.facts}, "at": at} for e in events]
        connection.execute(sa.insert(db.audit_events), rows)


def is_untold(kind: Kind, subject: sa.ColumnElement[str], since: float) -> sa.ColumnElement[bool]:
    """Whether an event that happened since a moment is not yet told everywhere, for statements."""
    table = db.audit_events.alias()
    return sa.exists().where(table.c.kind == kind, table.c.subject == subject, table.c.at > since)


class AuditEvents:
    """The ledger's view of the audit trail.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`, through :func:`audited`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @property
    def is_audited(self) -> bool:
        """Whether events are recorded."""
        with reading(self._engine) as connection:
            return is_audited(connection)

    def record(self, at: float, *events: AuditEvent) -> None:
        """Put events on record that no other transaction belongs to."""
        if events and self.is_audited:
            with self._engine.begin() as connection:
                note(connection, at, *events)

    def untold(self, place: Place, most: int) -> tuple[RecordedEvent, ...]:
        """Events that a place does not have yet, oldest first; at most so many."""
        table = db.audit_events
        columns = table.c.kind, table.c.subject, table.c.facts, table.c.id.label("event_id"), table.c.at
        statement = sa.select(*columns).where(sa.not_(table.c[place])).order_by(table.c.id).limit(most)
        with reading(self._engine) as connection:
            return tuple(RecordedEvent(**row._mapping) for row in connection.execute(statement))

    def told(self, place: Place, event_ids: Sequence[int], *, others: Sequence[Place]) -> None:
        """Note that a place has events; those that the other places have too go off the record."""
        table = db.audit_events
        these = table.c.id.in_(event_ids)
        with self._engine.begin() as connection:
            connection.execute(sa.update(table).where(these).values({place: True}))
            connection.execute(sa.delete(table).where(these, *(table.c[other] for other in others)))

    def settle(self, places: Collection[Place]) -> None:
        """Take off the record what all places of now have; one that the settings no longer name is not waited for."""
        table = db.audit_events
        with self._engine.begin() as connection:
            connection.execute(sa.delete(table).where(*(table.c[place] for place in places)))

    def is_pending(self, kind: Kind, subject: str, since: float) -> bool:
        """Whether an event that happened since a moment is not yet told everywhere; never without an audit trail."""
        untold = sa.select(is_untold(kind, sa.literal(subject), since))
        with reading(self._engine) as connection:
            return is_audited(connection) and bool(connection.scalar(untold))

    def oldest(self) -> float | None:
        """When the oldest event that is not yet told everywhere happened; None where there is none, or no trail."""
        with reading(self._engine) as connection:
            return connection.scalar(sa.select(sa.func.min(db.audit_events.c.at))) if is_audited(connection) else None
