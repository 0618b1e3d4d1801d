"""Inference in its own process: it answers, stays resident, and can hang or die without harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import InputRefused, SegmentationFailed, SettingsError
from dicom_node.imaging.volume import Volume
from dicom_node.segment.exchange import StoredFolder, load_segmentation, save_volume
from dicom_node.segment.inference_process import InferenceProcess
from dicom_node.segment.segmenter import Segmenter


@pytest.fixture(scope="module")
def process() -> Iterator[InferenceProcess]:
    """One for all tests: whatever one of them does to it, the next request must work."""
    with InferenceProcess(device="cpu", threads=1) as running:
        yield running


@pytest.fixture
def stored(volume: Volume, tmp_path: Path) -> StoredFolder:
    return save_volume(volume, tmp_path / "volume")


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def memory_of(pid: int) -> Iterator[bytes]:
    """What a process has written into its memory, piece by piece (``proc(5)``)."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(place, 16) for place in span.split("-"))
            if rights.startswith("rw"):
                with suppress(OSError, OverflowError, ValueError):  # unmapped meanwhile, or a device's
                    memory.seek(start)
                    yield memory.read(end - start)


def names_in(pid: int, name: str) -> int:
    """How often a name is in a process's memory, in any width of letters."""
    forms = [name.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-32-le")]
    return sum(piece.count(form) for piece in memory_of(pid) for form in forms)


HOLDS_A_NAME = """
import sys, time
from pathlib import Path
from dicom_node.segment.exchange import load_volume
held = load_volume(Path(sys.argv[1])).header.PatientName
print(flush=True)
time.sleep(60)
"""


def test_a_name_is_found_in_who_reads_the_header(stored: StoredFolder) -> None:
    command = [sys.executable, "-c", HOLDS_A_NAME, str(stored.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        found = names_in(holder.pid, "Phantom^Anna")
        holder.kill()
    assert found > 0


def test_nothing_that_names_the_patient_crosses_into_it(
    process: InferenceProcess, stored: StoredFolder, tiny_card: Path, tmp_path: Path
) -> None:
    """It gets on without the one file that says whose voxels they are, and holds no name afterwards."""
    process.request(stored, str(tiny_card), tmp_path / "one", timeout_seconds=120)
    assert process.pid is not None
    assert names_in(process.pid, "Phantom^Anna") == 0
    named = [path for path in stored.folder.iterdir() if b"Phantom^Anna" in path.read_bytes()]
    assert [path.name for path in named] == ["header.dcm"]
    named[0].unlink()
    again = process.request(stored, str(tiny_card), tmp_path / "two", timeout_seconds=120)
    assert b"Phantom" not in b"".join(path.read_bytes() for path in again.segmentation.folder.iterdir())


def test_it_answers_as_the_segmenter_does_and_stays_resident(
    process: InferenceProcess, volume: Volume, stored: StoredFolder, tiny_card: Path, tmp_path: Path
) -> None:
    reply = process.request(stored, str(tiny_card), tmp_path / "one", timeout_seconds=120)
    pid = process.pid
    again = process.request(stored, str(tiny_card), tmp_path / "two", timeout_seconds=120)
    assert pid is not None
    assert process.pid == pid
    assert again.seconds["load"] <= reply.seconds["load"]
    assert reply.peak_bytes > 10**7
    assert reply.device == "cpu"
    here = Segmenter("cpu").segment(volume, str(tiny_card))
    there = load_segmentation(reply.segmentation)
    assert np.mean(there.label_volume.labels != here.label_volume.labels) < 1e-3  # another number of threads
    assert there.label_volume.certainty is not None
    assert here.label_volume.certainty is not None
    difference = there.label_volume.certainty.winner.astype(int) - here.label_volume.certainty.winner
    assert np.mean(np.abs(difference) > 2) < 1e-3
    assert there.confidence == pytest.approx(here.confidence, abs=2e-3)


def test_refusals_come_back_as_what_they_are(
    process: InferenceProcess, volume: Volume, stored: StoredFolder, tiny_card: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match='no card "elbow"'):
        process.request(stored, "elbow", tmp_path / "out", timeout_seconds=120)
    pid = process.pid
    ultrasound = save_volume(replace(volume, modality="US"), tmp_path / "us")
    with pytest.raises(InputRefused, match="the series is US"):
        process.request(ultrasound, str(tiny_card), tmp_path / "out", timeout_seconds=120)
    with pytest.raises(SegmentationFailed, match="not what was written"):
        process.request(replace(stored, sha256="0" * 64), str(tiny_card), tmp_path / "out", timeout_seconds=120)
    assert process.pid == pid


@pytest.mark.parametrize(("blow", "patience", "message"), [
    (signal.SIGKILL, 60.0, r"killed by SIGKILL"),
    (signal.SIGSTOP, 2.0, r"no answer .* within 2 s; it was killed"),
])  # fmt: skip
def test_a_killed_or_hung_process_costs_one_attempt(
    process: InferenceProcess,
    stored: StoredFolder,
    tiny_card: Path,
    tmp_path: Path,
    *,
    blow: signal.Signals,
    patience: float,
    message: str,
) -> None:
    process.request(stored, str(tiny_card), tmp_path / "warm", timeout_seconds=120)
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so that the request is certain to be under way
    strike = threading.Timer(0.3, os.kill, (pid, blow))
    strike.start()
    with pytest.raises(SegmentationFailed, match=message) as caught:
        process.request(stored, str(tiny_card), tmp_path / "lost", timeout_seconds=patience)
    strike.join()
    assert caught.value.retryable
    assert not is_alive(pid)
    reply = process.request(stored, str(tiny_card), tmp_path / "next", timeout_seconds=120)
    assert process.pid != pid
    assert load_segmentation(reply.segmentation).card == "tiny"


def test_a_process_that_died_between_requests_is_started_again(
    process: InferenceProcess, stored: StoredFolder, tiny_card: Path, tmp_path: Path
) -> None:
    process.request(stored, str(tiny_card), tmp_path / "one", timeout_seconds=120)
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: process.pid is None)
    process.request(stored, str(tiny_card), tmp_path / "two", timeout_seconds=120)
    assert process.pid not in {None, pid}


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "import time; time.sleep(60)", "not python"])
def test_a_process_that_cannot_start_is_a_failure_that_can_be_retried(
    stored: StoredFolder, tmp_path: Path, code: str
) -> None:
    with (
        InferenceProcess(command=(sys.executable, "-c", code)) as broken,
        pytest.raises(SegmentationFailed, match=r"exit code|no answer"),
    ):
        broken.request(stored, "torso", tmp_path / "out", timeout_seconds=2)


