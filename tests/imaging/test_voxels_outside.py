"""What of a file lies outside the series is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_file import (
    read_label_file,
    read_mask_file,
    read_probability_file,
    write_label_file,
)
from tests.imaging.label_files import (
    ORIENTATIONS,
    save_probability,
    some_labels,
)
from tests.phantoms.spec import geometry_of


def counted_outside(labels: np.ndarray, file: Geometry, series: Geometry) -> dict[int, int]:
    """Voxel by voxel: by the distance to the nearest voxel centre of the series along each of its axes."""
    counts: dict[int, int] = {}
    for index in np.argwhere(labels):
        (place,) = file.index_to_patient(index[None].astype(float))
        offset = place - series.origins[np.abs(series.distances - place @ series.normal).argmin()]
        steps = np.array(
            [
                abs(offset @ series.normal) / series.slice_spacing,
                offset @ series.column_direction / series.row_spacing,
                offset @ series.row_direction / series.column_spacing,
            ]
        )
        if steps[0] > 0.5 or (steps[1:] < -0.5).any() or (steps[1:] > np.array(series.shape[1:]) - 0.5).any():
            label = int(labels[tuple(index)])
            counts[label] = counts.get(label, 0) + 1
    return dict(sorted(counts.items()))


def part_of(geometry: Geometry, slices: slice, row: int, column: int) -> Geometry:
    """Some slices of a geometry, from a row and a column on."""
    shift = row * geometry.row_spacing * geometry.column_direction
    shift = shift + column * geometry.column_spacing * geometry.row_direction
    return Geometry(
        geometry.origins[slices] + shift,
        *(geometry.row_direction, geometry.column_direction, geometry.row_spacing, geometry.column_spacing),
        *(geometry.rows - row, geometry.columns - column),
        geometry.slice_thickness,
    )


@pytest.mark.parametrize("name", [name for name in ORIENTATIONS if name != "one slice"])
@pytest.mark.parametrize(("slices", "row", "column"), [(slice(2, 7), 0, 0), (slice(0, 9), 3, 4), (slice(4, 5), 0, 1)])
def test_voxels_beyond_the_series_are_counted(name: str, slices: slice, row: int, column: int, tmp_path: Path) -> None:
    whole = geometry_of(ORIENTATIONS[name])
    series = part_of(whole, slices, row, column)
    if len(series.origins) == 1:
        series = Geometry(**{**vars(series), "slice_thickness": whole.slice_spacing})
    labels = some_labels(whole)
    write_label_file(tmp_path / "whole.nii.gz", labels, whole)
    found = read_label_file(tmp_path / "whole.nii.gz", series)
    kept = found.labels
    assert found.outside == {
        label: int((labels == label).sum() - (kept == label).sum())
        for label in range(1, 7)
        if (labels == label).sum() > (kept == label).sum()
    }
    assert len(found.outside) == 6


@pytest.mark.parametrize("shift", [0.0, 3.3, -7.1])
def test_voxels_of_another_grid_beyond_the_series_are_counted(shift: float, tmp_path: Path) -> None:
    series = geometry_of(ORIENTATIONS["oblique"])
    fine = Geometry(
        series.origins[0] + np.arange(14)[:, None] * 1.7 * series.normal + shift * series.row_direction,
        *(series.row_direction, series.column_direction, 0.61, 1.3, 25, 17),
    )
    labels = some_labels(fine)
    write_label_file(tmp_path / "fine.nrrd", labels, fine)
    found = read_label_file(tmp_path / "fine.nrrd", series)
    assert found.resampled
    assert found.outside == counted_outside(labels, fine, series)


def test_nothing_of_a_file_within_the_series_is_outside(tmp_path: Path) -> None:
    whole = geometry_of(ORIENTATIONS["oblique"])
    part = part_of(whole, slice(2, 7), 3, 4)
    write_label_file(tmp_path / "part.nii.gz", some_labels(part), part)
    assert read_label_file(tmp_path / "part.nii.gz", whole).outside == {}


def test_masks_and_probabilities_beyond_the_series_are_counted(tmp_path: Path) -> None:
    whole = geometry_of(ORIENTATIONS["sagittal"])
    series = part_of(whole, slice(0, 6), 2, 0)
    probability = np.random.default_rng(3).random(whole.shape, dtype=np.float32)
    path = save_probability(tmp_path / "p.nii.gz", probability, whole)
    inside = probability >= 0.5
    lost = int(inside.sum() - inside[:6, 2:].sum())
    assert read_probability_file(path, series).outside == lost > 0
    path = save_probability(tmp_path / "m.nii.gz", inside.astype(np.uint8), whole)
    assert read_mask_file(path, series).outside == lost
