"""What is counted and who lives, across all processes of the node: for metrics and readiness, never for decisions."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.database import insert_or_nothing, reading

STEP_SECONDS = "step_seconds"
STEPS = "steps"
STEP_BUCKETS = "step_buckets"
"""Steps by their duration; the label is the step and the bound, in seconds, that it did not exceed."""
BOUNDS = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)
RECEIVED = "received_instances"
RECEIVED_BYTES = "received_bytes"
REFUSED = "refused_instances"
REJECTED = "rejected_associations"


def step_counts(step: str, seconds: float) -> dict[tuple[str, str], float]:
    """What to add to the counters when a step has ended."""
    counts: dict[tuple[str, str], float] = {(STEP_SECONDS, step): seconds, (STEPS, step): 1}
    bound = next((bound for bound in BOUNDS if seconds <= bound), None)
    return counts if bound is None else {**counts, (STEP_BUCKETS, bucket_label(step, bound)): 1}


def bucket_label(step: str, bound: float) -> str:
    """The label of a bucket."""
    return f"{step}|{bound:g}"


class Counters:
    """The ledger's view of counts and heartbeats.

    Args:
        engine: From :func:`dicom_node.ledger.database.open_database`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, counts: Mapping[tuple[str, str], float]) -> None:
        """Add to counters, by name and label; several processes may add to one."""
        table = db.counters
        if not counts:
            return
        with self._engine.begin() as connection:
            for (name, label), more in sorted(counts.items()):
                row = insert_or_nothing(connection, table).values(name=name, label=label, value=0.0)
                connection.execute(row)
                is_it = table.c.name == name, table.c.label == label
                connection.execute(sa.update(table).where(*is_it).values(value=table.c.value + more))

    def counts(self) -> dict[str, dict[str, float]]:
        """Every counter, by name, then by label."""
        found: dict[str, dict[str, float]] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(sa.select(db.counters)):
                found.setdefault(row.name, {})[row.label] = row.value
        return found

    def beat(self, role: str, now: float) -> None:
        """Note that a process of this host lives, in seconds since the epoch."""
        table, host = db.process_heartbeats, socket.gethostname()[:64]
        with self._engine.begin() as connection:
            connection.execute(insert_or_nothing(connection, table).values(role=role, host=host, at=now))
            is_it = table.c.role == role, table.c.host == host
            connection.execute(sa.update(table).where(*is_it).values(at=now))

    def last_beats(self) -> dict[str, float]:
        """When a process of each role last noted that it lives, on whichever host."""
        table = db.process_heartbeats
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(table.c.role, sa.func.max(table.c.at)).group_by(table.c.role))
            return {role: float(at) for role, at in rows}
