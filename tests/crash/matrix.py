"""Kills the processes of a node at the transitions of its cases, while four associations send, and judges the rest."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import pydicom

from dicom_node.ledger.cases import FINAL_STATES, Cases
from dicom_node.ledger.database import open_database
from tests.crash.invariants import Judgement, judge
from tests.crash.senders import Sender
from tests.crash.transitions import TRANSITIONS, Transitions
from tests.peers import Peer, storescp
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

ROLES = {"listener": "listen", "worker": "work", "inference": "inference"}
TARGETS = (*ROLES, "sender", "supervisor")
SENDERS = 4
MOST_UNFINISHED = 8
TRANSITION_SECONDS = 45.0
REST_SECONDS = 420.0
_RULE = '[[rule]]\nname = "all"\ncard = "torso"\nto = ["store", "archive"]\n'


@dataclass
class Outcome:
    """What a run did and what came of it.

    Attributes:
        kills: How often each target was killed at each transition; "any moment" where none came in time.
        series: Series that were sent whole.
        images: Images that were acknowledged.
        attempts: Cases by the attempt that ended them.
        seconds: How long the run took.
    """

    database: str
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    series: int = 0
    images: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    judgement: Judgement | None = None


class CrashRun:
    """One node, four senders, and a killer.

    Args:
        folder: For everything.
        database: As in ``[node] database``; SQLite where None.
        seed: Decides the order of the kills and the moments after a transition.
    """

    def __init__(self, folder: Path, database: str | None, seed: int) -> None:
        self._folder = folder
        self._database = database
        self._random = random.Random(seed)
        self._outcome = Outcome("SQLite" if database is None else "PostgreSQL")
        self._node: RunningNode
        self._senders: list[Sender]
        self._transitions: Transitions

    def run(self, kills: int, *, at_once: int = 1, report: Callable[[str], object] = lambda _: None) -> Outcome:
        """Kill so often, let the node come to rest, and judge.

        Args:
            kills: Processes to kill in all.
            at_once: Processes of different kinds that are killed at the same transition.
            report: Gets a line for every transition at which something was killed.
        """
        began = time.monotonic()
        with storescp(self._folder / "peer") as peer, self._started(peer):
            for transition, targets in self._plan(kills, at_once):
                self._kill_all(targets, transition)
                done = sum(self._outcome.kills.values())
                report(f"{time.monotonic() - began:6.0f} s  {done:4} kills: {transition}, {', '.join(targets)}")
            self._come_to_rest()
            self._judge(peer)
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    def _plan(self, kills: int, at_once: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Transition after transition, and target after target: their numbers have no common divisor, so all meet."""
        targets = cycle(self._random.sample(TARGETS, len(TARGETS)))
        transitions = cycle(self._random.sample(TRANSITIONS, len(TRANSITIONS)))
        for begun in range(0, kills, at_once):
            yield next(transitions), tuple(islice(targets, min(at_once, kills - begun)))

    @contextmanager
    def _started(self, peer: Peer) -> Iterator[None]:
        table = peer.destination
        destination = (
            f'[[destination]]\nname = "{table.name}"\nae_title = "{table.ae_title}"\nhost = "{table.host}"\n'
            f"port = {table.port}\nretry_seconds = {[1] * 30}\ntimeout_seconds = 20\n"
        )
        config = write_config(self._folder / "node", extra=destination + _RULE, database=self._database)
        log = (self._folder / "node.log").open("wb")
        self._node = RunningNode(config, module=MODULE, messages=log)
        ledger = open_database(self._node.settings.database_url)
        self._transitions = Transitions(ledger, lambda: sum(sender.progress() for sender in self._senders))
        port = self._node.settings.node.port
        self._senders = [Sender(number, port, self._folder, self._has_room) for number in range(1, SENDERS + 1)]
        try:
            with log, self._node:
                for sender in self._senders:
                    sender.start()
                yield
        finally:
            for sender in self._senders:
                sender.end()
            ledger.dispose()

    def _has_room(self) -> bool:
        return self._transitions.unfinished(sorted(FINAL_STATES)) < MOST_UNFINISHED

    def _kill_all(self, targets: Sequence[str], transition: str) -> None:
        pids = {target: self._pid(target) for target in targets}
        is_seen = self._transitions.wait_for(transition, TRANSITION_SECONDS)
        for target in sorted(targets, key=lambda name: name == "supervisor"):  # with it, all its processes die
            if self._random.random() < 0.5:
                time.sleep(self._random.random() * 0.03)
            self._kill(target, pids[target])
            self._outcome.kills[target, transition if is_seen else "any moment"] += 1

    def _kill(self, target: str, pid: int) -> None:
        if target == "supervisor":
            self._node.kill()
            self._node.start()
        elif target == "sender":
            while not any(sender.kill() for sender in self._random.sample(self._senders, SENDERS)):
                time.sleep(0.001)
        else:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it was replaced while we waited
                os.kill(self._pid(target), signal.SIGKILL)

    def _pid(self, target: str) -> int:
        deadline = time.monotonic() + 2 * TRANSITION_SECONDS
        while target in ROLES:
            pid = self._node.pids().get(ROLES[target])
            if pid is not None:
                return pid
            if time.monotonic() > deadline:
                raise TimeoutError(f"the {target} was not started again")
            time.sleep(0.02)
        return 0

    def _come_to_rest(self) -> None:
        for sender in self._senders:
            sender.end()
        deadline = time.monotonic() + REST_SECONDS
        for sender in self._senders:
            sender.join(timeout=max(0.0, deadline - time.monotonic()))
        while self._transitions.unfinished(sorted(FINAL_STATES)) and time.monotonic() < deadline:
            time.sleep(0.2)

    def _judge(self, peer: Peer) -> None:
        ledger = open_database(self._node.settings.database_url)
        acknowledged = {path for sender in self._senders for path in sender.sent.acknowledged}
        archive = (self._node.settings.node.home / "archive").rglob("*.dcm")
        stores = {
            "archive": [path.stem for path in archive],
            "store": [_sop_instance(path) for path in peer.folder.iterdir()],
        }
        judgement = judge(ledger, acknowledged, stores)
        judgement.stuck.extend(
            f"{sender.name} could not send its series" for sender in self._senders if sender.is_alive()
        )
        waiting = self._transitions.unfinished(sorted(FINAL_STATES))
        judgement.stuck.extend([f"{waiting} series or cases still have work to do"] if waiting else [])
        self._outcome.attempts = Counter(case.attempt for case in Cases(ledger).list())
        ledger.dispose()
        self._outcome.series = sum(len(sender.sent.series) for sender in self._senders)
        self._outcome.images = len(acknowledged)
        self._outcome.judgement = judgement


def _sop_instance(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)


def table(outcome: Outcome) -> str:
    """The kills of a run as a table, and its judgement."""
    columns = [*TRANSITIONS, *(["any moment"] if any(cell[1] == "any moment" for cell in outcome.kills) else [])]
    lines = [f"{outcome.database:<12}" + "".join(f"{column:>11}" for column in columns) + f"{'all':>6}"]
    for target in TARGETS:
        counts = [outcome.kills[target, column] for column in columns]
        lines.append(f"{target:<12}" + "".join(f"{count:>11}" for count in counts) + f"{sum(counts):>6}")
    judgement = outcome.judgement
    assert judgement is not None
    lines.append(
        f"{sum(outcome.kills.values())} kills in {outcome.seconds:.0f} s; {outcome.series} series, "
        f"{outcome.images} images acknowledged; cases by attempt {dict(sorted(outcome.attempts.items()))}: "
        f"{len(judgement.lost)} lost, "
        f"{len(judgement.duplicated)} duplicated, {len(judgement.stuck)} stuck"
    )
    lines += [f"  {what}" for what in (*judgement.lost[:10], *judgement.duplicated[:10], *judgement.stuck[:10])]
    return "\n".join(lines)
