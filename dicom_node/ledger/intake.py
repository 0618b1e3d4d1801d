"""What was received: associations, instances, and which series have fallen quiet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from dicom_node.errors import ImageGone
from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import AuditEvent, AuditEvents, is_audited, note
from dicom_node.ledger.audit_facts import received
from dicom_node.ledger.commitment_requests import CommitmentRequests
from dicom_node.ledger.commitments import Commitments
from dicom_node.ledger.counters import Counters
from dicom_node.ledger.database import insert_or_nothing, one_or_nothing, reading
from dicom_node.ledger.driver import Prepared, lookup, transaction

EXPECTED_SECONDS = 3600.0
"""How long a series is waited for whose sender announced more images than came."""


@dataclass(frozen=True)
class Association:
    """One association that may store instances."""

    association_id: str
    listener: str
    calling_ae: str
    address: str
    opened_at: float


@dataclass(frozen=True)
class Instance:
    """One SOP instance in the spool, as it is on record."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    path: str
    sha256: str
    size: int
    received_at: float
    association_id: str


class _HotStatements:
    """What every received image needs, in the words of one database."""

    def __init__(self, engine: sa.Engine) -> None:
        images, series, leaving = db.instances, db.series, db.leaving_images
        uid: sa.BindParameter[str] = sa.bindparam("uid")
        columns = [images.c[each.name] for each in fields(Instance)]
        another = {
            "instances": series.c.instances + sa.literal_column("1"),
            "last_received_at": sa.bindparam("received_at"),
            "last_association_id": sa.bindparam("association_id"),
        }
        self.find = Prepared(sa.select(*columns).where(images.c.sop_instance_uid == uid), engine)
        self.stay = Prepared(sa.delete(leaving).where(leaving.c.sop_instance_uid == uid), engine)
        self.add = Prepared(one_or_nothing(engine.dialect.name, images), engine)
        self.wake = Prepared(sa.update(series).where(series.c.series_instance_uid == uid).values(another), engine)
        self.begin_series = Prepared(one_or_nothing(engine.dialect.name, series), engine)


@dataclass(frozen=True)
class QuietSeries:
    """A series with instances in no case yet, and no association still sending to it."""

    series_instance_uid: str
    study_instance_uid: str
    last_received_at: float
    calling_ae: str
    address: str


