"""Masks and probabilities: a file for one structure."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pytest

from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_file import (
    read_mask_file,
    read_probability_file,
)
from tests.imaging.label_files import (
    ORIENTATIONS,
    layered_header,
    save_probability,
    some_labels,
)
from tests.phantoms import PhantomSpec
from tests.phantoms.spec import geometry_of


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_probabilities_on_the_series_grid_are_copied(name: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS[name])
    values = np.random.default_rng(1).random(geometry.shape, dtype=np.float32)
    path = save_probability(tmp_path / "p.nii.gz", values, geometry)
    read = read_probability_file(path, geometry).probability
    assert read.dtype == np.float32
    assert np.array_equal(read, values)


@pytest.mark.parametrize("name", ["axial", "oblique", "sagittal"])
def test_probabilities_of_another_grid_are_interpolated(name: str, tmp_path: Path) -> None:
    """A field that is linear in the patient is the same on every grid."""
    series = geometry_of(ORIENTATIONS[name])
    coarse = geometry_of(PhantomSpec(slices=30, rows=30, columns=30, row_spacing=2, column_spacing=2, slice_spacing=3))

    def field(geometry: Geometry) -> np.ndarray:
        kji = np.indices(geometry.shape).reshape(3, -1).T.astype(float)
        return (0.5 + (geometry.index_to_patient(kji) - series.origins[0]) @ [0.004, -0.003, 0.002]).reshape(
            geometry.shape
        )

    path = save_probability(tmp_path / "p.nii", field(coarse).astype(np.float32), coarse)
    assert np.abs(read_probability_file(path, series).probability - field(series)).max() < 1e-4


def test_probabilities_end_where_their_file_ends(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    part = Geometry(
        geometry.origins[:4] + np.array([0.3, 0, 0]),
        *(geometry.row_direction, geometry.column_direction, 1.5, 1.0, 12, 10),
    )
    path = save_probability(tmp_path / "p.nii", np.ones((4, 12, 10), dtype=np.float32), part)
    read = read_probability_file(path, geometry).probability
    assert (read[:4] == 1).all()
    assert not read[4:].any()


def test_rounding_beyond_one_is_taken_off(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    path = save_probability(tmp_path / "p.nii", np.full(geometry.shape, 1.00001, dtype=np.float32), geometry)
    assert (read_probability_file(path, geometry).probability == 1).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((9, 12, 10), 1.5, dtype=np.float32), "from 1.5 to 1.5"),
        (np.full((9, 12, 10), -0.5, dtype=np.float32), "from -0.5"),
        (np.full((9, 12, 10), np.nan, dtype=np.float32), "from nan"),
        (np.ones((9, 12, 10), dtype=np.uint8), "uint8 values; expected fractions"),
    ],
)
def test_what_is_no_probability_is_refused(values: np.ndarray, reason: str, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    with pytest.raises(InputRefused, match=reason):
        read_probability_file(save_probability(tmp_path / "p.nii", values, geometry), geometry)


@pytest.mark.parametrize("inside", [1, 255, -3, 0.4])
def test_a_mask_is_whatever_is_not_zero(inside: float, tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["oblique"])
    mask = some_labels(geometry) > 3
    path = save_probability(tmp_path / "liver.nii.gz", np.where(mask, inside, 0).astype(np.float32), geometry)
    mask_file = read_mask_file(path, geometry)
    assert np.array_equal(mask_file.mask, mask)
    assert not mask_file.resampled


def test_a_mask_is_numbers_of_one_structure(tmp_path: Path) -> None:
    geometry = geometry_of(ORIENTATIONS["axial"])
    path = save_probability(tmp_path / "m.nii", np.full(geometry.shape, np.nan, dtype=np.float32), geometry)
    with pytest.raises(InputRefused, match="NaN"):
        read_mask_file(path, geometry)
    values = np.ones((2, 10, 12, 9), dtype=np.uint8)
    header = layered_header(geometry, Segment0_Name="First", Segment1_Name="Second")
    nrrd.write(str(tmp_path / "two.seg.nrrd"), values, header)
    with pytest.raises(InputRefused, match="holds several layers"):
        read_mask_file(tmp_path / "two.seg.nrrd", geometry)
    with pytest.raises(InputRefused, match="holds several layers"):
        read_probability_file(tmp_path / "two.seg.nrrd", geometry)