def test_a_command_that_does_not_exist_is_a_failure(stored: StoredFolder, tmp_path: Path) -> None:
    with InferenceProcess(command=("/no/such/python",)) as broken, pytest.raises(SegmentationFailed):
        broken.request(stored, "torso", tmp_path / "out", timeout_seconds=5)


def test_closing_ends_the_process_and_what_is_under_way(stored: StoredFolder, tiny_card: Path, tmp_path: Path) -> None:
    failures: list[SegmentationFailed] = []

    def request() -> None:
        try:
            process.request(stored, str(tiny_card), tmp_path / "two", timeout_seconds=120)
        except SegmentationFailed as failure:
            failures.append(failure)

    with InferenceProcess(device="cpu", threads=1) as process:
        process.request(stored, str(tiny_card), tmp_path / "one", timeout_seconds=120)
        pid = process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        under_way = threading.Thread(target=request)
        under_way.start()
        time.sleep(0.3)
    under_way.join(10)
    assert len(failures) == 1
    assert not is_alive(pid)
    with pytest.raises(SegmentationFailed, match="closed"):
        process.request(stored, str(tiny_card), tmp_path / "three", timeout_seconds=1)


PARENT = """
import sys, threading
from pathlib import Path
from dicom_node.logs import configure_logs
from dicom_node.segment.exchange import StoredFolder
from dicom_node.segment.inference_process import InferenceProcess
configure_logs(json=True)
process = InferenceProcess(device="cpu", threads=1)
stored = StoredFolder(Path(sys.argv[1]), sys.argv[2])
request = lambda: process.request(stored, sys.argv[3], Path(sys.argv[4]), timeout_seconds=120)
thread = threading.Thread(target=request)  # a worker's thread, which ends before its process does
thread.start()
thread.join()
print(process.pid, flush=True)
sys.stdin.read()
"""


def test_the_process_dies_with_its_parent_and_not_with_the_thread_that_asked(
    stored: StoredFolder, tiny_card: Path, tmp_path: Path
) -> None:
    arguments = [str(stored.folder), stored.sha256, str(tiny_card), str(tmp_path / "out")]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        assert is_alive(pid)
        os.kill(pid, signal.SIGSTOP)  # even one that cannot notice anything itself
        parent.kill()
        assert wait_for(lambda: not is_alive(pid))
    finally:
        with suppress(ProcessLookupError):
            parent.kill()
        parent.communicate()