class Intake:
    """The ledger's view of reception.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._hot = _HotStatements(engine)
        self.commitments = Commitments(engine)
        self.commitment_requests = CommitmentRequests(engine)

    def open_association(self, association: Association) -> None:
        """Record that an association was accepted."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(db.associations).values(
                    id=association.association_id,
                    listener=association.listener,
                    calling_ae=association.calling_ae,
                    address=association.address,
                    opened_at=association.opened_at,
                )
            )

    def close_association(self, association_id: str, now: float) -> None:
        """Record that an association ended, however it ended."""
        self._close(now, db.associations.c.id == association_id)

    def close_associations_of(self, listener: str, now: float) -> int:
        """End what a listener left open when it died; returns how many."""
        return self._close(now, db.associations.c.listener == listener)

    def _close(self, now: float, which: sa.ColumnElement[bool]) -> int:
        is_open = which, db.associations.c.closed_at.is_(None)
        with self._engine.begin() as connection:
            if is_audited(connection):
                for association_id in (
                    connection.execute(sa.select(db.associations.c.id).where(*is_open)).scalars().all()
                ):
                    note(connection, now, *received(connection, association_id))
            return int(connection.execute(sa.update(db.associations).where(*is_open).values(closed_at=now)).rowcount)

    def tell(self, now: float, *events: AuditEvent) -> None:
        """Put events on record for the audit trail, where there is one."""
        AuditEvents(self._engine).record(now, *events)

    def find(self, sop_instance_uid: str) -> Instance | None:
        """The record of an instance, or None."""
        with lookup(self._engine) as cursor:
            row = self._hot.find.run(cursor, {"uid": sop_instance_uid}).fetchone()
        return Instance(*row) if row else None

    def record(self, instance: Instance, is_in_place: Callable[[Instance], bool] = lambda _: True) -> bool:
        """Put an instance on record and wake its series; once this returns it is durable.

        Args:
            instance: Its file has to be durable already.
            is_in_place: As for :meth:`record_all`.

        Returns:
            False when this SOP Instance UID was on record already; nothing is changed then.

        Raises:
            ImageGone: The file is not in place; nothing is changed.
        """
        is_new = self.record_all([instance], is_in_place)[0]
        if is_new is None:
            raise ImageGone(f"{instance.path} was removed while it was recorded; write it again")
        return is_new

    def record_all(
        self, instances: Sequence[Instance], is_in_place: Callable[[Instance], bool] = lambda _: True
    ) -> list[bool | None]:
        """Put instances on record as :meth:`record` does, in one transaction: all of them, or none when it fails.

        Args:
            instances: Their files have to be durable already.
            is_in_place: Whether a file is where the record says. Asked while no retention can remove it: an earlier
                file of the same name may have been leaving, and this one with it.

        Returns:
            Whether each is new; None where its file is not in place, and nothing was recorded of it.
        """
        with transaction(self._engine) as cursor:
            for instance in instances:  # from here on nobody removes them
                self._hot.stay.run(cursor, {"uid": instance.sop_instance_uid})
            return [self._record_one(cursor, each) if is_in_place(each) else None for each in instances]

    def _record_one(self, cursor: Any, instance: Instance) -> bool:
        is_new = bool(self._hot.add.run(cursor, vars(instance)).rowcount)
        if is_new:
            self._wake_series(cursor, instance)
        return is_new

    def note_resent(self, series_instance_uid: str, now: float) -> bool:
        """Note that images of a series came again, so that it is kept; False when it has left the record meanwhile."""
        known = sa.select(db.series.c.series_instance_uid).where(db.series.c.series_instance_uid == series_instance_uid)
        with self._engine.begin() as connection:
            if connection.execute(known.with_for_update()).first() is None:
                return False
            table = db.resent_series
            if not connection.execute(
                insert_or_nothing(connection, table).values(series_instance_uid=series_instance_uid, at=now)
            ).rowcount:
                connection.execute(
                    sa.update(table).where(table.c.series_instance_uid == series_instance_uid).values(at=now)
                )
        return True

    def expect(self, series_instance_uid: str, images: int, now: float) -> None:
        """Note that a sender is about to send so many images of a series: no case is opened of fewer for an hour."""
        table = db.expected_series
        announced = {"images": images, "at": now}
        with self._engine.begin() as connection:
            row = insert_or_nothing(connection, table).values(series_instance_uid=series_instance_uid, **announced)
            if not connection.execute(row).rowcount:
                of_series = table.c.series_instance_uid == series_instance_uid
                connection.execute(sa.update(table).where(of_series).values(announced))

    def report(self, counts: Mapping[tuple[str, str], float], now: float) -> None:
        """Put on record what the listener counted, and that it lives."""
        vital = Counters(self._engine)
        vital.add(counts)
        vital.beat("listener", now)

    def spool_bytes(self) -> int:
        """Bytes on record in the spool."""
        with reading(self._engine) as connection:
            return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(db.instances.c.size), 0))) or 0)

    def spool_bytes_of_senders(self) -> dict[tuple[str, str], int]:
        """Bytes on record in the spool by calling AE title and address of who sent them first."""
        statement = (
            sa.select(db.associations.c.calling_ae, db.associations.c.address, sa.func.sum(db.instances.c.size))
            .join(db.associations, db.associations.c.id == db.instances.c.association_id)
            .group_by(db.associations.c.calling_ae, db.associations.c.address)
        )
        with reading(self._engine) as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(statement)}

    def has_series(self, series_instance_uid: str) -> bool:
        """Whether any instance of a series is on record."""
        statement = sa.select(db.series.c.instances).where(db.series.c.series_instance_uid == series_instance_uid)
        with reading(self._engine) as connection:
            return connection.execute(statement).first() is not None

    def instances_of(self, series_instance_uid: str) -> tuple[Instance, ...]:
        """Every instance of a series, by SOP Instance UID."""
        statement = (
            sa.select(db.instances)
            .where(db.instances.c.series_instance_uid == series_instance_uid)
            .order_by(db.instances.c.sop_instance_uid)
        )
        with reading(self._engine) as connection:
            return tuple(Instance(**row._mapping) for row in connection.execute(statement))

    def quiet_series(self, now: float, quiet_seconds: float) -> tuple[QuietSeries, ...]:
        """Series with uncased instances whose last instance and last association both ended long enough ago.

        One of which more images were announced lately is not quiet.
        """
        ended = sa.func.coalesce(db.associations.c.closed_at, db.associations.c.opened_at)
        still_open = (
            sa.select(db.instances.c.sop_instance_uid)
            .join(db.associations, db.associations.c.id == db.instances.c.association_id)
            .where(
                db.instances.c.series_instance_uid == db.series.c.series_instance_uid,
                sa.or_(db.associations.c.closed_at.is_(None), ended > now - quiet_seconds),
            )
            .exists()
        )
        still_expected = (
            sa.select(db.expected_series.c.images)
            .where(
                db.expected_series.c.series_instance_uid == db.series.c.series_instance_uid,
                db.expected_series.c.images > db.series.c.instances,
                db.expected_series.c.at > now - EXPECTED_SECONDS,
            )
            .exists()
        )
        statement = (
            sa.select(
                db.series.c.series_instance_uid,
                db.series.c.study_instance_uid,
                db.series.c.last_received_at,
                db.associations.c.calling_ae,
                db.associations.c.address,
            )
            .join(db.associations, db.associations.c.id == db.series.c.last_association_id)
            .where(
                db.series.c.instances > db.series.c.cased_instances,
                db.series.c.last_received_at <= now - quiet_seconds,
                ~still_open,
                ~still_expected,
            )
            .order_by(db.series.c.last_received_at)
        )
        with reading(self._engine) as connection:
            return tuple(QuietSeries(**row._mapping) for row in connection.execute(statement))

    def _wake_series(self, cursor: Any, instance: Instance) -> None:
        latest = {**vars(instance), "uid": instance.series_instance_uid}
        first = {
            "series_instance_uid": instance.series_instance_uid,
            "study_instance_uid": instance.study_instance_uid,
            "instances": 0,
            "cased_instances": 0,
            "last_received_at": instance.received_at,
            "last_association_id": instance.association_id,
        }
        while not self._hot.wake.run(cursor, latest).rowcount:
            # its first image; or, on PostgreSQL, the series was leaving the record at this moment
            self._hot.begin_series.run(cursor, first)
