"""The desk that every service of the listener hands its instances to, whatever protocol they came by."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dicom_node.ledger.intake import Association
from dicom_node.logs import get_logger
from dicom_node.receive.counting import ReceptionCounts
from dicom_node.receive.storing import OUT_OF_RESOURCES, PROCESSING_FAILURE, Answer, Arrival, Reception
from dicom_node.settings import PeerTable

log = get_logger("receive")


class StoreDesk:
    """Stores, counts what was answered, and turns away what comes once it has closed.

    Args:
        reception: What stores.
        counts: Where answers are counted.
    """

    def __init__(self, reception: Reception, counts: ReceptionCounts) -> None:
        self._reception = reception
        self._counts = counts
        self._changed = threading.Condition()
        self._storing = 0
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken, since the node is stopping."""
        return self._is_closed

    def store(
        self,
        read: Callable[[], Arrival],
        association: Callable[[], Association],
        peer: PeerTable | None,
        calling_ae: str,
    ) -> Answer:
        """Take one instance in.

        Args:
            read: Gives what came.
            association: As for :meth:`Reception.store`.
            peer: As for :meth:`Reception.store`.
            calling_ae: Who is counted as its sender.

        Returns:
            What to answer. Never raises.
        """
        with self._changed:
            if self._is_closed:
                return Answer(OUT_OF_RESOURCES, "the node is stopping; send again later")
            self._storing += 1
        try:
            arrival = read()
            answer = self._reception.store(arrival, association, peer)
            self._counts.count_answer(answer.status, calling_ae, len(arrival.encoded))
        except Exception:
            # The last resort: whatever went wrong in our code, the sender keeps its instance and we learn of it.
            log.exception("instance not stored", reason="internal error")
            return Answer(PROCESSING_FAILURE, "internal error; the instance was not stored")
        else:
            return answer
        finally:
            with self._changed:
                self._storing -= 1
                self._changed.notify_all()

    def refuse(self, answer: Answer, calling_ae: str) -> Answer:
        """Count what was refused before it could be brought here; gives the answer back."""
        self._counts.count_answer(answer.status, calling_ae, 0)
        return answer

    def close(self) -> None:
        """Take nothing more; returns once what is being stored has been."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: self._storing == 0)
