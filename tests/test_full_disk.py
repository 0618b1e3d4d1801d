"""A disk that fills in the middle of a case: the step says so, leaves nothing half-written, and can be repeated."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from dicom_node.errors import NodeError
from dicom_node.profiles import Profile
from dicom_node.segment.exchange import StoredFolder
from dicom_node.segment.inference_process import InferenceProcess, InferenceReply
from dicom_node.workflow import CaseFiles, CaseWork
from tests.full_disk import FullDisk
from tests.machines.site import small_series
from tests.quick import inference

Step = Callable[[CaseWork], Mapping[str, Any] | None]
STEPS: dict[str, Step] = {
    "assemble": CaseWork.assemble,
    "segment": CaseWork.segment,
    "encode": CaseWork.encode,
    "verify": CaseWork.verify,
    "tidy": CaseWork.tidy,
}
NEEDS_ROOM = ("assemble", "segment", pytest.param("encode", marks=pytest.mark.slow), "tidy")


class NearInference:
    """The stand-in for the network, in this process."""

    def request(self, volume: StoredFolder, card: str, output: Path, *, timeout_seconds: float) -> InferenceReply:
        answer = inference._answer(
            {"volume": str(volume.folder), "volume_sha256": volume.sha256, "card": card, "output": str(output)}
        )
        return InferenceReply(StoredFolder(output, answer["sha256"]), answer["seconds"], 0, "none")


class Story:
    """A case, the folder as each step found it, and as it left it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "case"
        self._before = folder / "before"
        near = cast(InferenceProcess, NearInference())
        instances = tuple(small_series(folder, 1))
        work = CaseWork("case", "torso", 1.7e9, instances, CaseFiles(self.root), near, 1.0, (Profile(),), {})
        self.work: dict[str, CaseWork] = {}
        self.after: dict[str, dict[str, str]] = {}
        for name, step in STEPS.items():
            self.work[name] = work
            shutil.copytree(self.root, self._before / name) if self.root.exists() else None
            work = replace(work, facts={**work.facts, **(step(work) or {})})
            self.after[name] = self.files()

    def files(self) -> dict[str, str]:
        """SHA-256 of every file of the case, by its path."""
        paths = (path for path in self.root.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)
        }

    def begin(self, name: str) -> CaseWork:
        """The folder as it was before a step; its work."""
        shutil.rmtree(self.root, ignore_errors=True)
        if (self._before / name).exists():
            shutil.copytree(self._before / name, self.root)
        return self.work[name]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("case"))


def whole(story: Story, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether every file is what it was before the step, or what the step makes of it."""
    return all(sha256 in {before.get(path), after.get(path)} for path, sha256 in story.files().items())


@pytest.mark.parametrize("name", NEEDS_ROOM)
def test_a_step_on_a_full_disk_can_be_repeated(name: str, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, step = FullDisk(monkeypatch), STEPS[name]
    work = story.begin(name)
    disk.empty()
    step(work)
    needed = len(disk.used)
    assert {"make a file", "write", "fsync", "replace"} <= set(disk.used)
    for room in range(needed):
        disk.empty()
        work = story.begin(name)
        before = story.files()
        disk.empty(room)
        with pytest.raises(NodeError) as caught:
            step(work)
        assert caught.value.retryable, f"room for {room} of {needed}: {caught.value!r}"
        assert "no room" in caught.value.message
        assert whole(story, before, story.after[name]), f"room for {room} of {needed}"
        disk.empty()
        step(work)
        assert story.files() == story.after[name]


def test_to_verify_a_case_needs_no_room(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    work = story.begin("verify")
    disk.empty(0)
    assert work.verify()["verified"] == {"SEG": 1.0, "RTSTRUCT": 1.0}
