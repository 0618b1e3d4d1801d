"""The transitions of a case, seen from outside: in the senders' logs and in the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.ledger import database as db
from dicom_node.ledger.database import reading

TRANSITIONS = (
    "received",
    "recorded",
    "quiet",
    "assembled",
    "segmented",
    "encoded",
    "verified",
    "delivered",
    "confirmed",
)
_ENTERED = {"assembled": "segmenting", "segmented": "encoding", "encoded": "verifying", "verified": "delivering"}
LOOK_SECONDS = 0.003
Facts = frozenset[Hashable]


class Transitions:
    """Waits for transitions.

    Args:
        ledger: The node's ledger.
        progress: Grows with everything that the senders see.
    """

    def __init__(self, ledger: sa.Engine, progress: Callable[[], int]) -> None:
        self._ledger = ledger
        self._progress = progress

    def wait_for(self, transition: str, seconds: float) -> bool:
        """Return at the next moment at which some case or image makes a transition; False where none did in time."""
        look = self._look_of(transition)
        known = look()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            try:
                seen = look()
            except SQLAlchemyError:
                continue
            if seen - known:
                return True
            known |= seen
        return False

    def _look_of(self, transition: str) -> Callable[[], Facts]:
        if transition == "received":
            return lambda: frozenset({self._progress()})
        return lambda: self._rows(_statement(transition))

    def _rows(self, statement: sa.Select[Any]) -> Facts:
        with reading(self._ledger) as connection:
            return frozenset(tuple(row) for row in connection.execute(statement))

    def unfinished(self, final: Sequence[str]) -> int:
        """Series and cases that still have work to do."""
        waiting = sa.select(sa.func.count()).where(db.series.c.instances > db.series.c.cased_instances)
        cases = sa.select(sa.func.count()).where(db.cases.c.state.not_in(final))
        with reading(self._ledger) as connection:
            return int(connection.scalar(waiting) or 0) + int(connection.scalar(cases) or 0)


def _statement(transition: str) -> Any:
    if transition == "recorded":
        return sa.select(sa.func.count(), sa.literal("instances")).select_from(db.instances)
    if transition == "quiet":
        return sa.select(db.cases.c.case_id)
    if transition == "delivered":
        delivery = db.deliveries.c
        begun = sa.or_(delivery.state == "stored", sa.and_(delivery.attempts > 0, delivery.state == "waiting"))
        return sa.select(delivery.case_id, delivery.destination, delivery.sop_instance_uid, delivery.state).where(begun)
    if transition == "confirmed":
        delivery = db.deliveries.c
        return sa.select(delivery.destination, delivery.sop_instance_uid).where(delivery.state == "confirmed")
    entered = db.cases.c.state == _ENTERED[transition]
    return sa.select(db.cases.c.case_id, db.cases.c.attempt).where(entered)
