"""What a silent worker left: its cases begin a new attempt elsewhere, its deliveries go on elsewhere.

A case goes on as a new attempt rather than from the silent worker's last step, because that worker may only be frozen:
the number of the attempt is what fences its writes off when it wakes up, and what counts how many workers a case has
cost. Verified results are kept: such a case only has to be delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from dicom_node.engine import Engine
from dicom_node.errors import UsageError
from dicom_node.ledger.cases import FINAL_STATES, Case, Cases
from dicom_node.ledger.workers import Workers
from dicom_node.logs import get_logger

_log = get_logger("worker")
_SUPERVISOR_LOCK = 7_305_143_002


class Takeover:
    """Looks for silent workers; of several that look at once, one acts.

    Args:
        database: The ledger.
        engine: Where the silent workers' workflows are.
        cases: The cases on record.
        give_up: Ends an attempt at a case, with the reason.
        queue_of: The queue that a workflow, given by its identity, belongs to.
    """

    def __init__(
        self,
        database: sa.Engine,
        engine: Engine,
        cases: Cases,
        *,
        give_up: Callable[[Case, str], None],
        queue_of: Callable[[str], str],
    ) -> None:
        self._database = database
        self._workers = Workers(database)
        self._engine = engine
        self._cases = cases
        self._give_up = give_up
        self._queue_of = queue_of

    def look(self, silent_seconds: float) -> int:
        """Take over what silent workers left; returns how many workflows that were.

        Only for a worker that has itself been heard for so long: after an outage of the database everybody is silent.
        """
        taken = 0
        with self._alone() as is_alone:
            if not is_alone:
                return 0
            for executor in self._workers.strike_silent(silent_seconds):
                _log.warning("a worker fell silent", worker=executor, seconds=silent_seconds)
            for executor in sorted(self._engine.executors_with_work() - self._workers.on_record()):
                for identity in self._engine.running_at(executor):
                    self._take(identity, executor)
                    taken += 1
        return taken

    def _take(self, identity: str, executor: str) -> None:
        case_id, attempt, *delivery = identity.split(".")
        _log.warning("work of a silent worker taken over", workflow=identity, worker=executor)
        case = self._case(case_id)
        if case is None or case.attempt != int(attempt) or case.state in FINAL_STATES:
            self._engine.cancel(identity)
        elif delivery or case.state == "delivering":
            self._engine.resume(identity, self._queue_of(identity))
        else:
            self._engine.cancel(identity)
            self._give_up(case, f'worker "{executor}" fell silent while the case was {case.state}')

    def _case(self, case_id: str) -> Case | None:
        try:
            return self._cases.get(case_id)
        except UsageError:
            return None  # forgotten: its series was routed again

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this process is the one that acts; one that freezes here is cut off by the server (idle limit)."""
        with self._database.begin() as connection:
            yield bool(connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_SUPERVISOR_LOCK))))
