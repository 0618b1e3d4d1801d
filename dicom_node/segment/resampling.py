"""Between a source's slices and a network's grid, through each slice's true plane.

Forward, a source is averaged down to about the grid's resolution and sampled trilinearly; oblique, tilted and unevenly
spaced stacks keep their own planes throughout (:class:`~dicom_node.imaging.geometry.Geometry`). Back, the class scores
of the grid are interpolated at every source voxel and the best class is taken (:mod:`dicom_node.segment.cells`). Both
go slab by slab: apart from the result, memory does not grow with the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dicom_node.imaging.certainty import CERTAIN, Certainty
from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.segment.bordering import beside_border, keep_off_centres
from dicom_node.segment.cells import Cells
from dicom_node.segment.grids import slice_half_widths

Voxels = npt.NDArray[np.int16] | npt.NDArray[np.float32]

GRID_POINTS = 500_000
"""Points of a grid that are sampled at once."""
SLAB_POINTS = 2_000_000
"""Source voxels that are labelled at once."""
_EDGE_MM = 1e-3


def to_grid(
    voxels: Voxels, source: Geometry, grid: Geometry, *, outside: float, limits: tuple[float, float] | None = None
) -> Tensor:
    """A source on a grid.

    Where the source is finer than the grid it is averaged first, so that nothing between the grid's points is missed.

    Args:
        voxels: (k, j, i) of the source; may be memory-mapped.
        source: Place of its slices.
        grid: Where to sample; any geometry.
        outside: Value of points that no source voxel covers: -1024 (air) for CT, 0 for MR.
        limits: Source values are clipped to these before they are averaged.

    Returns:
        (k, j, i) float32 of the grid.
    """
    factors = averaging_factors(source, grid)
    averaged = torch.from_numpy(_average(voxels, factors, limits))[None, None]
    coarse = _averaged_geometry(source, factors)
    image = torch.empty(grid.shape, dtype=torch.float32)
    step = max(1, GRID_POINTS // (grid.rows * grid.columns))
    for first in range(0, grid.shape[0], step):
        last = min(first + step, grid.shape[0])
        points = grid.index_to_patient(_all_indices(grid, first, last))
        covered = torch.from_numpy(covers(source, points))
        where = _normalised(coarse.patient_to_index(points), coarse.shape)
        values = functional.grid_sample(averaged, where, mode="bilinear", padding_mode="border", align_corners=True)
        image[first:last] = torch.where(covered, values.flatten(), outside).reshape(last - first, *grid.shape[1:])
    return image


def averaging_factors(source: Geometry, grid: Geometry) -> tuple[int, int, int]:
    """Source voxels (k, j, i) that are averaged into one before sampling: about as many as a grid voxel spans."""
    grid_axes = grid.affine[:3, :3]  # columns: the step along k, j, i of the grid in patient_mm
    axes = (source.normal, source.column_direction, source.row_direction)
    spacings = (source.slice_spacing, source.row_spacing, source.column_spacing)
    spans = [float(np.linalg.norm(axis @ grid_axes)) / spacing for axis, spacing in zip(axes, spacings, strict=True)]
    k, j, i = (min(max(1, round(span)), size) for span, size in zip(spans, source.shape, strict=True))
    return k, j, i


def covers(source: Geometry, points: FloatArray) -> npt.NDArray[np.bool_]:
    """(N,) whether patient points (N, 3) lie in a voxel of the source; voxels reach half-way to their neighbours."""
    below, above = slice_half_widths(source)
    distance = points @ source.normal
    kji = source.patient_to_index(points)
    inside = (distance >= source.distances[0] - below - _EDGE_MM) & (
        distance <= source.distances[-1] + above + _EDGE_MM
    )
    for index, size, spacing in ((1, source.rows, source.row_spacing), (2, source.columns, source.column_spacing)):
        edge = 0.5 + _EDGE_MM / spacing
        inside &= (kji[:, index] >= -edge) & (kji[:, index] <= size - 1 + edge)
    return np.asarray(inside)


def to_source(scores: Tensor, grid: Geometry, source: Geometry) -> npt.NDArray[np.uint8]:
    """Labels on a source's slices from class scores on an axis-aligned grid.

    Scores are interpolated linearly at each source voxel's place in the patient, and the best class is its label. Where
    all eight grid points around a voxel agree on the class, it also wins between them, so that only the voxels near
    boundaries are interpolated.

    Args:
        scores: (C, k, j, i) on the grid; logits or probabilities; class 0 is background. At most 254 classes.
        grid: As made by :func:`~dicom_node.segment.grids.covering_grid`, possibly cropped.
        source: Place of the source's slices.

    Returns:
        (k, j, i) labels on the source's slices; 0 where the grid does not reach.
    """
    cells = Cells(scores)
    labels = np.zeros(source.shape, dtype=np.uint8)
    for part, where, inside in _slabs(cells, grid, source):
        labels[part] = torch.where(inside, cells.labels_at(where), 0).numpy()
    return labels


def to_source_with_certainty(
    scores: Tensor, grid: Geometry, source: Geometry
) -> tuple[npt.NDArray[np.uint8], Certainty]:
    """Labels as :func:`to_source` gives them, and how sure they are near borders.

    Certainty is worked out where a border of a contour can run: at voxels with another label among their eight
    neighbours on the slice, and in every cell of the grid whose corners disagree. Elsewhere it is CERTAIN, and so it is
    where the grid does not reach.
    """
    cells = Cells(scores)
    labels, runner_up = np.zeros(source.shape, dtype=np.uint8), np.zeros(source.shape, dtype=np.uint8)
    winner = np.full(source.shape, CERTAIN, dtype=np.uint8)
    for part, where, inside in _slabs(cells, grid, source):
        ranking, mixed = cells.ranking_at(where)
        labels[part] = torch.where(inside, ranking.best, 0).numpy()
        winner[part] = torch.where(inside, ranking.winner, CERTAIN).numpy()
        runner_up[part] = torch.where(inside, ranking.runner_up, 0).numpy()
        border = beside_border(labels[part])
        rest = border & (inside & ~mixed).numpy()
        missing = cells.ranking_of(labels[part][rest], where[:, torch.from_numpy(rest)])
        winner[part][rest], runner_up[part][rest] = missing.winner.numpy(), missing.runner_up.numpy()
        keep_off_centres(labels[part], winner[part], runner_up[part], border)
    return labels, Certainty(winner, runner_up)


def _slabs(
    cells: Cells, grid: Geometry, source: Geometry
) -> Iterator[tuple[tuple[slice, slice, slice], Tensor, Tensor]]:
    """Parts of a source that together hold every voxel that can have a label and that voxel's neighbours on the slice.

    Yields:
        The part; fractional grid indices (3, k, j, i) of its voxels; whether the grid covers them (k, j, i).
    """
    if cells.shape != grid.shape:
        raise ValueError(f"expected scores on {grid.shape}, got them on {cells.shape}")
    corners = cells.foreground_corners(grid)
    step = max(1, SLAB_POINTS // (source.rows * source.columns))
    for first in range(0, source.shape[0], step):
        last = min(first + step, source.shape[0])
        rows, columns = _window(source, corners, first, last)
        if len(rows) and len(columns):
            part = (slice(first, last), slice(rows.start, rows.stop), slice(columns.start, columns.stop))
            yield part, *_grid_indices(grid, source, range(first, last), rows, columns)


def _average(
    voxels: Voxels, factors: tuple[int, int, int], limits: tuple[float, float] | None
) -> npt.NDArray[np.float32]:
    """Means over blocks of ``factors`` voxels; the last block of an axis may be smaller."""
    shape = tuple(-(-n // f) for n, f in zip(voxels.shape, factors, strict=True))
    averaged = np.empty(shape, dtype=np.float32)
    for k in range(shape[0]):
        block = torch.from_numpy(np.array(voxels[k * factors[0] : (k + 1) * factors[0]], dtype=np.float32))
        if limits is not None:
            block.clamp_(*limits)
        plane = functional.avg_pool2d(block.mean(0)[None, None], factors[1:], ceil_mode=True, count_include_pad=False)
        averaged[k] = plane[0, 0].numpy()
    return averaged


def _averaged_geometry(source: Geometry, factors: tuple[int, int, int]) -> Geometry:
    """Place of the blocks' centres: planes at the mean of the slices they were averaged from."""
    k, j, i = factors
    shift = source.column_direction * ((j - 1) / 2 * source.row_spacing)
    shift = shift + source.row_direction * ((i - 1) / 2 * source.column_spacing)
    starts = range(0, len(source.origins), k)
    return replace(
        source,
        origins=np.array([source.origins[first : first + k].mean(axis=0) for first in starts]) + shift,
        row_spacing=source.row_spacing * j,
        column_spacing=source.column_spacing * i,
        rows=-(-source.rows // j),
        columns=-(-source.columns // i),
        slice_thickness=source.slice_spacing * k,
    )


def _all_indices(grid: Geometry, first: int, last: int) -> FloatArray:
    """(N, 3) indices of every voxel of slices first..last."""
    axes = (np.arange(first, last), np.arange(grid.rows), np.arange(grid.columns))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float64)


def _normalised(kji: FloatArray, shape: tuple[int, int, int]) -> Tensor:
    """(1, 1, 1, N, 3) in grid_sample's (x, y, z) from -1 to 1 between the centres of the first and last voxel."""
    last = np.array([max(n - 1, 1) for n in shape])
    scaled = 2 * np.clip(kji, 0, np.array(shape) - 1) / last - 1
    return torch.from_numpy(scaled[:, ::-1].astype(np.float32))[None, None, None]


def _window(source: Geometry, corners: FloatArray, first: int, last: int) -> tuple[range, range]:
    """Rows and columns of some source slices that a box, given by its corners (8, 3) in patient_mm, can touch."""
    box = corners @ source.normal
    planes = source.distances[first:last]
    if not len(corners) or box.max() < planes[0] or box.min() > planes[-1]:
        return range(0), range(0)
    offsets = (corners[None] - source.origins[first:last, None]).reshape(-1, 3)
    rows = offsets @ source.column_direction / source.row_spacing
    columns = offsets @ source.row_direction / source.column_spacing
    return _whole(rows, source.rows), _whole(columns, source.columns)


def _whole(indices: FloatArray, size: int) -> range:
    """The indices within a range and one more on either side: neighbours of what is there lie on a border too."""
    return range(max(0, int(np.floor(indices.min())) - 1), min(size, int(np.ceil(indices.max())) + 2))


def _grid_indices(
    grid: Geometry, source: Geometry, slices: range, rows: range, columns: range
) -> tuple[Tensor, Tensor]:
    """Fractional grid indices (3, k, j, i) of some source voxels, and whether the grid covers them."""
    spacing = np.array([grid.slice_spacing, grid.row_spacing, grid.column_spacing])
    origins = source.origins[slices.start : slices.stop]
    start = ((origins - grid.origins[0])[:, ::-1] / spacing).astype(np.float32)
    per_row = source.column_direction[::-1] * source.row_spacing / spacing
    per_column = source.row_direction[::-1] * source.column_spacing / spacing
    j, i = torch.arange(rows.start, rows.stop), torch.arange(columns.start, columns.stop)
    where = torch.empty((3, len(slices), len(rows), len(columns)))
    inside = torch.ones(where.shape[1:], dtype=torch.bool)
    for axis in range(3):
        in_plane = j[:, None] * float(per_row[axis]) + i[None, :] * float(per_column[axis])
        torch.add(torch.from_numpy(start[:, axis].copy())[:, None, None], in_plane, out=where[axis])
        inside &= (where[axis] >= -0.5) & (where[axis] <= grid.shape[axis] - 0.5)
    return where, inside
