"""The network's certainty near borders: on the right side everywhere, and precise enough to draw contours from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dicom_node.imaging.certainty import CERTAIN, HALF, Certainty
from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.segment import cells, resampling
from dicom_node.segment.bordering import beside_border
from dicom_node.segment.grids import covering_grid, crop
from dicom_node.segment.resampling import to_source, to_source_with_certainty
from tests.phantoms import PhantomSpec, geometry_of
from tests.segment.geometries import geometries, geometry, voxel_positions

Bytes = npt.NDArray[np.uint8]
WHOLE = (slice(None), slice(None))


def random_scores(grid: Geometry, seed: int, lift: float, spread: float) -> torch.Tensor:
    scores = torch.randn((5, *grid.shape), generator=torch.Generator().manual_seed(seed)) * spread
    scores[0] += lift
    return scores


@st.composite
def scored(draw: st.DrawFn) -> tuple[torch.Tensor, Geometry, Geometry]:
    """(scores, grid, source): any geometry, a grid that may end inside the source, scores shallow or steep."""
    source = draw(geometries())
    grid = covering_grid(source, draw(st.sampled_from([(3.0, 2.5, 4.0), (6.0, 6.0, 6.0), (1.0, 1.5, 1.0)])))
    starts = [draw(st.integers(0, n // 2)) for n in grid.shape]
    grid = crop(grid, (slice(starts[0], None), slice(starts[1], None), slice(starts[2], None)))
    spread = draw(st.sampled_from([0.1, 1.0, 10.0]))
    lift = draw(st.sampled_from([-3.0, 1.0, 4.0])) * spread
    return random_scores(grid, draw(st.integers(0, 1000)), lift, spread), grid, source


def naive_scores(scores: torch.Tensor, grid: Geometry, source: Geometry) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """(C, k, j, i) interpolated at every voxel, and whether the grid surely covers it: the slow way, as an oracle."""
    kji = grid.patient_to_index(voxel_positions(source).reshape(-1, 3))
    size = np.array(grid.shape)
    inside = np.all((kji > -0.499) & (kji < size - 0.501), axis=1).reshape(source.shape)
    scaled = 2 * np.clip(kji, 0, size - 1) / np.maximum(size - 1, 1) - 1
    where = torch.from_numpy(scaled[:, ::-1].copy())[None, None, None]
    sampled = functional.grid_sample(scores.double()[None], where, padding_mode="border", align_corners=True)
    return sampled[0, :, 0, 0].numpy().reshape(len(scores), *source.shape), inside


def naive_beside_border(labels: Bytes) -> npt.NDArray[np.bool_]:
    padded = np.pad(labels.astype(int), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows, columns = labels.shape[1:]
    shifted = [padded[:, j : j + rows, i : i + columns] for j in range(3) for i in range(3)]
    return np.any([neighbour != labels for neighbour in shifted], axis=0)


def crossings(
    labels: Bytes, certainty: Certainty, label: int
) -> Iterator[tuple[int, npt.NDArray[np.bool_], FloatArray]]:
    """Along each in-plane axis: pairs of neighbours (k, j, i) that the label's border parts, and where between them.

    Yields:
        The axis; whether there is a border between a voxel and its next; the crossing of one half, 0..1, for each such
        pair, counted from the pixel that has the label.
    """
    field = np.stack([certainty.probability(labels[k], label, k, WHOLE) for k in range(len(labels))]) - HALF
    for axis in (1, 2):
        first = np.moveaxis(np.moveaxis(field, axis, 0)[:-1], 0, axis)
        second = np.moveaxis(np.moveaxis(field, axis, 0)[1:], 0, axis)
        parted = (first > 0) != (second > 0)
        inner, outer = np.maximum(first, second)[parted], -np.minimum(first, second)[parted]
        yield axis, parted, inner / (inner + outer)


@settings(deadline=None)
@given(scored())
def test_probability_is_above_one_half_exactly_where_the_label_is(
    case: tuple[torch.Tensor, Geometry, Geometry],
) -> None:
    scores, grid, source = case
    labels, certainty = to_source_with_certainty(scores, grid, source)
    np.testing.assert_array_equal(labels, to_source(scores, grid, source))
    assert certainty.winner.min(initial=CERTAIN) > HALF
    for k, plane in enumerate(labels):
        for label in range(len(scores)):
            field = certainty.probability(plane, label, k, WHOLE)
            np.testing.assert_array_equal(field > HALF, plane == label)


@settings(deadline=None)
@given(scored())
def test_it_is_the_networks_wherever_labels_meet(case: tuple[torch.Tensor, Geometry, Geometry]) -> None:
    scores, grid, source = case
    labels, certainty = to_source_with_certainty(scores, grid, source)
    exact, inside = naive_scores(scores, grid, source)
    near = naive_beside_border(labels) & inside
    order = np.sort(exact[:, near], axis=0)
    expected = CERTAIN / (1 + np.exp(order[-2] - order[-1]))
    winner = certainty.winner[near].astype(float)
    tolerance = 0.6 + 0.01 * float(scores.abs().max())  # positions are single precision
    assert np.all(winner >= expected - tolerance)
    assert np.all(winner <= np.maximum(expected + tolerance, HALF + 4.5))  # what keeps borders off the centres
    clear = (order[-2] - order[-3] > 1e-3 * float(scores.abs().max())) & (winner < CERTAIN)
    np.testing.assert_array_equal(certainty.runner_up[near][clear], exact[:, near].argsort(axis=0)[-2][clear])


@settings(deadline=None)
@given(scored())
def test_far_from_borders_and_off_the_grid_nothing_is_in_question(
    case: tuple[torch.Tensor, Geometry, Geometry],
) -> None:
    scores, grid, source = case
    _, certainty = to_source_with_certainty(scores, grid, source)
    kji = grid.patient_to_index(voxel_positions(source).reshape(-1, 3)).reshape(*source.shape, 3)
    off = np.any((kji < -0.501) | (kji > np.array(grid.shape) - 0.499), axis=-1)
    assert np.all(certainty.winner[off] == CERTAIN)
    assert not np.any(certainty.runner_up[certainty.winner == CERTAIN])


@settings(deadline=None)
@given(scored())
def test_no_border_comes_near_a_pixels_centre(case: tuple[torch.Tensor, Geometry, Geometry]) -> None:
    scores, grid, source = case
    labels, certainty = to_source_with_certainty(scores, grid, source)
    for label in range(len(scores)):
        for _, _, at in crossings(labels, certainty, label):
            assert np.all((at >= 0.03) & (at <= 0.97))


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_borders_are_found_where_neighbours_differ(seed: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, values, (3, *rng.integers(1, 9, 2))).astype(np.uint8)
    np.testing.assert_array_equal(beside_border(labels), naive_beside_border(labels))


def test_all_background_is_certain() -> None:
    source = geometry(np.eye(3), np.arange(4) * 3.0)
    grid = covering_grid(source, (3.0, 3.0, 3.0))
    scores = torch.zeros((3, *grid.shape))
    scores[0] = 1
    labels, certainty = to_source_with_certainty(scores, grid, source)
    assert not labels.any()
    assert np.all(certainty.winner == CERTAIN)


def test_small_slabs_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    source = geometry(np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + np.eye(3))[0], np.arange(9) * 2.0)
    grid = covering_grid(source, (2.0, 2.0, 2.0))
    scores = random_scores(grid, 1, 1.0, 1.0)
    whole = to_source_with_certainty(scores, grid, source)[1]
    monkeypatch.setattr(resampling, "SLAB_POINTS", 100)
    monkeypatch.setattr(cells, "SCORED_POINTS", 7)
    parts = to_source_with_certainty(scores, grid, source)[1]
    np.testing.assert_array_equal(parts.winner, whole.winner)
    np.testing.assert_array_equal(parts.runner_up, whole.runner_up)


def border_errors(source: Geometry, grid_mm: float, margin, steepness: float) -> tuple[FloatArray, FloatArray]:  # type: ignore[no-untyped-def]
    """How far borders of class 1 lie from the analytic ones: in pixels along the row or column, and straight in mm.

    Args:
        source: The slices.
        grid_mm: Spacing of the grid.
        margin: From points (..., 3) to mm inside the surface, for grid points and for analytic crossings alike.
        steepness: Logits per mm.
    """
    grid = covering_grid(source, (grid_mm, grid_mm, grid_mm))
    inside = torch.from_numpy((steepness * margin(voxel_positions(grid))).astype(np.float32))
    labels, certainty = to_source_with_certainty(torch.stack([-inside / 2, inside / 2]), grid, source)
    positions = voxel_positions(source)
    kji = grid.patient_to_index(positions.reshape(-1, 3)).reshape(*source.shape, 3)
    between = np.all((kji >= 0) & (kji <= np.array(grid.shape) - 1), axis=-1)
    pixels, straight = [], []
    for axis, parted, at in crossings(labels, certainty, 1):
        steps = [np.moveaxis(np.moveaxis(a, axis, 0)[part], 0, axis)[parted]
                 for part in (slice(None, -1), slice(1, None)) for a in (positions, labels, between)]  # fmt: skip
        start = np.where(steps[1][:, None] == 1, steps[0], steps[3])
        end = np.where(steps[1][:, None] == 1, steps[3], steps[0])
        within = steps[2] & steps[5]
        pixels.append((at - analytic(margin, start, end))[within])
        straight.append(margin(start + at[:, None] * (end - start))[within])
    return np.concatenate(pixels), np.concatenate(straight)


def analytic(margin, start: FloatArray, end: FloatArray) -> FloatArray:  # type: ignore[no-untyped-def]
    """Where the surface crosses the way from start (N, 3) to end, 0..1, by bisection; beyond the ends it is an end."""
    low, high = np.zeros(len(start)), np.ones(len(start))
    for _ in range(40):
        middle = (low + high) / 2
        inside = margin(start + middle[:, None] * (end - start)) > 0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return (low + high) / 2


PLANES = [
    PhantomSpec(slices=12, rows=48, columns=48),
    PhantomSpec(slices=12, rows=48, columns=48, flip_columns=True, orientation="oblique"),
    PhantomSpec(slices=12, rows=48, columns=48, tilt_degrees=20.0),
    PhantomSpec(slices=12, rows=48, columns=48, orientation="sagittal", row_spacing=1.3, column_spacing=0.6),
]


@pytest.mark.parametrize("spec", PLANES, ids=range(len(PLANES)))
@pytest.mark.parametrize(("steepness", "most"), [(0.6, 0.08), (1.0, 0.05), (2.0, 0.05)])
def test_a_plane_is_where_it_is(spec: PhantomSpec, steepness: float, most: float) -> None:
    """Shallow scores leave few of the 255 steps to a pixel, steep ones bend the probability between two pixels."""
    source = geometry_of(spec)
    in_plane = 0.8 * source.row_direction + 0.5 * source.column_direction + 0.3 * source.normal
    normal = in_plane / np.linalg.norm(in_plane)
    through = voxel_positions(source).reshape(-1, 3).mean(0) + np.array([0.31, 0.17, 0.23])
    errors = abs(border_errors(source, 3.0, lambda points: (points - through) @ normal, steepness)[0])
    assert len(errors) > 500
    print(f"plane, {steepness} logits/mm: mean {errors.mean():.4f}, worst {errors.max():.4f} pixels, n {len(errors)}")
    assert errors.max() < most


@pytest.mark.parametrize("grid_mm", [2.0, 4.0])
def test_a_small_sphere_is_where_the_grid_can_hold_it(grid_mm: float) -> None:
    """Interpolating a distance linearly over a cell draws a sphere inwards, by at most h^2 / 8 of its curvatures."""
    radius = 10.0
    source = geometry_of(
        PhantomSpec(slices=14, rows=40, columns=40, row_spacing=1.0, column_spacing=1.0, slice_spacing=3.0)
    )
    centre = voxel_positions(source).reshape(-1, 3).mean(0) + np.array([0.31, 0.17, 0.23])
    pixels, mm = border_errors(
        source, grid_mm, lambda points: radius - np.linalg.norm(points - centre, axis=-1), steepness=1.0
    )
    print(
        f"sphere, {grid_mm} mm grid: straight mean {mm.mean():+.3f}, worst {abs(mm).max():.3f} mm; along rows and "
        f"columns mean {abs(pixels).mean():.3f}, 95 % {np.percentile(abs(pixels), 95):.3f}, "
        f"worst {abs(pixels).max():.3f} pixels, n {len(pixels)}"
    )
    most = 2 * grid_mm**2 / (8 * radius)
    assert len(mm) > 300
    assert mm.min() > -0.05  # never outwards, but for rounding and the pixels' own clearance
    assert mm.max() < most + 0.05
