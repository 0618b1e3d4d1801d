"""Which workers are alive: one row each, renewed by the worker and judged by the database's clock alone."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.database import database_now, reading


class Workers:
    """The ledger's view of the workers that share it.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.

    A worker is one process: an executor id, which stays the same over restarts, and an incarnation, which does not.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def enter(self, executor_id: str, incarnation: str, *, host: str, process_id: int) -> float:
        """Put a worker on record, in place of what its predecessor under the same executor id left.

        Returns:
            What the database's clock said, seconds since the epoch.
        """
        with self._engine.begin() as connection:
            now = connection.scalar(sa.select(database_now(connection)))
            connection.execute(sa.delete(db.workers).where(db.workers.c.executor_id == executor_id))
            connection.execute(
                sa.insert(db.workers).values(
                    executor_id=executor_id,
                    incarnation=incarnation,
                    host=host,
                    process_id=process_id,
                    started_at=now,
                    beat_at=now,
                )
            )
        return float(now or 0.0)

    def beat(self, executor_id: str, incarnation: str) -> bool:
        """Say that a worker is alive.

        Returns:
            False when it is no longer on record: it was taken for dead, and others go on with its work.
        """
        with self._engine.begin() as connection:
            beat = (
                sa.update(db.workers)
                .where(db.workers.c.executor_id == executor_id, db.workers.c.incarnation == incarnation)
                .values(beat_at=database_now(connection))
            )
            return bool(connection.execute(beat).rowcount)

    def leave(self, executor_id: str, incarnation: str) -> None:
        """Take a worker off the record: it ends in good order."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(db.workers).where(
                    db.workers.c.executor_id == executor_id, db.workers.c.incarnation == incarnation
                )
            )

    def strike_silent(self, seconds: float) -> tuple[str, ...]:
        """Take those off the record that were not heard for so long; returns their executor ids."""
        with self._engine.begin() as connection:
            silent = db.workers.c.beat_at < database_now(connection) - seconds
            struck = connection.execute(sa.delete(db.workers).where(silent).returning(db.workers.c.executor_id))
            return tuple(sorted(struck.scalars()))

    def on_record(self) -> frozenset[str]:
        """Executor ids of all that count as alive."""
        with reading(self._engine) as connection:
            return frozenset(connection.execute(sa.select(db.workers.c.executor_id)).scalars())
