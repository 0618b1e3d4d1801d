"""Putting instances on record, many in one commit where several associations wait for the same disk.

A commit costs an fsync however much it holds. Whoever comes while another's commit is under way waits for it and then
commits, in one transaction, everything that has queued up meanwhile. Nobody returns before the commit that holds his
instance has returned: nothing is acknowledged early.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import ImageGone
from dicom_node.ledger.intake import Instance, Intake


@dataclass
class _Waiting:
    instance: Instance
    is_new: bool | None = None
    is_gone: bool = False
    error: Exception | None = None

    @property
    def ended(self) -> bool:
        return self.is_new is not None or self.is_gone or self.error is not None


class Recorder:
    """Records instances for any number of threads.

    Args:
        intake: The ledger's view of reception.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._queue: list[_Waiting] = []

    def record(self, instance: Instance) -> bool:
        """Put an instance on record; once this returns it is durable.

        Returns:
            False when this SOP Instance UID was on record already; nothing is changed then.

        Raises:
            SQLAlchemyError: The ledger cannot be written; this instance is not on record.
            ImageGone: Its file is not in place: it was removed meanwhile; nothing is on record.
        """
        waiting = _Waiting(instance)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._commit_lock:
            if not waiting.ended:
                with self._queue_lock:
                    batch, self._queue = self._queue, []
                self._commit(batch)
        if waiting.error is not None:
            raise waiting.error
        if waiting.is_gone:
            raise ImageGone(f"{instance.path} was removed while it was recorded; write it again")
        if waiting.is_new is None:
            raise RuntimeError("the commit that held this instance was broken off")
        return waiting.is_new

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            recorded = self._intake.record_all([waiting.instance for waiting in batch], _is_in_place)
        except Exception as error:  # noqa: BLE001 - each of those who wait has to be told
            for waiting in batch:
                waiting.error = error
            return
        for waiting, is_new in zip(batch, recorded, strict=True):
            waiting.is_new, waiting.is_gone = is_new, is_new is None


def _is_in_place(instance: Instance) -> bool:
    return Path(instance.path).is_file()
