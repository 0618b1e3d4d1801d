"""What was received: associations, instances, and which series have fallen quiet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.errors import ImageGone
from dicom_node.ledger import database as db
from dicom_node.ledger.counters import Counters
from dicom_node.ledger.database import insert_or_nothing, reading


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
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(db.associations)
                .where(db.associations.c.id == association_id, db.associations.c.closed_at.is_(None))
                .values(closed_at=now)
            )

    def close_associations_of(self, listener: str, now: float) -> int:
        """End what a listener left open when it died; returns how many."""
        with self._engine.begin() as connection:
            result = connection.execute(
                sa.update(db.associations)
                .where(db.associations.c.listener == listener, db.associations.c.closed_at.is_(None))
                .values(closed_at=now)
            )
            return int(result.rowcount)

    def find(self, sop_instance_uid: str) -> Instance | None:
        """The record of an instance, or None."""
        with reading(self._engine) as connection:
            row = connection.execute(
                sa.select(db.instances).where(db.instances.c.sop_instance_uid == sop_instance_uid)
            ).one_or_none()
        return Instance(**row._mapping) if row else None

    def record(self, instance: Instance, is_in_place: Callable[[], bool] = lambda: True) -> bool:
        """Put an instance on record and wake its series; once this returns it is durable.

        Args:
            instance: Its file has to be durable already.
            is_in_place: Whether its file is where the record says. Asked while no retention can remove it: an earlier
                file of the same name may have been leaving, and this one with it.

        Returns:
            False when this SOP Instance UID was on record already; nothing is changed then.

        Raises:
            ImageGone: The file is not in place; nothing is changed.
        """
        with self._engine.begin() as connection:
            connection.execute(  # from here on nobody removes it
                sa.delete(db.leaving_images).where(db.leaving_images.c.sop_instance_uid == instance.sop_instance_uid)
            )
            if not is_in_place():
                raise ImageGone(f"{instance.path} was removed while it was recorded; write it again")
            insert = insert_or_nothing(connection, db.instances).values(**vars(instance))
            if connection.execute(insert).rowcount == 0:
                return False
            self._wake_series(connection, instance)
        return True

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

    def report(self, counts: Mapping[tuple[str, str], float], now: float) -> None:
        """Put on record what the listener counted, and that it lives."""
        vital = Counters(self._engine)
        vital.add(counts)
        vital.beat("listener", now)

    def spool_bytes(self) -> int:
        """Bytes on record in the spool."""
        with reading(self._engine) as connection:
            return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(db.instances.c.size), 0))) or 0)

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
        """Series with uncased instances whose last instance and last association both ended long enough ago."""
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
            )
            .order_by(db.series.c.last_received_at)
        )
        with reading(self._engine) as connection:
            return tuple(QuietSeries(**row._mapping) for row in connection.execute(statement))

    @staticmethod
    def _wake_series(connection: sa.Connection, instance: Instance) -> None:
        insert = insert_or_nothing(connection, db.series).values(
            series_instance_uid=instance.series_instance_uid,
            study_instance_uid=instance.study_instance_uid,
            instances=0,
            cased_instances=0,
            last_received_at=instance.received_at,
            last_association_id=instance.association_id,
        )
        count = (
            sa.update(db.series)
            .where(db.series.c.series_instance_uid == instance.series_instance_uid)
            .values(
                instances=db.series.c.instances + 1,
                last_received_at=instance.received_at,
                last_association_id=instance.association_id,
            )
        )
        connection.execute(insert)
        while not connection.execute(count).rowcount:  # PostgreSQL: the series was leaving the record at this moment
            connection.execute(insert)
