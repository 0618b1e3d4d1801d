"""Forward and back between source slices and the network's grid: values and labels stay where the patient is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.segment import cells, resampling
from dicom_node.segment.grids import axis_aligned, covering_grid, crop
from dicom_node.segment.resampling import averaging_factors, to_grid, to_source
from tests.phantoms import PhantomSpec, geometry_of
from tests.segment.geometries import geometries, geometry, voxel_positions

SLOPE = np.array([1.5, -2.25, 0.75])
AIR = -1024.0


def ramp(points: FloatArray) -> FloatArray:
    return np.asarray(points @ SLOPE + 40.0)


def interior(source: Geometry, grid: Geometry) -> npt.NDArray[np.bool_]:
    """Grid points well inside the source: between the centres of its averaged blocks."""
    kji = source.patient_to_index(voxel_positions(grid).reshape(-1, 3))
    factors = np.array(averaging_factors(source, grid))
    last = np.array(source.shape) - 1
    return np.all((kji >= factors) & (kji <= last - 2 * factors), axis=1).reshape(grid.shape)


@settings(deadline=None)
@given(geometries(), st.floats(0.8, 5.0))
def test_a_linear_ramp_is_reproduced_on_every_geometry(source: Geometry, spacing: float) -> None:
    voxels = ramp(voxel_positions(source)).astype(np.float32)
    grid = covering_grid(source, (spacing, spacing, spacing))
    image = to_grid(voxels, source, grid, outside=AIR).numpy()
    inside = interior(source, grid)
    np.testing.assert_allclose(image[inside], ramp(voxel_positions(grid))[inside], atol=0.02)


ORIENTED = [
    PhantomSpec(orientation="axial"),
    PhantomSpec(orientation="axial", flip_rows=True),
    PhantomSpec(orientation="axial", flip_columns=True),
    PhantomSpec(orientation="sagittal"),
    PhantomSpec(orientation="coronal", flip_rows=True),
    PhantomSpec(orientation="oblique"),
    PhantomSpec(orientation="oblique", flip_columns=True),
    PhantomSpec(tilt_degrees=20.0),
    PhantomSpec(tilt_degrees=-12.0, orientation="coronal"),
    PhantomSpec(positions=(0, 2, 4, 6, 8, 10, 15, 20, 25, 30, 35, 37, 39, 45, 50, 55, 60)),
    PhantomSpec(row_spacing=0.5, column_spacing=0.5, rows=160, columns=120, slice_spacing=5.0, slices=12),
]


@pytest.mark.parametrize("spec", ORIENTED, ids=range(len(ORIENTED)))
@pytest.mark.parametrize(("spacing", "least_dice"), [(1.5, 0.98), (4.0, 0.94)])
def test_a_ball_lands_where_it_is_in_the_patient(spec: PhantomSpec, spacing: float, least_dice: float) -> None:
    source = geometry_of(spec)
    positions = voxel_positions(source)
    centre = positions.reshape(-1, 3).mean(0) + np.array([6.0, -4.0, 5.0])
    radius = 14.0
    distance = np.linalg.norm(positions - centre, axis=-1)
    voxels = np.clip(500.0 * (radius - distance) / 4.0, -1000, 1000).astype(np.int16)
    grid = covering_grid(source, (spacing, spacing, spacing))

    image = to_grid(voxels, source, grid, outside=-1000.0, limits=(-1000.0, 1000.0))
    labels = to_source(torch.stack([-image, image]), grid, source)

    truth = distance < radius
    dice = 2 * np.sum(truth & (labels == 1)) / (np.sum(truth) + np.sum(labels == 1))
    assert dice > least_dice
    np.testing.assert_allclose(positions[labels == 1].mean(0), positions[truth].mean(0), atol=0.25)


def test_beyond_the_source_there_is_air() -> None:
    source = geometry(np.eye(3), np.arange(10) * 3.0)
    grid = axis_aligned(source.origins[0] - 20.0, (2.0, 2.0, 2.0), (40, 40, 40))
    image = to_grid(np.full(source.shape, 55, np.int16), source, grid, outside=AIR).numpy()
    kji = source.patient_to_index(voxel_positions(grid).reshape(-1, 3)).reshape(*grid.shape, 3)
    covered = np.all((kji > -0.49) & (kji < np.array(source.shape) - 0.51), axis=-1)
    beyond = np.any((kji < -0.51) | (kji > np.array(source.shape) - 0.49), axis=-1)
    np.testing.assert_allclose(image[covered], 55, rtol=1e-6)
    assert np.all(image[beyond] == AIR)


def test_a_finer_source_is_averaged_and_not_skipped_over() -> None:
    source = geometry(np.eye(3), np.arange(40) * 0.5, rows=200, columns=200, spacing=(0.5, 0.5))
    noise = np.random.default_rng(0).normal(0, 100, source.shape).astype(np.float32)
    grid = covering_grid(source, (4.0, 4.0, 4.0))
    assert averaging_factors(source, grid) == (8, 8, 8)
    image = to_grid(noise, source, grid, outside=0.0)
    assert float(image[1:-1, 1:-1, 1:-1].std()) < 100 / np.sqrt(8**3) * 1.5


def test_limits_hold_before_averaging() -> None:
    source = geometry(np.eye(3), np.arange(8) * 1.0, rows=16, columns=16, spacing=(1.0, 1.0))
    voxels = np.zeros(source.shape, np.int16)
    voxels[::2] = 30_000
    image = to_grid(voxels, source, covering_grid(source, (4.0, 4.0, 4.0)), outside=0.0, limits=(-1024.0, 1000.0))
    assert float(image.max()) <= 501.0


@settings(deadline=None)
@given(geometries(), st.integers(0, 1000))
def test_labels_are_the_best_class_at_the_place_of_each_voxel(source: Geometry, seed: int) -> None:
    """Class scores that are linear in space make half-spaces, which interpolation must reproduce exactly."""
    rng = np.random.default_rng(seed)
    slopes, offsets = rng.normal(size=(5, 3)), rng.normal(0, 10, 5)
    positions = voxel_positions(source)
    centre = positions.reshape(-1, 3).mean(0)
    grid = covering_grid(source, (2.5, 3.0, 2.0))
    scores = torch.from_numpy(((voxel_positions(grid) - centre) @ slopes.T + offsets).astype(np.float32))

    labels = to_source(scores.permute(3, 0, 1, 2), grid, source)

    exact = (positions - centre) @ slopes.T + offsets
    ranked = np.sort(exact, axis=-1)
    kji = grid.patient_to_index(positions.reshape(-1, 3)).reshape(*source.shape, 3)
    between = np.all((kji >= 0) & (kji <= np.array(grid.shape) - 1), axis=-1)
    clear = between & (ranked[..., -1] - ranked[..., -2] > 1e-2)
    np.testing.assert_array_equal(labels[clear], exact.argmax(-1)[clear])


def naive_labels(scores: torch.Tensor, grid: Geometry, source: Geometry) -> npt.NDArray[np.uint8]:
    """All classes interpolated at every voxel: the slow way, as an oracle."""
    kji = grid.patient_to_index(voxel_positions(source).reshape(-1, 3))
    size = np.array(grid.shape)
    inside = np.all((kji >= -0.5) & (kji <= size - 0.5), axis=1)
    scaled = 2 * np.clip(kji, 0, size - 1) / np.maximum(size - 1, 1) - 1
    where = torch.from_numpy(scaled[:, ::-1].copy())[None, None, None]
    sampled = functional.grid_sample(scores.double()[None], where, padding_mode="border", align_corners=True)
    best = sampled[0, :, 0, 0].argmax(0).numpy()
    return np.where(inside, best, 0).astype(np.uint8).reshape(source.shape)


@settings(deadline=None)
@given(geometries(), st.integers(0, 1000), st.data())
def test_the_short_cuts_change_nothing(source: Geometry, seed: int, data: st.DataObject) -> None:
    grid = covering_grid(source, (3.0, 2.5, 4.0))
    starts = [data.draw(st.integers(0, n // 2)) for n in grid.shape]
    grid = crop(grid, (slice(starts[0], None), slice(starts[1], None), slice(starts[2], None)))
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn((4, *grid.shape), generator=generator)
    scores[0] += data.draw(st.sampled_from([-3.0, 1.0, 4.0]))
    found, expected = to_source(scores, grid, source), naive_labels(scores, grid, source)
    kji = grid.patient_to_index(voxel_positions(source).reshape(-1, 3)).reshape(*source.shape, 3)
    off_edge = np.all(np.minimum(abs(kji + 0.5), abs(kji - np.array(grid.shape) + 0.5)) > 1e-3, axis=-1)
    assert np.sum((found != expected) & off_edge) <= 1e-3 * found.size + 1  # a tie now and then


def test_nothing_in_sight_is_background() -> None:
    source = geometry(np.eye(3), np.arange(4) * 3.0)
    grid = covering_grid(source, (3.0, 3.0, 3.0))
    scores = torch.zeros((3, *grid.shape))
    scores[0] = 1
    assert not to_source(scores, grid, source).any()


def test_small_slabs_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    source = geometry(np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + np.eye(3))[0], np.arange(9) * 2.0)
    grid = covering_grid(source, (2.0, 2.0, 2.0))
    scores = torch.randn((5, *grid.shape), generator=torch.Generator().manual_seed(1))
    voxels = np.random.default_rng(1).normal(size=source.shape).astype(np.float32)
    whole = to_grid(voxels, source, grid, outside=0.0), to_source(scores, grid, source)
    monkeypatch.setattr(resampling, "GRID_POINTS", 100)
    monkeypatch.setattr(resampling, "SLAB_POINTS", 100)
    monkeypatch.setattr(cells, "SCORED_POINTS", 7)
    np.testing.assert_array_equal(to_grid(voxels, source, grid, outside=0.0), whole[0])
    np.testing.assert_array_equal(to_source(scores, grid, source), whole[1])


def test_a_memory_mapped_source_is_read_as_it_is(tmp_path: Path) -> None:
    source = geometry(np.eye(3), np.arange(6) * 3.0)
    voxels = np.random.default_rng(2).integers(-1000, 1000, source.shape).astype(np.int16)
    np.save(tmp_path / "voxels.npy", voxels)
    grid = covering_grid(source, (3.0, 3.0, 3.0))
    mapped = np.load(tmp_path / "voxels.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        to_grid(mapped, source, grid, outside=AIR), to_grid(voxels, source, grid, outside=AIR)
    )


def test_scores_of_another_grid_are_refused() -> None:
    source = geometry(np.eye(3), np.arange(4) * 3.0)
    with pytest.raises(ValueError, match="expected scores on"):
        to_source(torch.zeros((3, 2, 2, 2)), covering_grid(source, (3.0, 3.0, 3.0)), source)
    with pytest.raises(ValueError, match="expected up to 254 classes"):
        to_source(torch.zeros((255, 2, 2, 2)), covering_grid(source, (3.0, 3.0, 3.0)), source)
