"""A phantom series becomes the volume it was made from: every voxel, at its place."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.imaging.series import load_series
from dicom_node.imaging.volume import Volume
from tests.phantoms import Phantom, PhantomSpec, build, write
from tests.phantoms.spec import CENTRE_MM

SPEC = PhantomSpec(slices=9, rows=24, columns=20, row_spacing=2.5, column_spacing=1.75)
SYNTAXES = [
    *(ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLossless),
    *(JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless),
]


def round_trip(spec: PhantomSpec, folder: Path) -> tuple[Phantom, Volume]:
    write(spec, folder)
    return build(spec), load_series([folder])


def assert_same(phantom: Phantom, volume: Volume) -> None:
    assert np.array_equal(volume.voxels, phantom.voxels)
    assert volume.geometry.same_grid(phantom.geometry, tolerance_mm=1e-6)
    assert volume.voxels.dtype == np.int16
    assert volume.modality == phantom.spec.modality
    uids = [source.sop_instance_uid for source in volume.sources]
    assert len(uids) == len(volume.voxels)
    if not phantom.spec.multiframe:
        assert uids == [dataset.SOPInstanceUID for dataset in phantom.datasets]


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("multiframe", [False, True], ids=["single-frame", "multi-frame"])
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_orientations(tmp_path: Path, modality: str, orientation: str, multiframe: bool) -> None:
    spec = replace(SPEC, modality=modality, orientation=orientation, multiframe=multiframe)
    assert_same(*round_trip(spec, tmp_path))


@pytest.mark.parametrize(("rows", "columns", "order"), list(product([False, True], repeat=3)))
@pytest.mark.parametrize("multiframe", [False, True], ids=["single-frame", "multi-frame"])
def test_flips_and_orders(tmp_path: Path, rows: bool, columns: bool, order: bool, multiframe: bool) -> None:
    spec = replace(SPEC, flip_rows=rows, flip_columns=columns, reverse_order=order, multiframe=multiframe)
    assert_same(*round_trip(spec, tmp_path))


@pytest.mark.parametrize("multiframe", [False, True], ids=["single-frame", "multi-frame"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_transfer_syntaxes(tmp_path: Path, modality: str, syntax: object, multiframe: bool) -> None:
    spec = replace(SPEC, modality=modality, transfer_syntax=syntax, multiframe=multiframe)
    assert_same(*round_trip(spec, tmp_path))


@pytest.mark.parametrize("multiframe", [False, True], ids=["single-frame", "multi-frame"])
def test_gantry_tilt_is_kept(tmp_path: Path, multiframe: bool) -> None:
    phantom, volume = round_trip(replace(SPEC, tilt_degrees=-17.5, multiframe=multiframe), tmp_path)
    assert_same(phantom, volume)
    assert volume.geometry.is_tilted


def test_uneven_spacing_is_kept(tmp_path: Path) -> None:
    positions = (0.0, 2.0, 4.0, 6.0, 8.0, 13.0, 18.0, 23.0, 28.0)
    phantom, volume = round_trip(replace(SPEC, positions=positions), tmp_path)
    assert_same(phantom, volume)
    assert np.allclose(volume.geometry.slice_spacings, np.diff(positions), atol=1e-6)


def test_a_single_slice_is_a_volume_of_its_thickness(tmp_path: Path) -> None:
    phantom, volume = round_trip(replace(SPEC, slices=1, slice_spacing=4.0), tmp_path)
    assert_same(phantom, volume)
    assert volume.geometry.slice_spacing == 4.0


directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.2)


@settings(max_examples=15, deadline=None)
@given(row=directions, column=directions, tilt=st.floats(-25, 25), modality=st.sampled_from(["CT", "MR"]))
def test_any_direction(tmp_path_factory: pytest.TempPathFactory, row, column, tilt, modality) -> None:
    assume(np.linalg.norm(np.cross(row, column)) > 0.1)
    spec = replace(SPEC, slices=5, orientation=(row, column), tilt_degrees=tilt, modality=modality)
    assert_same(*round_trip(spec, tmp_path_factory.mktemp("any")))


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_a_place_in_the_patient_has_its_value_in_every_orientation(tmp_path: Path, orientation: str) -> None:
    """The sphere of the phantom lies to the right, in front and below the middle, however the slices run."""
    spec = PhantomSpec(orientation=orientation, slices=48, rows=48, columns=48, row_spacing=1.0, slice_spacing=1.0)
    phantom, volume = round_trip(spec, tmp_path)
    scale = 47 / 2
    centre = CENTRE_MM + scale * np.array([-0.50, -0.48, -0.50])
    k, j, i = np.rint(volume.geometry.patient_to_index(centre[None])[0]).astype(int)
    assert phantom.names[int(phantom.labels[k, j, i])] == "Kidney_R"
    assert volume.voxels[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2].mean() == pytest.approx(170, abs=15)


def test_source_of_each_slice_is_named_by_instance_and_frame(tmp_path: Path) -> None:
    phantom, volume = round_trip(replace(SPEC, multiframe=True, reverse_order=True), tmp_path)
    assert {source.sop_instance_uid for source in volume.sources} == {phantom.datasets[0].SOPInstanceUID}
    assert [source.frame_number for source in volume.sources] == list(range(9, 0, -1))


def test_header_carries_patient_and_study_but_no_pixels(tmp_path: Path) -> None:
    phantom, volume = round_trip(SPEC, tmp_path)
    assert volume.header.PatientID == "PHANTOM"
    assert volume.study_instance_uid == phantom.datasets[0].StudyInstanceUID
    assert volume.series_instance_uid == phantom.datasets[0].SeriesInstanceUID
    assert volume.frame_of_reference_uid == phantom.datasets[0].FrameOfReferenceUID
    assert "PixelData" not in volume.header
