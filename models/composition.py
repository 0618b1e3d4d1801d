"""Completing a label map that lacks structures with those of another map, warped into its body.

The HuBMAP torsos model the large organs but neither spine, vessels, muscles nor ribs; the SPL atlas has those. A
smooth warp that carries the shared organs and the body outline of one onto the other brings them over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

from models.label_maps import LabelMap, Mask
from models.tissues import structure_label

Points = npt.NDArray[np.float64]
"""(N, 3) positions (k, j, i)."""

_ANGLES = 16
_LEVEL_MM = 30.0


def warp_positions(
    centres: Mapping[str, Points], core: Mask, spacing: float, filler: LabelMap, shared: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Where each voxel of a map (core's grid) lies in `filler`, in filler's voxels: (3, k, j, i).

    `centres`: centre of each structure of `shared` in the map. An axis-wise scaling fitted to the shared centres,
    then a smoothed thin-plate spline through them and the body outlines of both.
    """
    names = [name for name in shared if name in centres and name in filler.centres]
    here = np.array([centres[name] for name in names]) * spacing
    there = np.array([filler.centres[name][0] for name in names]) * filler.spacing
    scale, shift = _axis_fit(here, there)
    outline_here, outline_there = _outlines(core, spacing, filler, scale, shift)
    sources = np.concatenate([here, outline_here])
    targets = np.concatenate([there, outline_there])
    spline = RBFInterpolator(sources, targets - (sources * scale + shift), kernel="thin_plate_spline", smoothing=30.0)
    return _evaluate(spline, core.shape, spacing, scale, shift) / filler.spacing


def _axis_fit(here: Points, there: Points) -> tuple[Points, Points]:
    """Scale and shift per axis that carry `here` to `there` in the least-squares sense; scales kept within 0.6..1.6."""
    centred = here - here.mean(0)
    scale = (centred * (there - there.mean(0))).sum(0) / (centred**2).sum(0)
    scale = np.clip(scale, 0.6, 1.6)
    return scale, there.mean(0) - scale * here.mean(0)


def _outlines(core: Mask, spacing: float, filler: LabelMap, scale: Points, shift: Points) -> tuple[Points, Points]:
    """Corresponding outline points in mm at levels that both maps have."""
    filler_core = filler.outside == 0
    here, there = [], []
    step = round(_LEVEL_MM / spacing)
    for k in range(step // 2, core.shape[0], step):
        other = round((k * spacing * scale[0] + shift[0]) / filler.spacing)
        if not 3 <= other < filler_core.shape[0] - 3 or not core[k].any() or not filler_core[other].any():
            continue
        for a, b in zip(_outline(core[k]), _outline(filler_core[other]), strict=True):
            here.append([k * spacing, a[0] * spacing, a[1] * spacing])
            there.append([other * filler.spacing, b[0] * filler.spacing, b[1] * filler.spacing])
    return np.array(here).reshape(-1, 3), np.array(there).reshape(-1, 3)


def _outline(section: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Farthest section voxels from its centre along equally spaced rays."""
    centre = np.argwhere(section).mean(0)
    reach = np.arange(max(section.shape))
    points = []
    for angle in np.arange(_ANGLES) * 2 * np.pi / _ANGLES:
        ray = centre[:, None] + np.outer([np.sin(angle), np.cos(angle)], reach)
        index = np.round(ray).astype(int)
        valid = ((index >= 0) & (index < np.array(section.shape)[:, None])).all(0)
        inside = section[index[0][valid], index[1][valid]]
        last = int(np.flatnonzero(inside)[-1]) if inside.any() else 0
        points.append((float(ray[0, last]), float(ray[1, last])))
    return points


def _evaluate(
    spline: RBFInterpolator, shape: Sequence[int], spacing: float, scale: Points, shift: Points
) -> npt.NDArray[np.float32]:
    """The warp in mm on the whole grid; the spline on a coarse grid, interpolated."""
    cell = round(16 / spacing)
    coarse = [np.arange(0, n + cell, cell) for n in shape]
    mesh = np.stack(np.meshgrid(*coarse, indexing="ij"), -1).reshape(-1, 3) * spacing
    residual = spline(mesh).reshape(*(len(axis) for axis in coarse), 3)
    fine = np.empty((3, *shape), np.float32)
    for axis in range(3):
        position = np.meshgrid(*(np.arange(n) / cell for n in shape), indexing="ij")
        fine[axis] = ndimage.map_coordinates(residual[..., axis], position, order=1, mode="nearest")
        line = np.arange(shape[axis]) * spacing * scale[axis] + shift[axis]
        fine[axis] += line.reshape([-1 if a == axis else 1 for a in range(3)])
    return fine


def take(
    filler: LabelMap, positions: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8], Mask]:
    """Filler's label and tissue at positions (3, k, j, i), nearest voxel, and where its levels end."""
    index = np.round(positions).astype(np.intp)
    covered = (index[0] >= 1) & (index[0] < filler.label.shape[0] - 1)
    for axis in range(3):
        np.clip(index[axis], 0, filler.label.shape[axis] - 1, out=index[axis])
    where = (index[0], index[1], index[2])
    return filler.label[where], filler.tissue[where], covered


def structure_labels(anatomy: str, names: Sequence[str]) -> list[int]:
    """Label ids of several structures."""
    return [structure_label(anatomy, name) for name in names]
