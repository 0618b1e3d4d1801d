"""The same proofs inside one Enhanced CT or Enhanced MR object, whose frames describe themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicom_node.errors import SeriesRefused
from dicom_node.imaging.series import assemble, load_series
from tests.imaging.editing import SMALL_MR, edited, prove, refusal, together, write_all
from tests.phantoms import build, write

SPEC = replace(SMALL_MR, multiframe=True)


def frames_of(dataset: Dataset) -> Sequence:
    return dataset.PerFrameFunctionalGroupsSequence


def refused_with(tmp_path: Path, change: Callable[[int, Dataset], None]) -> SeriesRefused:
    def edit(_: int, dataset: Dataset) -> None:
        for k, frame in enumerate(frames_of(dataset)):
            change(k, frame)

    return refusal(edited(SPEC, tmp_path, edit))


def repeat_positions(k: int, frame: Dataset, step: float = 3.0) -> None:
    """Six frames at three positions."""
    position = frame.PlanePositionSequence[0].ImagePositionPatient
    frame.PlanePositionSequence[0].ImagePositionPatient = [*position[:2], (k % 3) * step]


def test_echoes(tmp_path: Path) -> None:
    def change(k: int, frame: Dataset) -> None:
        repeat_positions(k, frame)
        echo = Dataset()
        echo.EffectiveEchoTime = 11.0 if k < 3 else 80.0
        frame.MREchoSequence = Sequence([echo])

    refused = refused_with(tmp_path, change)
    assert refused.kind == "repeated-position"
    assert "echo time (EchoTime: 11.0, 80.0)" in refused.message
    assert "frame 1 of image 1" in refused.message


def test_diffusion(tmp_path: Path) -> None:
    def change(k: int, frame: Dataset) -> None:
        repeat_positions(k, frame)
        diffusion = Dataset()
        diffusion.DiffusionBValue = 0.0 if k < 3 else 800.0
        frame.MRDiffusionSequence = Sequence([diffusion])

    assert "diffusion b-value" in refused_with(tmp_path, change).message


def test_diffusion_directions(tmp_path: Path) -> None:
    def change(k: int, frame: Dataset) -> None:
        repeat_positions(k, frame)
        direction, diffusion = Dataset(), Dataset()
        direction.DiffusionGradientOrientation = [1.0, 0.0, 0.0] if k < 3 else [0.0, 1.0, 0.0]
        diffusion.DiffusionBValue = 800.0
        diffusion.DiffusionGradientDirectionSequence = Sequence([direction])
        frame.MRDiffusionSequence = Sequence([diffusion])

    assert "diffusion direction" in refused_with(tmp_path, change).message


def test_time_points(tmp_path: Path) -> None:
    def change(k: int, frame: Dataset) -> None:
        repeat_positions(k, frame)
        frame.FrameContentSequence[0].TemporalPositionIndex = 1 + k // 3

    assert "time point" in refused_with(tmp_path, change).message


def test_magnitude_and_phase(tmp_path: Path) -> None:
    def change(k: int, frame: Dataset) -> None:
        repeat_positions(k, frame)
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        kind.ComplexImageComponent = "MAGNITUDE" if k < 3 else "PHASE"
        frame.MRImageFrameTypeSequence = Sequence([kind])

    assert "MAGNITUDE, PHASE" in refused_with(tmp_path, change).message


def test_stacks(tmp_path: Path) -> None:
    def change(k: int, frame: Dataset) -> None:
        frame.FrameContentSequence[0].StackID = "1" if k < 3 else "2"

    refused = refused_with(tmp_path, change)
    assert refused.kind == "several-stacks"
    assert "stack 2: frame 4 of image 1" in refused.message


def test_gap(tmp_path: Path) -> None:
    write(replace(SPEC, positions=(0, 3, 6, 12, 15, 18)), tmp_path)
    refused = refusal(tmp_path)
    assert refused.kind == "gap"
    assert "between frame 3 of image 1 and frame 4 of image 1" in refused.message


def test_frame_without_place(tmp_path: Path) -> None:
    def change(k: int, frame: Dataset) -> None:
        if k == 4:
            del frame.PlanePositionSequence

    refused = refused_with(tmp_path, change)
    assert refused.kind == "no-geometry"
    assert "frame 5 of image 1" in refused.message


def test_fewer_descriptions_than_frames(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.PerFrameFunctionalGroupsSequence = Sequence(list(frames_of(dataset))[:4])

    refused = refusal(edited(SPEC, tmp_path, edit))
    assert "describes 4 of its 6 frames" in refused.message


def test_pixels_cut_short(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[: 2 * 16 * 12 * 4]

    with pytest.raises(SeriesRefused) as caught:
        assemble(prove(edited(SPEC, tmp_path, edit)))
    assert caught.value.kind == "pixel-data"


def test_rescale_of_each_frame_is_its_own(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        del shared.PixelValueTransformationSequence
        for k, frame in enumerate(frames_of(dataset)):
            values = Dataset()
            values.RescaleSlope, values.RescaleIntercept, values.RescaleType = str(k + 1), "0", "US"
            frame.PixelValueTransformationSequence = Sequence([values])

    voxels = load_series([edited(SPEC, tmp_path, edit)]).voxels
    truth = build(SPEC).voxels
    assert all(np.array_equal(voxels[k], truth[k] * (k + 1)) for k in range(6))


def test_object_split_into_a_concatenation(tmp_path: Path) -> None:
    """Two Enhanced objects of one series that continue each other are one volume."""
    lower = replace(SPEC, positions=(0, 3, 6))
    datasets = together(lower, lower)
    for frame in datasets[1].PerFrameFunctionalGroupsSequence:
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [*position[:2], float(position[2]) + 9]
    datasets[1].InstanceNumber = "2"
    assert prove(write_all(datasets, tmp_path)).geometry.shape[0] == 6
