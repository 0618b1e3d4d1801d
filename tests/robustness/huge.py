"""One enhanced object with very many frames, honest or lying about their count: through the listener to its outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.deliver.sender import send
from dicom_node.errors import NodeError
from dicom_node.settings import DestinationTable, parse_settings
from dicom_node.worker.worker import Worker
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.robustness.listening import listening, status
from tests.robustness.reading import ROOT

Lie = Callable[[Dataset], None]


@dataclass(frozen=True)
class Outcome:
    """What became of an object.

    Attributes:
        size: Bytes of its file.
        taken: Whether the listener answered Success.
        listener: Bytes of the listener before, and at its peak.
        worker: Bytes of the process that opens and assembles the case before, and at its peak.
        seconds: From the look that opens the case to the volume.
        words: The shape of the volume, or why there is none.
    """

    size: int
    taken: bool
    listener: tuple[int, int]
    worker: tuple[int, int]
    seconds: float
    words: str


def half_the_groups(dataset: Dataset) -> None:
    """Describe half of the frames only."""
    groups = dataset.PerFrameFunctionalGroupsSequence
    del groups[len(groups) // 2 :]


def twice_the_groups(dataset: Dataset) -> None:
    """Describe each frame twice."""
    dataset.PerFrameFunctionalGroupsSequence.extend(list(dataset.PerFrameFunctionalGroupsSequence))


def many_frames(dataset: Dataset) -> None:
    """Claim as many frames as an IS can say."""
    dataset.NumberOfFrames = 2**31 - 1


def half_the_frames(dataset: Dataset) -> None:
    """Hold the pixels of half of the frames only."""
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]


LIES: dict[str, Lie] = {lie.__name__: lie for lie in (half_the_groups, twice_the_groups, many_frames, half_the_frames)}


def receive_huge(spec: PhantomSpec, lie: Lie = lambda _: None) -> Outcome:
    """Send one enhanced object to a listener of its own and assemble what it took; nothing is left behind."""
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder) / "home", free_port()
        file = write(spec, Path(folder) / "sent")[0]
        dataset = dcmread(file)
        lie(dataset)
        dataset.save_as(file, enforce_file_format=True)
        del dataset
        with listening(home, port, Path(folder) / "log") as process:
            before = status(process.pid, "VmRSS") * 1024
            node = DestinationTable(name="node", ae_title="DICOM_NODE", host="127.0.0.1", port=port)
            sent = send(node, [file], calling_ae="SCANNER")[0]
            listener = before, status(process.pid, "VmHWM") * 1024
            time.sleep(1.0)  # the end of the association goes on record
        command = [sys.executable, "-m", "tests.robustness.huge", str(home)]
        found = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
        answer = json.loads(found.stdout.splitlines()[-1])
        worker = answer["before"], answer["peak"]
        return Outcome(file.stat().st_size, sent.ok, listener, worker, answer["seconds"], answer["words"])


def _assembled(home: Path) -> dict[str, object]:
    settings = parse_settings({"node": {"home": str(home), "quiet_seconds": 0}}, origin="huge")
    worker = Worker(settings)
    before, started = status(os.getpid(), "VmRSS") * 1024, time.monotonic()
    worker._collector.open_cases(time.time() + 1)
    opened = worker._cases.list()
    words = str(opened[0].reason) if opened else "no case"
    if opened and opened[0].state == "waiting":
        try:
            worker._work(opened[0]).assemble()
            words = "assembled"
        except NodeError as error:
            words = error.message
    seconds = time.monotonic() - started
    return {"before": before, "peak": status(os.getpid(), "VmHWM") * 1024, "seconds": seconds, "words": words}


if __name__ == "__main__":
    print(json.dumps(_assembled(Path(sys.argv[1]))))
