"""Between a source's slices and a network's grid, through each slice's true plane.

Forward, a source is averaged down to about the grid's resolution and sampled trilinearly; oblique, tilted and unevenly
spaced stacks keep their own planes throughout (:class:`~dicom_node.imaging.geometry.Geometry`). Back, the class scores
of the grid are interpolated at every source voxel and the best class is taken. Both go slab by slab: apart from the
result, memory does not grow with the source.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.segment.grids import slice_half_widths

Voxels = npt.NDArray[np.int16] | npt.NDArray[np.float32]

GRID_POINTS = 500_000
"""Points of a grid that are sampled at once."""
SLAB_POINTS = 2_000_000
"""Source voxels that are labelled at once."""
SCORED_POINTS = 131_072
"""Points whose class scores are held at once."""
_MIXED = 255
_CORNERS = tuple(itertools.product((0, 1), repeat=3))
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
    if scores.shape[0] >= _MIXED or tuple(scores.shape[1:]) != grid.shape:
        raise ValueError(f"expected up to 254 classes on {grid.shape}, got scores of shape {tuple(scores.shape)}")
    cells = _Cells(scores)
    labels = np.zeros(source.shape, dtype=np.uint8)
    corners = cells.foreground_corners(grid)
    step = max(1, SLAB_POINTS // (source.rows * source.columns))
    for first in range(0, source.shape[0], step):
        last = min(first + step, source.shape[0])
        rows, columns = _window(source, corners, first, last)
        if len(rows) and len(columns):
            where, inside = _grid_indices(grid, source, range(first, last), rows, columns)
            found = torch.where(inside, cells.labels_at(where), 0).numpy()
            labels[first:last, rows.start : rows.stop, columns.start : columns.stop] = found
    return labels


class _Cells:
    """Class scores of a grid, ready to be asked for the best class between grid points."""

    def __init__(self, scores: Tensor) -> None:
        self._winner = scores.argmax(0).to(torch.uint8)
        self._size = torch.tensor(self._winner.shape)
        self._labels = self._agreed()
        needed = self._needed()
        self._row = torch.cumsum(needed.flatten(), 0).reshape(needed.shape) - 1
        self._table = scores[:, needed].T.contiguous().float()

    def foreground_corners(self, grid: Geometry) -> FloatArray:
        """(8, 3) patient_mm of a box that holds every voxel that can have a label; (0, 3) where there is none."""
        foreground = torch.nonzero(self._winner)
        if not len(foreground):
            return np.empty((0, 3))
        ends = np.stack([foreground.amin(0).numpy() - 1.0, foreground.amax(0).numpy() + 1.0])
        return grid.index_to_patient(np.array([[ends[c, axis] for axis, c in enumerate(step)] for step in _CORNERS]))

    def _agreed(self) -> Tensor:
        """(k', j', i') the class on which the corners of each cell agree, else _MIXED."""
        first = self._corner(self._winner, (0, 0, 0))
        agree = torch.ones_like(first, dtype=torch.bool)
        for step in _CORNERS:
            agree &= self._corner(self._winner, step) == first
        return torch.where(agree, first, _MIXED)

    def _needed(self) -> Tensor:
        """(k, j, i) the grid points at corners of mixed cells."""
        needed = torch.zeros(self._winner.shape, dtype=torch.bool)
        mixed = self._labels == _MIXED
        for step in _CORNERS:
            self._corner(needed, step).logical_or_(mixed)
        return needed

    @staticmethod
    def _corner(array: Tensor, step: tuple[int, ...]) -> Tensor:
        """A view of one corner of every cell; a grid of one point along an axis has one cell there."""
        for axis, (offset, n) in enumerate(zip(step, array.shape, strict=True)):
            array = array.narrow(axis, offset if n > 1 else 0, max(n - 1, 1))
        return array

    def labels_at(self, where: Tensor) -> Tensor:
        """(...) uint8 labels at fractional grid indices (3, ...), which are clamped to the grid."""
        cell = torch.empty(where.shape, dtype=torch.int64)
        for axis in range(3):
            where[axis].clamp_(0, int(self._size[axis]) - 1)
            cell[axis] = where[axis].floor().clamp_(max=max(int(self._size[axis]) - 2, 0))
        _, rows, columns = self._labels.shape
        labels = self._labels.flatten()[(cell[0] * rows + cell[1]) * columns + cell[2]]
        mixed = labels == _MIXED
        labels[mixed] = self._interpolated(where[:, mixed], cell[:, mixed])
        return labels

    def _interpolated(self, where: Tensor, cell: Tensor) -> Tensor:
        """(N,) best class at points (3, N) within cells (3, N)."""
        best = torch.empty(where.shape[1], dtype=torch.uint8)
        for first in range(0, where.shape[1], SCORED_POINTS):
            part = slice(first, first + SCORED_POINTS)
            fraction = where[:, part] - cell[:, part]
            rows, weights = self._corners(fraction, cell[:, part])
            scores = functional.embedding_bag(rows, self._table, per_sample_weights=weights, mode="sum")
            best[part] = scores.argmax(1).to(torch.uint8)
        return best

    def _corners(self, fraction: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 8) rows of the table and their weights."""
        _, rows, columns = self._winner.shape
        index, weight = [], []
        for step in _CORNERS:
            offset = [up if n > 1 else 0 for up, n in zip(step, self._winner.shape, strict=True)]
            k, j, i = (cell[axis] + offset[axis] for axis in range(3))
            index.append(self._row.flatten()[(k * rows + j) * columns + i])
            part = [fraction[axis] if up else 1 - fraction[axis] for axis, up in enumerate(step)]
            weight.append(part[0] * part[1] * part[2])
        return torch.stack(index, 1), torch.stack(weight, 1)


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
    return range(max(0, int(np.floor(indices.min()))), min(size, int(np.ceil(indices.max())) + 1))


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
