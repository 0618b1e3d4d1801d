"""A ledger that came back from a backup: what it does not know of may have happened meanwhile."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.cases import FINAL_STATES
from dicom_node.ledger.database import insert_or_nothing, reading


class Restorations:
    """The ledger's view of its own restorations.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def note(self, now: float, *, begin_anew: bool) -> int:
        """Note that the ledger came back from a backup.

        Deliveries that had not ended are asked for at their destination before anything is sent, and so are those of
        every case whose images came before this moment (:meth:`last`). Associations that were open are closed.

        Args:
            now: Seconds since the epoch.
            begin_anew: Whether unfinished cases begin again because the workflows that carried them did not come back.
                It costs them no attempt; results that were verified are not made again.

        Returns:
            How many cases are unfinished.
        """
        is_unfinished = db.cases.c.state.not_in(FINAL_STATES)
        with self._engine.begin() as connection:
            connection.execute(insert_or_nothing(connection, db.restorations).values(at=now))
            connection.execute(
                sa.update(db.deliveries).where(db.deliveries.c.state == "waiting").values(state="failed")
            )
            is_open = db.associations.c.closed_at.is_(None)
            connection.execute(sa.update(db.associations).where(is_open).values(closed_at=now))
            if begin_anew:
                again = {"state": "waiting", "reason": "restored from a backup", "updated_at": now, "timings": {}}
                connection.execute(sa.update(db.cases).where(is_unfinished).values(again))
            return int(connection.scalar(sa.select(sa.func.count()).select_from(db.cases).where(is_unfinished)) or 0)

    def last(self) -> float:
        """When the ledger last came back, in seconds since the epoch; never: minus infinity."""
        with reading(self._engine) as connection:
            at = connection.scalar(sa.select(sa.func.max(db.restorations.c.at)))
        return float("-inf") if at is None else float(at)
