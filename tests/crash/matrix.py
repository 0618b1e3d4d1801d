"""Kills the processes of a node at the transitions of its cases, while four associations send, and judges the rest."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from tests.crash.invariants import Judgement
from tests.crash.load import Load
from tests.crash.transitions import TRANSITIONS
from tests.peers import storescp

ROLES = {"listener": "listen", "worker": "work", "inference": "inference"}
TARGETS = (*ROLES, "sender", "supervisor")
SENDERS = 4
MOST_UNFINISHED = 8
TRANSITION_SECONDS = 45.0
REST_SECONDS = 420.0


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
        self._load: Load

    def run(self, kills: int, *, at_once: int = 1, report: Callable[[str], object] = lambda _: None) -> Outcome:
        """Kill so often, let the node come to rest, and judge.

        Args:
            kills: Processes to kill in all.
            at_once: Processes of different kinds that are killed at the same transition.
            report: Gets a line for every transition at which something was killed.
        """
        began = time.monotonic()
        with storescp(self._folder / "peer") as peer:
            self._load = Load(
                self._folder, self._database, peer.destination, peer.folder,
                senders=SENDERS, most_unfinished=MOST_UNFINISHED,
            )  # fmt: skip
            with self._load.running():
                for transition, targets in self._plan(kills, at_once):
                    self._kill_all(targets, transition)
                    done = sum(self._outcome.kills.values())
                    report(f"{time.monotonic() - began:6.0f} s  {done:4} kills: {transition}, {', '.join(targets)}")
                self._load.come_to_rest(REST_SECONDS)
                self._conclude()
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    def _conclude(self) -> None:
        self._outcome.judgement = self._load.judged()
        self._outcome.series = self._load.series_sent
        self._outcome.images = len(self._load.acknowledged)
        self._outcome.attempts = self._load.attempts()

    def _plan(self, kills: int, at_once: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Transition after transition, and target after target: their numbers have no common divisor, so all meet."""
        targets = cycle(self._random.sample(TARGETS, len(TARGETS)))
        transitions = cycle(self._random.sample(TRANSITIONS, len(TRANSITIONS)))
        for begun in range(0, kills, at_once):
            yield next(transitions), tuple(islice(targets, min(at_once, kills - begun)))

    def _kill_all(self, targets: Sequence[str], transition: str) -> None:
        pids = {target: self._pid(target) for target in targets}
        is_seen = self._load.transitions.wait_for(transition, TRANSITION_SECONDS)
        for target in sorted(targets, key=lambda name: name == "supervisor"):  # with it, all its processes die
            if self._random.random() < 0.5:
                time.sleep(self._random.random() * 0.03)
            self._kill(target, pids[target])
            self._outcome.kills[target, transition if is_seen else "any moment"] += 1

    def _kill(self, target: str, pid: int) -> None:
        if target == "supervisor":
            self._load.node.kill()
            self._load.node.start()
        elif target == "sender":
            while not any(sender.kill() for sender in self._random.sample(self._load.senders, SENDERS)):
                time.sleep(0.001)
        else:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it was replaced while we waited
                os.kill(self._pid(target), signal.SIGKILL)

    def _pid(self, target: str) -> int:
        deadline = time.monotonic() + 2 * TRANSITION_SECONDS
        while target in ROLES:
            pid = self._load.node.pids().get(ROLES[target])
            if pid is not None:
                return pid
            if time.monotonic() > deadline:
                raise TimeoutError(f"the {target} was not started again")
            time.sleep(0.02)
        return 0


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
