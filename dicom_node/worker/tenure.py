"""Being one of several workers: a name that nobody else has, and a heartbeat that says so.

On PostgreSQL alone. The name is held by an advisory lock of the database session that also carries the heartbeat: a
killed process loses it at once, a frozen one keeps it, and no file on a shared disk has to be locked. Whether a worker
is alive is judged by its heartbeat and the database's clock.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import UsageError
from dicom_node.ledger.workers import Workers
from dicom_node.logs import get_logger

_log = get_logger("worker")

BEAT_SECONDS = 3.0
SILENT_SECONDS = 15.0
"""A worker that was not heard for so long counts as dead: five beats."""
CLOCK_SECONDS = 2.0
_NAME_LOCKS = 7_305_144
"""First key of the advisory locks on names; the second is made from the name."""


class Tenure:
    """A worker's place among those that share a database.

    Args:
        database: The ledger.
        executor_id: The worker's name.
        on_loss: Called, from the thread that beats, when others have taken this worker for dead and go on with its
            work: the process has to end. It gets the reason in words.
    """

    def __init__(self, database: sa.Engine, executor_id: str, on_loss: Callable[[str], None]) -> None:
        self._database = database
        self._workers = Workers(database)
        self._executor_id = executor_id
        self._incarnation = str(uuid4())
        self._on_loss = on_loss
        self._session: sa.Connection | None = None
        self._ended = threading.Event()
        self._heard_since: float | None = None
        self._thread = threading.Thread(target=self._beat_until_ended, name="heartbeat", daemon=True)

    def begin(self, *, patience_seconds: float = 10.0) -> None:
        """Take the name and begin to beat.

        Raises:
            UsageError: Another worker has this name.
            SQLAlchemyError: The database does not answer.
        """
        deadline = time.monotonic() + patience_seconds
        while not self._take_name():
            if time.monotonic() > deadline:
                raise UsageError(
                    f'another worker called "{self._executor_id}" is at work on this database: give each machine a '
                    "[node] name of its own, and run one worker a machine"
                )
            time.sleep(0.2)
        now = self._workers.enter(
            self._executor_id, self._incarnation, host=socket.gethostname(), process_id=os.getpid()
        )
        if abs(time.time() - now) > CLOCK_SECONDS:  # a series would count as quiet too early or too late
            _log.warning("this machine's clock differs from the database's", seconds=round(time.time() - now, 1))
        self._heard_since = time.monotonic()
        self._thread.start()

    def heard_for(self) -> float:
        """Seconds for which this worker has been heard without a break; 0 where the last beat failed."""
        since = self._heard_since
        return 0.0 if since is None else time.monotonic() - since

    def end(self, *, leave: bool) -> None:
        """Stop beating.

        Args:
            leave: Leave the record too; else others take over once this worker has been silent for too long.
        """
        self._ended.set()
        self._thread.join(timeout=BEAT_SECONDS)
        if leave:
            with suppress(SQLAlchemyError):  # who cannot say goodbye is missed soon enough
                self._workers.leave(self._executor_id, self._incarnation)
        self._drop_session()

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                loss = self._beat()
            except SQLAlchemyError as error:
                self._heard_since = None
                self._drop_session()
                _log.warning("heartbeat not recorded, trying again", error=type(error).__name__)
                continue
            if loss:
                self._on_loss(loss)
                return
            self._heard_since = self._heard_since or time.monotonic()

    def _beat(self) -> str | None:
        """Renew name and record; returns why that is not possible any more."""
        if not self._take_name():
            return f'another worker took the name "{self._executor_id}" while this one was not connected'
        if not self._workers.beat(self._executor_id, self._incarnation):
            return "this worker was not heard for too long, and others go on with its work"
        return None

    def _take_name(self) -> bool:
        """Hold the lock on the name, by the session that holds it already or by a new one."""
        if self._session is not None:
            self._session.execute(sa.text("SELECT 1"))  # raises where the session, and with it the lock, is lost
            return True
        session = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
        key = crc32(self._executor_id.encode()) - 2**31
        try:
            is_ours = bool(session.scalar(sa.select(sa.func.pg_try_advisory_lock(_NAME_LOCKS, key))))
        except SQLAlchemyError:
            session.invalidate()
            raise
        if is_ours:
            self._session = session
        else:
            session.close()
        return is_ours

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(SQLAlchemyError):
                session.invalidate()  # a pooled connection would keep the lock
                session.close()
