"""Where labels meet on the source's slices, and how near to a pixel's centre their border may run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_node.imaging.certainty import CERTAIN, HALF

Bytes = npt.NDArray[np.uint8]

CLEARANCE = 0.03
"""Of a pixel: a border keeps at least this far from the centres on either side of it.

ContourData is rounded to 0.001 mm; on a small pixel a border nearer to a centre could be carried past it, and who fills
the contour would give that pixel to the wrong side.
"""
_CROSSED = ((-1, 0), (1, 0), (0, -1), (0, 1))


def beside_border(labels: Bytes) -> npt.NDArray[np.bool_]:
    """(k, j, i) whether one of a voxel's eight neighbours on its slice has another label."""
    lowest, highest = labels, labels
    for axis in (1, 2):
        lowest, highest = _over_neighbours(np.minimum, lowest, axis), _over_neighbours(np.maximum, highest, axis)
    return np.asarray(lowest != highest)


def keep_off_centres(labels: Bytes, winner: Bytes, runner_up: Bytes, border: npt.NDArray[np.bool_]) -> None:
    """Raise winners, in place, until every border keeps CLEARANCE from the pixel centres.

    A border crosses the line from a voxel to one of its four neighbours where the linear course of the label's
    probability passes one half. How far off one half a voxel must be to keep it away therefore depends on the
    neighbour: 4.5 of 255ths beside one that is certain of another label, nothing beside one in as much doubt.

    Args:
        labels: (k, j, i) best labels.
        winner: (k, j, i) as in :class:`~dicom_node.imaging.certainty.Certainty`; changed.
        runner_up: (k, j, i) second best labels.
        border: (k, j, i) the voxels to look at; all beside a border.
    """
    k, j, i = np.nonzero(border)
    own = labels[border]
    lowest = np.full(len(own), CERTAIN, dtype=np.uint8)
    for down, right in _CROSSED:
        there = (k, np.clip(j + down, 0, labels.shape[1] - 1), np.clip(i + right, 0, labels.shape[2] - 1))
        doubt = np.where(runner_up[there] == own, CERTAIN - winner[there], 0).astype(np.uint8)
        np.minimum(lowest, doubt, out=lowest, where=labels[there] != own)
    winner[border] = np.maximum(winner[border], _LEAST_BESIDE[lowest])


def _over_neighbours(pick: np.ufunc, array: Bytes, axis: int) -> Bytes:
    """The least or greatest of each value and its two neighbours along an axis."""
    picked = array.copy()
    before, after = np.moveaxis(array, axis, 0)[:-1], np.moveaxis(array, axis, 0)[1:]
    along = np.moveaxis(picked, axis, 0)
    pick(along[1:], before, out=along[1:])
    pick(along[:-1], after, out=along[:-1])
    return picked


def _least_beside() -> Bytes:
    """(256,) the least winner of a voxel by the probability of its label at a neighbour that has another label."""
    opposite = np.maximum(HALF - np.arange(256), 0.5)
    return np.asarray(np.ceil(HALF + opposite * CLEARANCE / (1 - CLEARANCE)), dtype=np.uint8)


_LEAST_BESIDE = _least_beside()
