"""Receiving a CT durably, beside Orthanc: milliseconds per image from dcmtk's storescu, one association and four.

Beside the time that passes stands the processor time of each receiver: it says the same on a machine that is busy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.cli.printing import print_table
from tests.peers import QUICK, await_port, orthanc, tool
from tests.phantoms import PhantomSpec, write
from tests.running_node import write_config

ASSOCIATIONS = (1, 4)
SETTLE_SECONDS = 0.2
"""What a receiver still does when the last association has ended is its work too."""


@dataclass(frozen=True)
class Target:
    """A running receiver: what the table calls it, its AE title, port and process."""

    name: str
    ae_title: str
    port: int
    process_id: int

    @property
    def processor_seconds(self) -> float:
        """What it has used so far, in all its threads (``proc(5)``)."""
        fields = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """What receiving one series took, in seconds."""

    passed: float
    processor: float


_Rounds = dict[tuple[Target, int], list[Round]]


def main() -> int:
    """Run the bench; 0 when every image was acknowledged by both."""
    parser = argparse.ArgumentParser(prog="deploy/bench --reception", description=__doc__)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=3, help="each sends a new series; the median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write(_trunk(options.slices, options.size), folder / "source")
        fresh = _fresh_series(source, folder)
        with _node(folder / "node") as node, _orthanc(folder / "orthanc") as peer:
            rounds = _measure((node, peer), fresh, options.rounds)
    _print(options, node, peer, rounds)
    return 0


def _print(options: argparse.Namespace, node: Target, peer: Target, rounds: _Rounds) -> None:
    rows = []
    for associations in ASSOCIATIONS:
        for name, of in (("that pass", "passed"), ("of the processor", "processor")):
            ours, theirs = (
                statistics.median(getattr(each, of) for each in rounds[target, associations]) / options.slices
                for target in (node, peer)
            )
            rows.append((associations, name, f"{1000 * ours:.1f}", f"{1000 * theirs:.1f}", f"{ours / theirs:.2f}"))
    print_table(
        f"{options.slices} x {options.size} x {options.size}, median of {options.rounds}: ms per image",
        ("associations", "milliseconds", "this node, durable", "Orthanc, storage synchronised", "ratio"),
        rows,
    )


def _measure(targets: Sequence[Target], fresh: Iterator[list[Path]], rounds: int) -> _Rounds:
    """Every round, taken in turns so that both see the same machine; the first, unmeasured, warms up."""
    measured: _Rounds = {}
    for number in range(rounds + 1):
        for associations in ASSOCIATIONS:
            files = next(fresh)
            for target in targets:
                before = target.processor_seconds
                passed = _send(target, files, associations)
                time.sleep(SETTLE_SECONDS)
                if number:
                    this = Round(passed, target.processor_seconds - before)
                    measured.setdefault((target, associations), []).append(this)
    return measured


def _send(target: Target, files: Sequence[Path], associations: int) -> float:
    """Send over so many associations at once; seconds until the last has ended.

    Raises:
        RuntimeError: An image was not acknowledged with Success.
    """
    command = [tool("storescu"), "-v", "-aet", "SCANNER", "-aec", target.ae_title, "127.0.0.1", str(target.port)]
    started = time.monotonic()
    senders = [
        subprocess.Popen(
            [*command, *map(str, files[number::associations])],
            env=QUICK, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for number in range(associations)
    ]  # fmt: skip
    logs = [sender.communicate()[0] for sender in senders]
    taken = time.monotonic() - started
    stored = sum(log.count("Received Store Response (Success)") for log in logs)
    if stored != len(files):
        raise RuntimeError(f"{target.name} acknowledged {stored} of {len(files)} images: {logs[0][-400:]}")
    return taken


def _fresh_series(source: Sequence[Path], folder: Path) -> Iterator[list[Path]]:
    """The same images again and again under new UIDs, so that no receiver has them already."""
    for number in count():
        series = generate_uid()
        target = folder / f"series-{number}"
        target.mkdir()
        files = []
        for path in source:
            dataset = dcmread(path)
            dataset.SeriesInstanceUID = series
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            files.append(target / path.name)
            dataset.save_as(files[-1])
        yield files


def _trunk(slices: int, size: int) -> PhantomSpec:
    return PhantomSpec(
        modality="CT", anatomy="torso", slices=slices, rows=size, columns=size,
        row_spacing=400 / size, column_spacing=400 / size, slice_spacing=400 / slices,
    )  # fmt: skip


@contextmanager
def _node(folder: Path) -> Iterator[Target]:
    """The listener alone, as on a machine that only receives."""
    config = write_config(folder)
    port = int(next(line for line in config.read_text().splitlines() if line.startswith("port")).partition("=")[2])
    with (folder / "listener.log").open("wb") as log:
        command = [sys.executable, "-m", "dicom_node", "--config", str(config), "listen"]
        process = subprocess.Popen(command, stderr=log)
        try:
            await_port(port, process)
            yield Target("this node", "DICOM_NODE", port, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)


@contextmanager
def _orthanc(folder: Path) -> Iterator[Target]:
    with orthanc(folder, {"SCANNER": 104}) as peer:
        yield Target("Orthanc", peer.destination.ae_title, peer.destination.port, peer.process_id)


if __name__ == "__main__":
    sys.exit(main())
