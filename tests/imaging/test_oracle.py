"""SimpleITK (GDCM's own reader) as an independent judge of the phantoms and of the volumes made from them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
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
from tests.phantoms import PhantomSpec, build, write

SPEC = PhantomSpec(slices=7, rows=20, columns=16, row_spacing=2.5, column_spacing=1.75)
SYNTAXES = [
    *(ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLossless),
    *(JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless),
]


def read_with_simpleitk(volume: Volume) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(source.path) for source in volume.sources])
    return reader.Execute()


def assert_same_place(image: SimpleITK.Image, volume: Volume) -> None:
    n, rows, columns = volume.voxels.shape
    corners = list(product((0, n - 1), (0, rows - 1), (0, columns - 1)))
    theirs = [image.TransformIndexToPhysicalPoint((int(i), int(j), int(k))) for k, j, i in corners]
    ours = volume.geometry.index_to_patient(np.array(corners, dtype=np.float64))
    assert np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(("flip_rows", "flip_columns"), list(product([False, True], repeat=2)))
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_single_frame_series(
    tmp_path: Path, orientation: str, flip_rows: bool, flip_columns: bool, modality: str
) -> None:
    spec = replace(SPEC, modality=modality, orientation=orientation, flip_rows=flip_rows, flip_columns=flip_columns)
    write(spec, tmp_path)
    volume = load_series([tmp_path])
    image = read_with_simpleitk(volume)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), volume.voxels)
    assert_same_place(image, volume)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_multi_frame_object(tmp_path: Path, modality: str, orientation: str) -> None:
    spec = replace(SPEC, modality=modality, orientation=orientation, multiframe=True)
    image = SimpleITK.ReadImage(str(write(spec, tmp_path)[0]))
    volume = load_series([tmp_path])
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), volume.voxels)
    assert_same_place(image, volume)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_every_transfer_syntax_of_the_phantoms_is_read_by_others(tmp_path: Path, syntax: object) -> None:
    spec = replace(SPEC, transfer_syntax=syntax)
    truth = build(spec).voxels
    for k, path in enumerate(write(spec, tmp_path)):
        assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0], truth[k])
