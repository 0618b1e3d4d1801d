"""The body's outline: the EXTERNAL contour of radiotherapy, found without a network.

Two passes. On a coarse copy (cells of about 4 mm) the body is found in three dimensions: what is thin (table shells,
blankets, cables, a mask) does not survive an opening, and what is small or lies apart is no part of the body. Then each
slice at full resolution gives the skin: the tissue at the coarse body, its holes filled. All morphology is done within
slices, so that orientation, gantry tilt and uneven spacing do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_node.imaging.volume import Volume

Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float32]
Voxels = npt.NDArray[np.int16] | npt.NDArray[np.float32]

CT_TISSUE_HU = -500.0
"""Half-way between air (-1000) and skin (about 0): a blurred edge crosses it where the skin is, whatever the kernel."""
CT_LUNG_HU = -950.0
"""Along a cut field of view, nine tenths of lung (-900 to -700) are above this; air and couch foam are not."""
COARSE_MM = 4.0
"""Widest cell of the coarse copy; a small field of view (a child, a knee) has smaller ones."""
CELLS_ACROSS = 100
"""A field of view has at least this many coarse cells across, where its pixels allow."""
THIN_CELLS = 1
"""In-plane radius of the first opening, before holes are filled: ends shells and sheets."""
NECK_CELLS = 3
"""In-plane radius of the second opening, of the filled body: ends bridges to what touches it."""
WALL_CELLS = 8
"""How far along it a thin wall (an infant's chest) is followed from what survived the first opening."""
REACH_CELLS = 5
"""How far skin may lie from the opened coarse body: noses, ears and edges that the openings took."""
PART_RADIUS_MM = 12.0
"""A further body part (arm, leg) holds a disc of this radius somewhere; a table does not."""
PART_FRACTION = 0.01
"""And it has at least this part of the largest one's volume."""
SHEET_MM = 2.0
"""In-plane radius of the last opening: what is thinner than twice this and lies at the skin is cloth or table."""
BORDER_GAP_MM = 10.0
"""Dark bone or tendon as wide as this, cut by the field of view, does not open the body."""
FINE_MM = 1.5
"""MR pixels up to this are averaged three by three against noise; larger ones would lose the skin's place."""
MR_FLOOR = 0.01
"""Of the bright tissue: what is darker is background, and is not let stretch the logarithm."""
MR_BRIGHTEST_AIR = 0.18
"""What is brighter than this part of the median tissue is no air: then the field of view holds tissue alone."""
MR_BRIGHTEST_EDGE = 0.35
"""The threshold is at most this part of the median tissue."""


@dataclass(frozen=True)
class _Tissue:
    """How tissue is told from air in one volume.

    Attributes:
        threshold: Tissue is above it.
        lung: Background mostly above this is lung; None for MR.
        sheets: Whether tables and blankets show: then openings go before the filling of holes, so that a hollow table
            is not filled. In MR they do not, and skin over suppressed fat is itself a sheet that must close.
    """

    threshold: float
    lung: float | None
    sheets: bool


@dataclass(frozen=True)
class _Steps:
    """Voxels per coarse cell: slices are picked, pixels averaged."""

    k: int
    j: int
    i: int
    cell_mm: float


def body_outline(volume: Volume) -> npt.NDArray[np.uint8]:
    """Everything inside the skin.

    Deterministic; no orientation, spacing or tilt is assumed. What lies outside the reconstruction circle is outside,
    whatever padding value it has. Slices are read one at a time.

    Known to be wrong: what is as thick as a limb and touches the body (a cushion of gel) is taken in; air that parts of
    the body enclose within a slice (an arm that touches the trunk at two places) is filled as bowel gas is; lung that
    the field of view cuts is taken in for CT but not for MR, where it is as dark as air; an ADC map has no skin;
    a dry skull or another shell of a few millimetres that holds nothing is taken for a table.

    Args:
        volume: CT in Hounsfield units, or MR.

    Returns:
        (k, j, i): 1 inside the body, 0 outside; all 0 where nothing is found.
    """
    steps = _steps(volume)
    coarse = _coarse_copy(volume, steps)
    tissue = _ct_tissue() if volume.modality == "CT" else _mr_tissue(coarse)
    outline = np.zeros(volume.voxels.shape, dtype=np.uint8)
    core = _coarse_body(coarse, tissue, steps)
    reach = _dilated(core, REACH_CELLS)
    for k in range(len(outline)):
        below, above = k // steps.k, min(-(-k // steps.k), len(core) - 1)
        near = reach[below] | reach[above]
        if near.any():
            outline[k] = _skin(volume, k, near, core[below] | core[above], (tissue, steps))
    return outline


def _steps(volume: Volume) -> _Steps:
    geometry = volume.geometry
    extents = geometry.rows * geometry.row_spacing, geometry.columns * geometry.column_spacing
    cell = min(COARSE_MM, min(extents) / CELLS_ACROSS)
    return _Steps(
        k=max(1, round(cell / geometry.slice_spacing)),
        j=max(1, round(cell / geometry.row_spacing)),
        i=max(1, round(cell / geometry.column_spacing)),
        cell_mm=max(cell, geometry.row_spacing, geometry.column_spacing),
    )


def _coarse_copy(volume: Volume, steps: _Steps) -> Plane:
    """(k', j', i') values of every ``steps.k``-th slice, averaged over the pixels of a cell."""
    # clipped first: a thin dense shell must not count as much tissue, nor padding as less than air
    low, high = (-1000.0, 0.0) if volume.modality == "CT" else (0.0, np.inf)
    planes = []
    for k in range(0, len(volume.voxels), steps.k):
        values = np.clip(np.nan_to_num(volume.voxels[k].astype(np.float32)), low, high)
        planes.append(_pooled(values, steps))
    return np.stack(planes)


def _pooled(values: Plane, steps: _Steps) -> Plane:
    """Means over cells; the last cells of rows and columns repeat the border where pixels are missing."""
    rows, columns = values.shape
    values = np.pad(values, ((0, -rows % steps.j), (0, -columns % steps.i)), mode="edge")
    total = np.zeros((values.shape[0] // steps.j, values.shape[1] // steps.i), dtype=np.float32)
    for j in range(steps.j):
        for i in range(steps.i):
            total += values[j :: steps.j, i :: steps.i]
    total /= steps.j * steps.i
    return total


def _ct_tissue() -> _Tissue:
    return _Tissue(threshold=CT_TISSUE_HU, lung=CT_LUNG_HU, sheets=True)


def _mr_tissue(coarse: Plane) -> _Tissue:
    """Otsu's threshold between the logarithms of air and tissue: a coil's shading is a shift there, not a factor.

    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    bright = float(np.percentile(coarse, 99))
    if bright <= 0:
        return _Tissue(0.0, None, sheets=False)
    values = np.log(np.clip(coarse, bright * MR_FLOOR, bright))
    counts, edges = np.histogram(values, bins=128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between = np.nan_to_num(between)
    best = np.flatnonzero(between >= between.max())  # many, where no value lies between the two
    threshold = float(np.exp(edges[1 + best].mean()))
    air, body = coarse[coarse <= threshold], coarse[coarse > threshold]
    median = float(np.median(body)) if body.size else bright
    if not air.size or float(np.median(air)) > MR_BRIGHTEST_AIR * median:
        threshold = -np.inf
    return _Tissue(min(threshold, MR_BRIGHTEST_EDGE * median), None, sheets=False)


def _coarse_body(coarse: Plane, tissue: _Tissue, steps: _Steps) -> Mask:
    """(k', j', i') the body without what is thin: the largest component in 3-D, and limbs that lie apart from it."""
    dense = coarse > tissue.threshold
    mask = dense
    if tissue.sheets:
        mask = _opened(dense, THIN_CELLS)
        for _ in range(WALL_CELLS):
            mask = _dilated(mask, 1) & dense
    filled = np.stack(
        [_filled(plane, values, tissue, steps.cell_mm) for plane, values in zip(mask, coarse, strict=True)]
    )
    opened = _opened(filled, NECK_CELLS)
    parts, count = ndimage.label(opened)
    if not count:
        return np.zeros(coarse.shape, dtype=bool)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    thick = np.unique(parts[_eroded(opened, max(NECK_CELLS, round(PART_RADIUS_MM / steps.cell_mm)))])
    kept = np.zeros(count + 1, dtype=bool)
    kept[thick] = True
    kept &= sizes >= PART_FRACTION * sizes.max()
    kept[np.argmax(sizes)] = True
    kept[0] = False
    return np.asarray(kept[parts])


def _skin(volume: Volume, k: int, near: Mask, core: Mask, how: tuple[_Tissue, _Steps]) -> Mask:
    """One slice at full resolution.

    Args:
        volume: The slice's.
        k: Which slice.
        near: Coarse cells where skin may be.
        core: Coarse cells that every kept part touches.
        how: Threshold and cells.
    """
    tissue, steps = how
    shape = volume.voxels.shape[1:]
    values = volume.voxels[k]
    pixel_mm = min(volume.geometry.row_spacing, volume.geometry.column_spacing)
    smooth = values if tissue.sheets or pixel_mm > FINE_MM else _smoothed(values)
    radius = max(1, round(SHEET_MM / pixel_mm))
    mask = (smooth > tissue.threshold) & _spread(near, steps, shape)
    if tissue.sheets:
        mask = _opened(mask, radius)
    mask = _filled(mask, values, tissue, pixel_mm)
    if not tissue.sheets:
        mask = _opened(mask, radius)
    parts, count = ndimage.label(mask)
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(parts[_spread(core, steps, shape)])] = True
    kept[0] = False
    return np.asarray(kept[parts])


def _smoothed(values: Voxels) -> Voxels:
    return np.asarray(ndimage.uniform_filter(np.nan_to_num(values.astype(np.float32)), 3), dtype=np.float32)


def _spread(cells: Mask, steps: _Steps, shape: tuple[int, ...]) -> Mask:
    """(rows, columns) of a slice from its coarse cells."""
    return cells.repeat(steps.j, axis=0).repeat(steps.i, axis=1)[: shape[0], : shape[1]]


def _filled(mask: Mask, values: Voxels, tissue: _Tissue, pixel_mm: float) -> Mask:
    """A slice with its holes filled; holes that the field of view cuts open are holes too."""
    closed = _with_closed_border(mask, values, tissue, pixel_mm)
    regions, count = ndimage.label(~closed)
    outside = np.zeros(count + 1, dtype=bool)
    for line in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        outside[line] = True
    outside[0] = False
    return ~np.asarray(outside[regions])


def _with_closed_border(mask: Mask, values: Voxels, tissue: _Tissue, pixel_mm: float) -> Mask:
    """The slice's outermost pixels are followed once around; between tissue, short gaps and lung are closed."""
    ring = _border(mask.shape)
    on_ring = mask[ring]
    hits = np.flatnonzero(on_ring)
    if not hits.size or hits.size == on_ring.size:
        return mask
    on_ring, border_values = np.roll(on_ring, -hits[0]), np.roll(values[ring], -hits[0])
    ends = [*np.flatnonzero(on_ring), on_ring.size]
    for start, end in pairwise(ends):
        if end - start < 2:
            continue
        gap = slice(start + 1, end)
        is_short = (end - start - 1) * pixel_mm <= BORDER_GAP_MM
        if is_short or _is_lung(border_values[gap], tissue):
            on_ring[gap] = True
    closed = mask.copy()
    closed[ring] = np.roll(on_ring, hits[0])
    return closed


def _is_lung(values: Voxels, tissue: _Tissue) -> bool:
    return tissue.lung is not None and float(np.percentile(values.astype(np.float32), 10)) > tissue.lung


def _border(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row and column of the outermost pixels, once around."""
    rows, columns = shape
    j, i = np.arange(rows), np.arange(columns)
    row = np.concatenate([0 * i, j[1:-1], 0 * i + rows - 1, j[-2:0:-1]])
    column = np.concatenate([i, 0 * j[1:-1] + columns - 1, i[::-1], 0 * j[1:-1]])
    return row, column


def _opened(mask: Mask, radius: int) -> Mask:
    """Without what holds no octagon of this radius."""
    return _dilated(_eroded(mask, radius), radius)


def _eroded(mask: Mask, radius: int) -> Mask:
    """In-plane erosion by an octagon (crosses and squares in turn); what lies beyond the image is as its border."""
    return ~_dilated(~mask, radius)


def _dilated(mask: Mask, radius: int) -> Mask:
    """In-plane dilation by an octagon of a radius in pixels; the last two axes are the plane."""
    for step in range(radius):
        rows, grown = mask.copy(), mask.copy()
        rows[..., 1:, :] |= mask[..., :-1, :]
        rows[..., :-1, :] |= mask[..., 1:, :]
        across = rows if step % 2 else mask
        grown[..., 1:] |= across[..., :-1]
        grown[..., :-1] |= across[..., 1:]
        mask = grown | rows
    return mask
