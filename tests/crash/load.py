"""A node under load: scanners that send at the same time, two destinations, and the judgement once it is at rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.ledger.cases import FINAL_STATES, Cases
from dicom_node.ledger.database import open_database
from dicom_node.settings import DestinationTable
from tests.crash.invariants import Judgement, judge
from tests.crash.senders import Sender
from tests.crash.transitions import Transitions
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

_RULE = '[[rule]]\nname = "all"\ncard = "torso"\nto = ["store", "archive"]\n'
_FINAL = sorted(FINAL_STATES)
SEGMENT_SECONDS = 0.3
"""How long the stand-in takes: long enough to be killed in the middle."""


class Load:
    """A node (with the stand-in for its network) that sends to a plain receiver and to its own archive.

    Args:
        folder: For everything.
        database: As in ``[node] database``; SQLite where None.
        receiver: The plain receiver.
        stored: Where the receiver's files lie.
        senders: How many associations send at the same time.
        most_unfinished: Series and cases with work to do above which no scanner begins another series.
    """

    def __init__(
        self, folder: Path, database: str | None, receiver: DestinationTable, stored: Path, *, senders: int,
        most_unfinished: int,
    ) -> None:  # fmt: skip
        destination = (
            f'[[destination]]\nname = "{receiver.name}"\nae_title = "{receiver.ae_title}"\nhost = "{receiver.host}"\n'
            f"port = {receiver.port}\nretry_seconds = {[1] * 30 + [5] * 60}\ntimeout_seconds = 20\n"
        )
        config = write_config(folder / "node", extra=destination + _RULE, database=database)
        self._stored = stored
        self._most_unfinished = most_unfinished
        self._log = folder / "node.log"
        self.node = RunningNode(config, {"QUICK_SECONDS": str(SEGMENT_SECONDS)}, MODULE)
        port = self.node.settings.node.port
        self.senders = [Sender(number, port, folder, self._has_room) for number in range(1, senders + 1)]
        self._ledger = open_database(self.node.settings.database_url)
        self.transitions = Transitions(self._ledger, lambda: sum(sender.progress() for sender in self.senders))

    @contextmanager
    def running(self) -> Iterator[None]:
        """The node runs and the scanners send while the block runs."""
        try:
            with self._log.open("wb") as self.node.messages, self.node:
                for sender in self.senders:
                    sender.start()
                yield
        finally:
            for sender in self.senders:
                sender.end()
            self._ledger.dispose()

    @property
    def series_sent(self) -> int:
        """Series that were sent whole."""
        return sum(len(sender.sent.series) for sender in self.senders)

    @property
    def acknowledged(self) -> set[Path]:
        """Files that were answered with Success."""
        return {path for sender in self.senders for path in sender.sent.acknowledged}

    def attempts(self) -> Counter[int]:
        """Cases by the attempt that counts."""
        return Counter(case.attempt for case in Cases(self._ledger).list())

    def come_to_rest(self, seconds: float) -> None:
        """Have the scanners finish the series at hand, and wait until the node has nothing left to do."""
        self.end_sending()
        deadline = time.monotonic() + seconds
        for sender in self.senders:
            sender.join(timeout=max(0.0, deadline - time.monotonic()))
        while not self.is_at_rest() and time.monotonic() < deadline:
            time.sleep(0.2)

    def end_sending(self) -> None:
        """Have no scanner begin another series."""
        for sender in self.senders:
            sender.end()

    def is_at_rest(self) -> bool:
        """Whether the node has nothing left to do of what it was sent so far."""
        try:
            return self.transitions.unfinished(_FINAL) == 0
        except SQLAlchemyError:
            return False

    def judged(self) -> Judgement:
        """What became of everything that was sent."""
        archive = (self.node.settings.node.home / "archive").rglob("*.dcm")
        stores = {
            "archive": [path.stem for path in archive],
            "store": [_sop_instance(path) for path in self._stored.iterdir()],
        }
        judgement = judge(self._ledger, self.acknowledged, stores)
        judgement.stuck.extend(
            f"{sender.name} could not send its series" for sender in self.senders if sender.is_alive()
        )
        judgement.stuck.extend(f"{sender.name} broke: {sender.broke!r}" for sender in self.senders if sender.broke)
        waiting = self.transitions.unfinished(_FINAL)
        judgement.stuck.extend([f"{waiting} series or cases still have work to do"] if waiting else [])
        return judgement

    def _has_room(self) -> bool:
        try:
            return self.transitions.unfinished(_FINAL) < self._most_unfinished
        except SQLAlchemyError:
            return False


def _sop_instance(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)
