"""The network's grid covers the source, along the patient's axes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.imaging.geometry import Geometry
from dicom_node.segment.grids import axis_aligned, covering_grid, crop, extent
from tests.segment.geometries import geometries, voxel_positions


@settings(deadline=None)
@given(geometries(), st.tuples(*[st.floats(0.8, 6.0)] * 3))
def test_the_grid_covers_every_voxel_and_little_more(source: Geometry, spacing: tuple[float, float, float]) -> None:
    grid = covering_grid(source, spacing)
    lower, upper = extent(grid)
    points = voxel_positions(source).reshape(-1, 3)
    assert np.all(points.min(0) >= lower - 1e-6)
    assert np.all(points.max(0) <= upper + 1e-6)
    box = extent(source)
    assert np.all((upper - lower) - (box[1] - box[0]) <= np.array(spacing[::-1]) + 1e-6)


def test_the_grid_grows_towards_head_posterior_and_left() -> None:
    grid = axis_aligned(np.array([1.0, 2.0, 3.0]), (4.0, 3.0, 2.0), (5, 6, 7))
    assert grid.shape == (5, 6, 7)
    steps = grid.index_to_patient(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]))
    np.testing.assert_allclose(steps, [[1, 2, 3], [1, 2, 7], [1, 5, 3], [3, 2, 3]])


@settings(deadline=None)
@given(geometries(), st.data())
def test_a_crop_is_the_geometry_of_the_cropped_array(source: Geometry, data: st.DataObject) -> None:
    starts = [data.draw(st.integers(0, n - 1)) for n in source.shape]
    stops = [data.draw(st.integers(start + 1, n)) for start, n in zip(starts, source.shape, strict=True)]
    box = (slice(starts[0], stops[0]), slice(starts[1], stops[1]), slice(starts[2], stops[2]))
    np.testing.assert_allclose(voxel_positions(crop(source, box)), voxel_positions(source)[box], atol=1e-9)
