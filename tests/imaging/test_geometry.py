"""Voxel index and patient coordinates: inverse of each other on every stack a scanner makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dicom_node.imaging.geometry import Geometry
from tests.phantoms import PhantomSpec, geometry_of

spacings = st.floats(0.2, 12.0)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any orientation, anisotropic, upright or tilted, evenly or unevenly spaced, 1 to 9 slices."""
    quaternion = draw(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
    rotation = Rotation.from_quat(quaternion).as_matrix()
    row, column = rotation[:, 0], rotation[:, 1]
    normal = np.cross(row, column)
    distances = np.cumsum([0.0, *draw(st.lists(spacings, max_size=8))])
    lean = draw(st.floats(-0.6, 0.6))
    start = np.array(draw(st.tuples(*[st.floats(-500, 500)] * 3)))
    return Geometry(
        origins=start + np.outer(distances, normal + lean * column),
        row_direction=row,
        column_direction=column,
        row_spacing=draw(spacings),
        column_spacing=draw(spacings),
        rows=draw(st.integers(1, 600)),
        columns=draw(st.integers(1, 600)),
        slice_thickness=draw(spacings),
    )


@st.composite
def geometries_with_indices(draw: st.DrawFn) -> tuple[Geometry, np.ndarray]:
    geometry = draw(geometries())
    n, rows, columns = geometry.shape
    index = st.tuples(st.floats(-1, n), st.floats(-1, rows), st.floats(-1, columns))
    return geometry, np.array(draw(st.lists(index, min_size=1, max_size=8)))


@given(geometries_with_indices())
def test_patient_to_index_is_the_inverse_of_index_to_patient(case: tuple[Geometry, np.ndarray]) -> None:
    geometry, kji = case
    patient_mm = geometry.index_to_patient(kji)
    assert np.allclose(geometry.patient_to_index(patient_mm), kji, atol=1e-6)


@given(geometries_with_indices())
def test_index_to_patient_is_the_inverse_of_patient_to_index(case: tuple[Geometry, np.ndarray]) -> None:
    geometry, kji = case
    patient_mm = geometry.index_to_patient(kji) + 0.37
    assert np.allclose(geometry.index_to_patient(geometry.patient_to_index(patient_mm)), patient_mm, atol=1e-6)


@given(geometries())
def test_voxel_centres_lie_on_their_own_plane(geometry: Geometry) -> None:
    n, rows, columns = geometry.shape
    corners = np.array([[k, j, i] for k in range(n) for j in (0, rows - 1) for i in (0, columns - 1)], dtype=float)
    distances = geometry.index_to_patient(corners) @ geometry.normal
    assert np.allclose(distances, geometry.distances[corners[:, 0].astype(int)], atol=1e-6)


@given(geometries_with_indices())
def test_affine_is_exact_for_even_spacing(case: tuple[Geometry, np.ndarray]) -> None:
    geometry, kji = case
    assume(len(geometry.origins) < 3 or np.ptp(geometry.slice_spacings) < 1e-9)
    homogeneous = np.column_stack([kji, np.ones(len(kji))])
    assert np.allclose((homogeneous @ geometry.affine.T)[:, :3], geometry.index_to_patient(kji), atol=1e-6)


@given(geometries())
def test_voxel_volumes_add_up_to_the_stack(geometry: Geometry) -> None:
    area = geometry.row_spacing * geometry.column_spacing
    if len(geometry.origins) == 1:
        expected = geometry.slice_thickness * area
    else:
        gaps = geometry.slice_spacings
        expected = (gaps.sum() + gaps[0] / 2 + gaps[-1] / 2) * area
    assert geometry.voxel_volumes().sum() == pytest.approx(expected)


def test_row_index_grows_along_the_column_direction() -> None:
    geometry = geometry_of(PhantomSpec(orientation="oblique", row_spacing=1.5, column_spacing=0.7))
    start, below, beside = geometry.index_to_patient(np.array([[2, 3, 4], [2, 4, 4], [2, 3, 5]], dtype=float))
    assert np.allclose(below - start, 1.5 * geometry.column_direction)
    assert np.allclose(beside - start, 0.7 * geometry.row_direction)


@pytest.mark.parametrize("tilt", [-20.0, 0.0, 14.0])
def test_tilt_is_measured(tilt: float) -> None:
    geometry = geometry_of(PhantomSpec(tilt_degrees=tilt))
    assert geometry.tilt_degrees == pytest.approx(abs(tilt), abs=1e-6)
    assert geometry.is_tilted == (tilt != 0)


def test_uneven_spacing_is_recognised() -> None:
    geometry = geometry_of(PhantomSpec(positions=(0, 2, 4, 6, 11, 16, 21)))
    assert not geometry.is_evenly_spaced
    assert not geometry.is_tilted


def test_same_grid_sees_a_shift_of_one_slice() -> None:
    geometry = geometry_of(PhantomSpec())
    origins = geometry.origins.copy()
    origins[-1] += 0.5 * geometry.normal
    moved = Geometry(origins, geometry.row_direction, geometry.column_direction, 1.5, 1.0, 64, 48)
    assert geometry.same_grid(geometry_of(PhantomSpec()))
    assert not geometry.same_grid(moved)


def test_single_slice_is_upright_and_as_thick_as_it_says() -> None:
    geometry = geometry_of(PhantomSpec(slices=1, slice_spacing=4.0))
    assert not geometry.is_tilted
    assert geometry.tilt_degrees == 0.0
    assert geometry.is_regular
    assert geometry.slice_spacing == 4.0


def test_other_shape_is_no_same_grid() -> None:
    assert not geometry_of(PhantomSpec()).same_grid(geometry_of(PhantomSpec(rows=65)))
