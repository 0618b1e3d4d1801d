"""A long day in short: many small series from many scanners, a destination that comes and goes, a worker that dies."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.invariants import Judgement
from tests.crash.load import Load
from tests.peers import destination, running, tool
from tests.ports import free_port

SENDERS = 8
MOST_UNFINISHED = 40
KILL_SECONDS = 30.0
UP_SECONDS, DOWN_SECONDS = 20.0, 10.0
REST_SECONDS = 1800.0
WARM_SHARE = 0.1
"""Share of the series after which the listener counts as warm."""
_MIB = 1024 * 1024


@dataclass
class Day:
    """What a soak run did and what came of it.

    Attributes:
        listener_bytes: Resident memory of the listener, sampled once a second, with the series sent by then.
    """

    series: int = 0
    images: int = 0
    kills: int = 0
    outages: int = 0
    seconds: float = 0.0
    listener_bytes: list[tuple[int, int]] = field(default_factory=list)
    judgement: Judgement | None = None

    @property
    def growth(self) -> float:
        """How much more memory the listener has at the end than when it was warm, as a share."""
        warm = [size for sent, size in self.listener_bytes if sent >= WARM_SHARE * self.series]
        return warm[-1] / warm[0] - 1.0

    def __str__(self) -> str:
        """One line for each thing that has to hold."""
        judgement = self.judgement
        assert judgement is not None
        sizes = [size / _MIB for _, size in self.listener_bytes]
        lines = [
            (
                f"{self.series} series, {self.images} images from {SENDERS} associations in {self.seconds:.0f} s; "
                f"worker killed {self.kills} times, destination away {self.outages} times"
            ),
            (
                f"listener: {sizes[0]:.0f} MiB at first, {max(sizes):.0f} MiB at most, {sizes[-1]:.0f} MiB at the end; "
                f"{self.growth:+.1%} since {WARM_SHARE:.0%} of the series were sent"
            ),
            f"{len(judgement.lost)} lost, {len(judgement.duplicated)} duplicated, {len(judgement.stuck)} stuck",
        ]
        lines += [f"  {what}" for what in (*judgement.lost[:10], *judgement.duplicated[:10], *judgement.stuck[:10])]
        return "\n".join(lines)


def soak(folder: Path, database: str | None, series: int, report: Callable[[str], object]) -> Day:
    """Send so many series through a node that gets no rest.

    Args:
        folder: For everything.
        database: As in ``[node] database``; SQLite where None.
        series: At least so many.
        report: Gets a line every half minute.
    """
    day, began, port, stored = Day(), time.monotonic(), free_port(), folder / "stored"
    stored.mkdir(parents=True)
    receiver = destination("store", "STORE", port)
    load = Load(folder, database, receiver, stored, senders=SENDERS, most_unfinished=MOST_UNFINISHED)
    with load.running():
        with _flapping(day, folder, stored, port):
            next_kill = time.monotonic() + KILL_SECONDS
            while load.series_sent < series or not load.is_at_rest():
                time.sleep(1.0)
                if load.series_sent >= series:
                    load.end_sending()
                pids = load.node.pids()
                day.listener_bytes.append((load.series_sent, _resident(pids["listen"])))
                if time.monotonic() > next_kill and "work" in pids:
                    load.node.kill_role("work")
                    day.kills += 1
                    next_kill += KILL_SECONDS
                    report(f"{time.monotonic() - began:6.0f} s  {load.series_sent} series sent")
        with running(_receiver(stored, port), port, folder=folder):
            load.come_to_rest(REST_SECONDS)
            day.listener_bytes.append((load.series_sent, _resident(load.node.pids()["listen"])))
            day.judgement = load.judged()
        day.series, day.images = load.series_sent, len(load.acknowledged)
    day.seconds = time.monotonic() - began
    return day


def _receiver(stored: Path, port: int) -> list[str]:
    return [tool("storescp"), "-aet", "STORE", "-od", str(stored), str(port)]


@contextmanager
def _flapping(day: Day, folder: Path, stored: Path, port: int) -> Iterator[None]:
    """A receiver that is there for a while and away for a while, until the block ends."""
    ended = threading.Event()

    def flap() -> None:
        while not ended.is_set():
            with running(_receiver(stored, port), port, folder=folder):
                ended.wait(UP_SECONDS)
            day.outages += 1
            ended.wait(DOWN_SECONDS)

    thread = threading.Thread(target=flap, name="flapping destination")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _resident(pid: int) -> int:
    pages = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return int(pages or 0) * 1024
