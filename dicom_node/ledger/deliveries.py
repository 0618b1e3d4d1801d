"""What became of each result at each destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import AuditEvent, AuditEvents, note
from dicom_node.ledger.claims import Claim, claim
from dicom_node.ledger.commitments import Commitments
from dicom_node.ledger.database import insert_or_nothing, reading
from dicom_node.uids import LABEL_MAP_SEGMENTATION, SEGMENTATION

NO_OBJECT = ""
"""In place of a SOP Instance UID, where no object could be made for a destination; the message says why."""

State = Literal["waiting", "stored", "confirmed", "refused", "failed", "spared"]


@dataclass(frozen=True)
class Delivery:
    """One result object on its way to one destination.

    Attributes:
        state: ``waiting`` (never sent), ``failed`` (to be tried again), ``stored`` (C-STORE succeeded), ``confirmed``
            (the destination was asked and has it, or offers no way to ask), ``refused`` (it will never take it),
            ``spared`` (another object that says the same went instead).
        status: Last C-STORE status (PS3.4 B.2.3), None where none was answered.
    """

    case_id: str
    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    path: str
    state: State = "waiting"
    status: int | None = None
    message: str | None = None
    attempts: int = 0
    updated_at: float = 0.0


class Deliveries:
    """The ledger's view of delivery.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
        claim: Under which updates are made; none are once somebody else has claimed the work.
    """

    def __init__(self, engine: sa.Engine, claim: Claim | None = None) -> None:
        self._engine = engine
        self.commitments = Commitments(engine)
        self._claim = claim

    def claimed(self, work: str, holder: str) -> Deliveries:
        """The same, under a new claim of some work."""
        return Deliveries(self._engine, claim(self._engine, work, holder))

    def require_claim(self) -> None:
        """Make sure that the claim, where there is one, still stands.

        Raises:
            TakenOver: Somebody else goes on with the work.
        """
        if self._claim is not None:
            self._claim.require()

    def plan(self, deliveries: Sequence[Delivery]) -> None:
        """Record everything that has to be sent where; what is on record already stays as it is but for its file.

        Results that were made anew lie in the folder of another attempt, and the earlier ones may have been removed.
        Results of an earlier plan that this one lacks are forgotten unless they have arrived.
        """
        planned: dict[tuple[str, str], list[str]] = {}
        for delivery in deliveries:
            planned.setdefault((delivery.case_id, delivery.destination), []).append(delivery.sop_instance_uid)
        with self._engine.begin() as connection:
            for (case_id, destination), instances in planned.items():
                is_kept = db.deliveries.c.sop_instance_uid.in_([uid for uid in instances if uid != NO_OBJECT])
                connection.execute(
                    sa.delete(db.deliveries).where(
                        db.deliveries.c.case_id == case_id,
                        db.deliveries.c.destination == destination,
                        db.deliveries.c.state != "confirmed",
                        sa.not_(is_kept),
                    )
                )
            for delivery in deliveries:
                if not connection.execute(
                    insert_or_nothing(connection, db.deliveries).values(**vars(delivery))
                ).rowcount:
                    connection.execute(sa.update(db.deliveries).where(*_is(delivery)).values(path=delivery.path))

    def of_case(self, case_id: str, destination: str | None = None) -> tuple[Delivery, ...]:
        """Every delivery of a case, or those to one destination."""
        statement = sa.select(db.deliveries).where(db.deliveries.c.case_id == case_id)
        if destination is not None:
            statement = statement.where(db.deliveries.c.destination == destination)
        statement = statement.order_by(db.deliveries.c.destination, db.deliveries.c.sop_instance_uid)
        with reading(self._engine) as connection:
            return tuple(Delivery(**row._mapping) for row in connection.execute(statement))

    def tell(self, now: float, *events: AuditEvent) -> None:
        """Put events on record for the audit trail, where there is one."""
        AuditEvents(self._engine).record(now, *events)

    def update(self, delivery: Delivery, *events: AuditEvent) -> None:
        """Replace the state, status, message, attempts and time of a planned delivery.

        Args:
            delivery: As it is now.
            events: What the audit trail has to tell of the change.

        Raises:
            TakenOver: Somebody else goes on with the work; nothing was changed.
        """
        with self._engine.begin() as connection:
            if self._claim is not None:
                self._claim.require_within(connection)
            connection.execute(
                sa.update(db.deliveries)
                .where(*_is(delivery))
                .values(
                    state=delivery.state,
                    status=delivery.status,
                    message=delivery.message,
                    attempts=delivery.attempts,
                    updated_at=delivery.updated_at,
                )
            )
            note(connection, delivery.updated_at, *events)


def _is(delivery: Delivery) -> tuple[sa.ColumnElement[bool], ...]:
    table = db.deliveries
    return (
        table.c.case_id == delivery.case_id,
        table.c.destination == delivery.destination,
        table.c.sop_instance_uid == delivery.sop_instance_uid,
    )


def drop(connection: sa.Connection, case_id: str, destinations: Sequence[str]) -> None:
    """Forget what was planned for destinations that are no more, within a transaction; so it is below."""
    table = db.deliveries
    connection.execute(sa.delete(table).where(table.c.case_id == case_id, table.c.destination.in_(destinations)))


def reset(connection: sa.Connection, case_id: str) -> None:
    """Make every refused or failed delivery of a case wait again (a person asked to retry).

    So does a segmentation that was spared, unless the other one, which went instead, has arrived.
    """
    table = db.deliveries
    refused = table.c.case_id == case_id, table.c.state.in_(("refused", "failed"))
    segmentations = table.c.sop_class_uid.in_((SEGMENTATION, LABEL_MAP_SEGMENTATION))
    without_one = sa.select(table.c.destination).where(*refused, segmentations)
    destinations = connection.execute(without_one).scalars().all()
    spared = table.c.case_id == case_id, table.c.state == "spared", table.c.destination.in_(destinations)
    for rows in (spared, refused):
        connection.execute(sa.update(table).where(*rows).values(state="failed", attempts=0, message=None))


def renew(connection: sa.Connection, case_id: str) -> None:
    """Have every result of a case delivered again; each destination is asked first what it still has."""
    table = db.deliveries
    those = table.c.case_id == case_id, table.c.state != "spared"
    connection.execute(sa.update(table).where(*those).values(state="failed", attempts=0, message=None))
