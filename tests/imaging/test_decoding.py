"""Damaged compressed pixels end the codec's process, never the node's."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from dicom_node.errors import SegmentationFailed, SeriesRefused
from dicom_node.imaging import decoding
from dicom_node.imaging.decoding import FrameDecoder
from dicom_node.imaging.series import find_instances, load_series, prove_series, read_instance
from tests.imaging.editing import SMALL
from tests.phantoms import PhantomSpec, build, write

SPEC = PhantomSpec(slices=1, rows=32, columns=32)
PIXEL_DATA = b"\xe0\x7f\x10\x00"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless], ids=lambda uid: uid.keyword)
def test_damaged_streams(tmp_path: Path, syntax: UID) -> None:
    """Forty damaged files of each kind: pixels or a refusal, and this process lives to tell."""
    path = write(replace(SPEC, transfer_syntax=syntax), tmp_path)[0]
    content, chance = path.read_bytes(), random.Random(1)
    start, refused = content.rfind(PIXEL_DATA) + 20, 0
    with FrameDecoder() as decoder:
        for _ in range(40):
            damaged = bytearray(content)
            for _ in range(3):
                damaged[chance.randrange(start, min(len(content), start + 200))] = chance.choice([0, 255])
            path.write_bytes(damaged)
            try:
                list(decoder.frames(read_instance(path), [None], ["image 1"]))
            except SeriesRefused as refusal:
                assert refusal.kind == "pixel-data"  # noqa: PT017 - some damage leaves a picture
                refused += 1
    assert refused > 0


def test_a_crashed_codec_is_a_refusal(tmp_path: Path) -> None:
    plan = prove_series(find_instances(write(replace(SMALL, transfer_syntax=JPEG2000Lossless), tmp_path)).instances)
    with FrameDecoder() as decoder:
        list(decoder.frames(plan.headers[0], [None], ["image 1"]))
        assert decoder._child is not None
        decoder._child.kill()
        decoder._child.wait()
        with pytest.raises(SeriesRefused, match=r"image 2 cannot be decoded") as caught:
            list(decoder.frames(plan.headers[1], [None], ["image 2"]))
    assert caught.value.kind == "pixel-data"


def child_that(code: str) -> Callable[..., subprocess.Popen[bytes]]:
    """A stand-in for the decoder's process that runs this code instead."""
    start = subprocess.Popen
    return lambda _command, **options: start([sys.executable, "-c", code], **options)


def test_a_codec_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(replace(SPEC, transfer_syntax=JPEGLSLossless), tmp_path)[0]
    monkeypatch.setattr(decoding, "FRAME_SECONDS", 0.2)
    hung = child_that("import time; print('ready', flush=True); time.sleep(600)")
    monkeypatch.setattr(decoding.subprocess, "Popen", hung)
    with FrameDecoder() as decoder, pytest.raises(SeriesRefused, match="did not come to an end"):
        list(decoder.frames(read_instance(path), [None], ["image 1"]))


def test_a_child_that_does_not_start_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(replace(SPEC, transfer_syntax=JPEGLSLossless), tmp_path)[0]
    monkeypatch.setattr(decoding.subprocess, "Popen", child_that("raise SystemExit(3)"))
    with FrameDecoder() as decoder, pytest.raises(SegmentationFailed, match="did not start") as caught:
        list(decoder.frames(read_instance(path), [None], ["image 1"]))
    assert caught.value.retryable


def test_one_child_serves_a_whole_series(tmp_path: Path) -> None:
    spec = replace(SMALL, transfer_syntax=JPEGLSLossless)
    instances = find_instances(write(spec, tmp_path)).instances
    with FrameDecoder() as decoder:
        frames = [next(decoder.frames(instance, [None], ["image"])) for instance in instances]
        child = decoder._child
        assert child is not None
    assert np.array_equal(np.stack(frames).astype(int) - 1024, build(spec).voxels)
    assert child.poll() is not None


def test_native_pixels_need_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_start_child", lambda: pytest.fail("a child was started"))
    write(SMALL, tmp_path)
    assert load_series([tmp_path]).voxels.shape == (6, 16, 12)
