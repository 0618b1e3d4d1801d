"""The phantoms themselves: valid objects, resolvable names, the same each time, asymmetric in every axis."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.anatomy import load_anatomy
from tests.phantoms import PhantomSpec, build, spec_for, write

ANATOMIES = ["shapes", "torso", "knee"]


def coarse(modality: str, anatomy: str) -> PhantomSpec:
    return spec_for(modality, anatomy, slices=24, size=48)


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_every_label_has_voxels_and_a_name_of_the_anatomy(anatomy: str) -> None:
    phantom = build(spec_for("CT", anatomy))
    present = set(np.unique(phantom.labels).tolist()) - {0}
    assert present == set(phantom.names)
    assert set(phantom.names.values()) <= set(load_anatomy())


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_same_spec_gives_the_same_objects(anatomy: str) -> None:
    first, second = (build(coarse("MR", anatomy)) for _ in range(2))
    assert first.datasets == second.datasets


def test_another_seed_is_another_series_of_the_same_truth() -> None:
    first, second = (build(PhantomSpec(seed=seed)) for seed in (0, 1))
    assert np.array_equal(first.labels, second.labels)
    assert not np.array_equal(first.voxels, second.voxels)
    assert first.datasets[0].SeriesInstanceUID != second.datasets[0].SeriesInstanceUID


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_flip_shows(axis: int) -> None:
    phantom = build(PhantomSpec())
    for label in (1, 3, 5):
        mask = phantom.labels == label
        assert (mask & np.flip(mask, axis)).sum() < 0.5 * mask.sum()


def test_left_is_left() -> None:
    phantom = build(coarse("CT", "torso"))
    number = {name: label for label, name in phantom.names.items()}
    centres = {
        name: phantom.geometry.index_to_patient(np.argwhere(phantom.labels == number[name]).astype(float)).mean(axis=0)
        for name in ("Liver", "Spleen", "Kidney_L", "Kidney_R", "Lung_L", "Bladder")
    }
    assert centres["Liver"][0] < centres["Spleen"][0]
    assert centres["Kidney_R"][0] < centres["Kidney_L"][0]
    assert centres["Lung_L"][2] > centres["Liver"][2] > centres["Bladder"][2]
    assert centres["Kidney_L"][1] > centres["Bladder"][1]


def test_ct_tissues_have_their_hounsfield_units() -> None:
    phantom = build(spec_for("CT", "torso"))
    number = {name: label for label, name in phantom.names.items()}
    median = {name: np.median(phantom.voxels[phantom.labels == label]) for name, label in number.items()}
    assert -900 < median["Lung_L"] < -750
    assert 90 < median["Liver"] < 130
    assert median["Bladder"] == pytest.approx(6, abs=5)
    assert median["Spine"] > 150


def test_shared_frame_of_reference() -> None:
    specs = [PhantomSpec(modality=modality, frame_of_reference="1.2.3.4") for modality in ("CT", "MR")]
    first, second = (build(spec).datasets[0] for spec in specs)
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID == "1.2.3.4"
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_file_names_say_nothing_about_order(tmp_path: Path) -> None:
    paths = write(PhantomSpec(), tmp_path)
    assert len(set(paths)) == 24
    assert paths != sorted(paths)


def test_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.phantoms", "--modality", "MR", "--anatomy", "knee"]
    subprocess.run([*command, "--output", str(tmp_path), "--slices", "4", "--size", "32"], check=True)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.peer
@pytest.mark.parametrize("multiframe", [False, True], ids=["single-frame", "multi-frame"])
@pytest.mark.parametrize("anatomy", ["shapes", "knee"])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_dciodvfy_finds_no_error(tmp_path: Path, modality: str, anatomy: str, multiframe: bool) -> None:
    spec = replace(coarse(modality, anatomy), multiframe=multiframe, slices=3, tilt_degrees=4.0)
    assert complaints(write(spec, tmp_path)[0]) == []


@pytest.mark.peer
@pytest.mark.parametrize(
    "syntax",
    [
        *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLosslessSV1),
        *(JPEGLSLossless, JPEG2000Lossless),
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_dciodvfy_finds_no_error_in_any_transfer_syntax(tmp_path: Path, syntax: object) -> None:
    """All but deflated, which the packaged dciodvfy cannot inflate."""
    assert complaints(write(PhantomSpec(slices=2, transfer_syntax=syntax), tmp_path)[0]) == []


def complaints(path: Path) -> list[str]:
    tool = shutil.which("dciodvfy")
    assert tool, "dciodvfy is needed: apt install dicom3tools"
    done = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning"))]
