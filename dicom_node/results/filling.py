"""Masks of polygons by the even-odd rule at pixel centres: how a reader fills contours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dicom_node.imaging.geometry import FloatArray

Mask = npt.NDArray[np.bool_]


def fill_even_odd(polygons: Sequence[FloatArray], rows: int, columns: int) -> tuple[slice, slice, Mask]:
    """The pixels whose centre lies inside an odd number of windings of closed polygons.

    For every row of centres the places where edges cross it are found; each crossing toggles all pixels to its right.

    Args:
        polygons: Each (n, 2) of fractional (row, column) indices, where (j, i) is the centre of a pixel; closed from
            the last to the first point. At least one.
        rows: Rows of the image.
        columns: Columns of the image.

    Returns:
        The rows and columns of a window outside of which no pixel is filled, and the mask of that window.
    """
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    low, high = np.ceil(starts.min(axis=0)), np.ceil(starts.max(axis=0))
    top, bottom = (int(np.clip(value, 0, rows)) for value in (low[0], high[0]))
    left, right = (int(np.clip(value, 0, columns)) for value in (low[1], high[1]))
    downwards = (starts[:, 0] <= ends[:, 0])[:, None]
    upper, lower = np.where(downwards, starts, ends), np.where(downwards, ends, starts)
    # an edge crosses the rows j with upper <= j < lower: shared corners count once, horizontal edges never
    first = np.clip(np.ceil(upper[:, 0]), top, bottom).astype(np.intp)
    last = np.clip(np.ceil(lower[:, 0]), top, bottom).astype(np.intp)
    counts = last - first
    edge = np.repeat(np.arange(len(starts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (lower[edge, 1] - upper[edge, 1]) / (lower[edge, 0] - upper[edge, 0])
    crossing = upper[edge, 1] + (row - upper[edge, 0]) * slope
    column = np.clip(np.ceil(crossing), left, right).astype(np.intp)
    height, width = bottom - top, right - left
    toggles = np.bincount((row - top) * (width + 1) + column - left, minlength=height * (width + 1))
    inside = np.cumsum(toggles.reshape(height, width + 1)[:, :width], axis=1) % 2 == 1
    return slice(top, bottom), slice(left, right), np.asarray(inside)
