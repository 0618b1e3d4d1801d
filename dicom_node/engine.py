"""Durable execution: the one module that knows DBOS.

A workflow is a function of JSON values whose steps are checkpointed; after kill -9 it goes on from its last finished
step. What the defaults of the library would do to a hospital node is set here: JSON instead of pickle in the database
(a pickled row executes code), an application version of our own (a hash of the source would strand pending cases after
an upgrade), explicit priorities (none would overtake all), short polling.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, _sys_db
from dbos._core import StepOptions
from dbos._serialization import DBOSPortableJSONSerializer

from dicom_node.logs import get_logger
from dicom_node.outages import outage_of, pauses
from dicom_node.settings import Settings
from dicom_node.sqlite_file import require_sound

WORKFLOW_VERSION = "1"
"""Raised only when the order of a workflow's steps changes; pending cases of another version would wait for it."""
POLLING_SECONDS = 0.2
URGENT, ROUTINE = 1, 10
_log = get_logger("engine")
_ALIVE = ["PENDING", "ENQUEUED", "DELAYED"]
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]

Workflow = Callable[..., None]


class Engine:
    """Runs registered workflows durably, in this process.

    Args:
        settings: Where the checkpoints live: beside the ledger on SQLite, in the same PostgreSQL otherwise.

    Raises:
        SettingsError: The file of the checkpoints is damaged.

    One engine a process: register workflows, :meth:`launch`, declare queues, then enqueue.
    """

    def __init__(self, settings: Settings) -> None:
        self.executor_id = settings.node.name if settings.is_shared else "local"
        if not settings.node.database:
            require_sound(_sqlite_path(settings))
        config: DBOSConfig = {
            "name": "dicom-node",
            "system_database_url": settings.database_url if settings.node.database else _sqlite_url(settings),
            "application_version": WORKFLOW_VERSION,
            "executor_id": self.executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        # the library waits while its server is away, or its SQLite file is locked; so it does while the disk is full
        vars(_sys_db)["retriable_sqlite_exception"] = _is_waited_for
        self._dbos = DBOS(config=config)
        self._workflows: dict[str, Workflow] = {}
        self._running: set[str] = set()
        self._missing: set[str] = set()
        self._lock = threading.Lock()

    def register(self, name: str, workflow: Workflow) -> None:
        """Make a function of JSON values a durable workflow; before :meth:`launch`."""

        def tracked(*arguments: Any) -> None:
            workflow_id = str(DBOS.workflow_id)
            with self._lock:
                self._running.add(workflow_id)
            try:
                workflow(*arguments)
            finally:
                with self._lock:
                    self._running.discard(workflow_id)

        tracked.__qualname__ = tracked.__name__ = name
        self._workflows[name] = DBOS.workflow(name=name, max_recovery_attempts=1000)(tracked)

    def launch(self) -> None:
        """Connect, recover what was pending, and begin to work."""
        DBOS.launch()

    def declare_queue(self, name: str, *, concurrency: int) -> None:
        """Make a queue of which at most ``concurrency`` workflows run at once in this process."""
        DBOS.register_queue(
            name,
            worker_concurrency=concurrency,
            polling_interval_sec=POLLING_SECONDS,
            on_conflict="always_update",
        )

    def enqueue(
        self, queue: str, workflow: str, workflow_id: str, *arguments: str | int, urgent: bool = False, delay: float = 0
    ) -> None:
        """Have a workflow run, once: an identity that is known already is not enqueued again.

        Args:
            queue: A declared queue.
            workflow: A registered name.
            workflow_id: Its identity.
            arguments: JSON values it is called with.
            urgent: Before everything routine.
            delay: Seconds before it may start; survives restarts.
        """
        options = SetEnqueueOptions(priority=URGENT if urgent else ROUTINE, delay_seconds=delay or None)
        with SetWorkflowID(workflow_id), options:
            DBOS.enqueue_workflow(queue, self._workflows[workflow], *arguments)

    @staticmethod
    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Within a workflow: run a function once and checkpoint its JSON result.

        It outlasts an outage (:meth:`outlasting`), and so does the checkpoint.
        """
        options: StepOptions = {"name": name, "retries_allowed": False}
        return DBOS.run_step(options, Engine.outlasting, name, function, *arguments)

    @staticmethod
    def outlasting(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Within a workflow: call a function again for as long as the database is away or the disk is full.

        That is no fault of the case: it waits, and the log says for what.
        """
        further = pauses()
        while True:
            try:
                return function(*arguments)
            except Exception as error:
                if (reason := outage_of(error)) is None:
                    raise
                pause = next(further)
                _log.warning("waiting", workflow=DBOS.workflow_id, step=name, reason=reason, seconds=round(pause, 1))
                time.sleep(pause)

    @staticmethod
    def is_alive(workflow_id: str) -> bool:
        """Whether a workflow, or one whose identity begins with its own and a full stop, still has work to do."""
        alive = [
            *DBOS.list_workflows(workflow_ids=[workflow_id], status=_ALIVE, load_input=False, load_output=False),
            *DBOS.list_workflows(
                workflow_id_prefix=f"{workflow_id}.", status=_ALIVE, limit=1, load_input=False, load_output=False
            ),
        ]
        return bool(alive)

    @staticmethod
    def has_ended(workflow_id: str) -> bool:
        """Whether a workflow was enqueued once and has ended, well or badly."""
        return bool(DBOS.list_workflows(workflow_ids=[workflow_id], status=_ENDED, load_input=False, load_output=False))

    def resume_lost(self, queue_of: Callable[[str], str]) -> list[str]:
        """Resume workflows that count as running here but are not (a full disk can leave such rows behind).

        A workflow is resumed at the second call in a row that misses it; call this every few seconds.

        Args:
            queue_of: The queue that a workflow, given by its identity, belongs to.

        Returns:
            Identities that were resumed.
        """
        pending = DBOS.list_workflows(
            status="PENDING", executor_id=self.executor_id, load_input=False, load_output=False
        )
        with self._lock:
            missing = {row.workflow_id for row in pending} - self._running
        lost = sorted(missing & self._missing)  # twice in a row: one that has just been dequeued is not lost
        self._missing = missing - set(lost)
        for workflow_id in lost:
            self.resume(workflow_id, queue_of(workflow_id))
        return lost

    @property
    def is_idle(self) -> bool:
        """Whether no workflow runs in this process."""
        with self._lock:
            return not self._running

    def executors_with_work(self) -> frozenset[str]:
        """Executor ids, this one's aside, that hold workflows as running."""
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        return frozenset(str(row.executor_id) for row in pending) - {self.executor_id}

    @staticmethod
    def running_at(executor_id: str) -> tuple[str, ...]:
        """Identities of the workflows that an executor holds as running, oldest first."""
        rows = DBOS.list_workflows(status="PENDING", executor_id=executor_id, load_input=False, load_output=False)
        return tuple(row.workflow_id for row in rows)

    @staticmethod
    def resume(workflow_id: str, queue: str) -> None:
        """Have a workflow go on from its last finished step, at whichever executor takes it from the queue.

        Who ran it so far finds its next checkpoint refused.
        """
        DBOS.resume_workflow(workflow_id, queue_name=queue)

    @staticmethod
    def cancel(workflow_id: str) -> None:
        """Have a workflow never go on."""
        DBOS.cancel_workflow(workflow_id)

    @staticmethod
    def forget_ended(before: float, most: int) -> int:
        """Forget workflows that ended before a moment, with their checkpoints; what has not ended stays.

        Args:
            before: Seconds since the epoch.
            most: How many at once.

        Returns:
            How many were forgotten. Their identities can be enqueued again.
        """
        moment = datetime.fromtimestamp(before, UTC).isoformat()
        ended = DBOS.list_workflows(
            status=_ENDED, completed_before=moment, limit=most, load_input=False, load_output=False
        )
        if ended:
            DBOS.delete_workflows([row.workflow_id for row in ended])
        return len(ended)

    @staticmethod
    def stop(*, patience_seconds: int) -> None:
        """Take no further work, wait for running steps, and let go of the database."""
        DBOS.destroy(workflow_completion_timeout_sec=patience_seconds)


def _is_waited_for(error: Exception) -> bool:
    """Whether the library tries a write of its own again: within a workflow, which would end otherwise."""
    return DBOS.workflow_id is not None and outage_of(error) is not None


def _sqlite_url(settings: Settings) -> str:
    return f"sqlite:///{_sqlite_path(settings)}"


def _sqlite_path(settings: Settings) -> Path:
    return (settings.node.home / "workflows.sqlite").absolute()
