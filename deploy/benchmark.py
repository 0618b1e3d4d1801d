"""One large series through a running node: seconds per step, milliseconds per image, peak memory of each process."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from dicom_node.cli.printing import print_table
from dicom_node.deliver.sender import send
from tests.peers import storescp
from tests.phantoms import PhantomSpec, write
from tests.running_node import RunningNode, write_config

DONE_SECONDS = 3600.0
SAMPLE_SECONDS = 0.5


def main() -> int:
    """Run the bench; 0 when the case was done."""
    parser = argparse.ArgumentParser(prog="deploy/bench", description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write(_trunk(options.slices, options.size), folder / "series")
        with RunningNode(write_config(folder)) as node, _PeakMemory(node) as peaks:
            started = time.monotonic()
            stored = sum(outcome.ok for outcome in node.send(files))
            sending = time.monotonic() - started
            series = _series_of(files[0])
            (case,) = node.wait_for_cases([series], seconds=DONE_SECONDS)
            shown = node.command("cases", "show", case["case_id"])
        peer = _storescp_seconds(files, folder)
    print_table(
        f"{options.slices} x {options.size} x {options.size}: case {shown['state']}",
        ("step", "seconds"),
        [
            ("receive", f"{sending:.1f} ({1000 * sending / max(stored, 1):.1f} ms per image)"),
            ("  against storescp", f"{sending / peer:.2f} times its {peer:.1f} s" if peer else "not installed"),
        ]
        + [(step, seconds) for step, seconds in shown["seconds"].items()],
    )
    print_table("peak resident memory", ("process", "MiB"), [(role, f"{mib:.0f}") for role, mib in peaks.mib.items()])
    return 0 if shown["state"] == "done" else 1


def _trunk(slices: int, size: int) -> PhantomSpec:
    return PhantomSpec(
        modality="CT", anatomy="torso", slices=slices, rows=size, columns=size,
        row_spacing=400 / size, column_spacing=400 / size, slice_spacing=400 / slices,
    )  # fmt: skip


def _storescp_seconds(files: list[Path], folder: Path) -> float | None:
    """How long dcmtk's plain receiver takes for the same images from the same sender; it fsyncs nothing."""
    if shutil.which("storescp") is None:
        return None
    with storescp(folder / "peer") as peer:
        started = time.monotonic()
        send(peer.destination, files, calling_ae="BENCH")
        return time.monotonic() - started


def _series_of(path: Path) -> str:
    from pydicom import dcmread  # noqa: PLC0415 - after the node has started

    return str(dcmread(path, stop_before_pixels=True).SeriesInstanceUID)


class _PeakMemory:
    """Watches the high-water mark (VmHWM) of every process of a node."""

    def __init__(self, node: RunningNode) -> None:
        self.mib: dict[str, float] = {}
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            for role, pid in self._node.pids().items():
                self.mib[role] = max(self.mib.get(role, 0.0), _high_water_mib(pid))


def _high_water_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
