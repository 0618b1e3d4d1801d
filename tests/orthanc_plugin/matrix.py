"""Kills Orthanc, or the node, at five moments each on the way of a CT and an MR, and says when their results came."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from tests.orthanc_plugin.site import Scan, Site, scan, small, wait_for

AWAY_SECONDS = 3.0
"""How long what was killed stays away."""


@dataclass(frozen=True)
class Moment:
    """A moment at which something is killed: ``when`` says that it has come."""

    name: str
    when: Callable[[Site, Scan], bool]
    is_while_sending: bool = False


def _images(site: Site, series: str) -> int:
    with suppress(AssertionError, ValueError):  # no such series yet
        return len(site.orthanc.rest("GET", f"/series/{site.orthanc.series(series)}")["Instances"])
    return 0


def _is_being_handed_over(site: Site, sent: Scan) -> bool:
    return any(site.orthanc.standing(series)["state"] in {"handing over", "handed over"} for series in sent.series)


def _is_case(*states: str) -> Callable[[Site, Scan], bool]:
    return lambda site, sent: any(site.case_state(series) in states for series in sent.series)


OF_ORTHANC = (
    Moment("while the scanner sends", lambda site, sent: _images(site, sent.series[0]) > 5, is_while_sending=True),
    Moment("before the series are stable", lambda _site, _sent: True),
    Moment("while it hands over", _is_being_handed_over),
    Moment("while the node segments", _is_case("segmenting", "encoding")),
    Moment("while the node delivers", _is_case("delivering")),
)
OF_THE_NODE = (
    Moment("before the series are stable", lambda _site, _sent: True),
    Moment("while it receives", _is_being_handed_over),
    Moment("while it segments", _is_case("segmenting")),
    Moment("while it encodes or verifies", _is_case("encoding", "verifying")),
    Moment("while it delivers", _is_case("delivering")),
)


@dataclass(frozen=True)
class Row:
    """What came of one kill.

    Attributes:
        killed: "Orthanc", "the node" or "nothing".
        seconds: From the last image that Orthanc acknowledged to the last result in Orthanc.
        problems: What is wrong with the results; nothing should be.
    """

    killed: str
    moment: str
    seconds: float
    problems: tuple[str, ...]


def one_row(site: Site, killed: str, moment: Moment, folder: Path, seed: int) -> Row:
    """Send a CT and an MR of a new patient, kill, start again, and wait for their results."""
    sent = scan(folder, [small("CT", seed), small("MR", seed)])
    sending = Thread(target=_send_until_acknowledged, args=(site, sent))
    sending.start()
    if not moment.is_while_sending:
        sending.join()
    began = time.monotonic()
    wait_for(lambda: moment.when(site, sent), moment.name, look=0.01)
    if killed == "Orthanc":
        site.orthanc.kill()
        time.sleep(AWAY_SECONDS)
        site.orthanc.start()
    else:
        site.node.kill()
        time.sleep(AWAY_SECONDS)
        site.node.start()
    sending.join()
    began = time.monotonic() if moment.is_while_sending else began
    wait_for(lambda: site.is_complete(sent), f"results, {killed} killed {moment.name}")
    return Row(killed, moment.name, time.monotonic() - began, tuple(site.surplus(sent)))


def _send_until_acknowledged(site: Site, sent: Scan) -> None:
    """A scanner sends again what was not acknowledged."""
    while site.orthanc.send(sent.folder) != 0:
        time.sleep(1.0)


def table(rows: list[Row]) -> str:
    """The rows, for people."""
    lines = [f"{'killed':<9} {'when':<32} {'results after':>13}"]
    lines += [f"{row.killed:<9} {row.moment:<32} {row.seconds:>11.1f} s  {'; '.join(row.problems)}" for row in rows]
    return "\n".join(lines)
