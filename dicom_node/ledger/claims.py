"""Claims: who works on something now. Whoever claims it later fences off whoever held it before.

A worker that froze and wakes up does not know that another one has taken its work over. What it writes or sends then is
checked against its claim: the number it was given must still be the latest.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.errors import TakenOver
from dicom_node.ledger import database as db
from dicom_node.ledger.database import insert_or_nothing


@dataclass(frozen=True)
class Claim:
    """The right to work on something, until somebody else claims it.

    Attributes:
        work: What is claimed.
        token: Higher with each claim.
    """

    engine: sa.Engine
    work: str
    token: int

    def require(self) -> None:
        """Make sure that the claim still stands.

        Raises:
            TakenOver: Somebody else has claimed the work since.
        """
        with self.engine.begin() as connection:
            self.require_within(connection)

    def require_within(self, connection: sa.Connection) -> None:
        """Make sure that the claim stands, and goes on standing until the transaction ends.

        Raises:
            TakenOver: Somebody else has claimed the work since.
        """
        latest = sa.select(db.claims.c.token).where(db.claims.c.work == self.work).with_for_update()
        if connection.scalar(latest) != self.token:
            raise TakenOver(f"another worker goes on with {self.work}")


def claim(engine: sa.Engine, work: str, holder: str) -> Claim:
    """Claim some work; every earlier claim of it is void when this returns.

    Args:
        engine: The ledger.
        work: Names it, in at most 160 characters.
        holder: Executor id of the worker, for people who look.
    """
    with engine.begin() as connection:
        connection.execute(insert_or_nothing(connection, db.claims).values(work=work, token=0, holder=holder))
        connection.execute(
            sa.update(db.claims).where(db.claims.c.work == work).values(token=db.claims.c.token + 1, holder=holder)
        )
        token = connection.scalar(sa.select(db.claims.c.token).where(db.claims.c.work == work))
    return Claim(engine, work, int(token or 0))
