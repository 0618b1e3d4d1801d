"""Contours between pixel centres: where the probability of a structure crosses one half.

Marching squares (contourpy) over the pixel centres of one slice. Every pixel centre lies on its own side of the
contour, so filling by pixel centres gives the label back, pixel for pixel; between the centres the contour runs where
the probability, linear from centre to centre, is one half. Where a structure reaches the border of the image, its
contour runs along the border.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import contourpy
import numpy as np
import numpy.typing as npt

from dicom_node.imaging.certainty import CERTAIN, HALF
from dicom_node.results.islands import Island, Points

Bytes = npt.NDArray[np.uint8]

LARGEST_MOVE = 0.1
"""In pixels: how far a point between two crossings may leave the chord. Arcs of a radius above 2.5 pixels need less."""
FEWEST_POINTS = 8
"""Loops with fewer crossings stay polygons."""


def smooth_islands(probability: Bytes) -> list[Island]:
    """The borders of a structure on a slice, traced through its probability.

    Args:
        probability: (rows, columns) 255ths, above HALF where the structure is. Rows or columns without the structure
            at its sides are taken as they are; a structure that reaches a side ends there, half a pixel out.

    Returns:
        Islands on the lattice of pixel corners, in contourpy's order; empty where nothing is above HALF.
    """
    values = np.pad(probability.astype(np.float64), 1, mode="edge")
    ring = np.ones(values.shape, dtype=bool)
    ring[1:-1, 1:-1] = False
    values[ring] = np.minimum(values[ring], CERTAIN - values[ring])
    centres = np.arange(max(values.shape), dtype=np.float64) - 0.5  # of the padded array, as corner coordinates
    generator = contourpy.contour_generator(
        centres[: values.shape[1]],
        centres[: values.shape[0]],
        values,
        name="serial",
        fill_type=contourpy.FillType.OuterOffset,
    )
    polygons = _polygons(generator.filled(HALF, 2 * CERTAIN))
    cells, counts = np.unique(
        np.concatenate([_cells(loop) for loops in polygons for loop in loops] or [np.empty((0, 2))]),
        axis=0, return_counts=True,
    )  # fmt: skip
    shared = {(float(row), float(column)) for row, column in cells[counts > 1]}
    islands = []
    for loops in polygons:
        rounded = [np.clip(_rounded(loop, shared), 0, probability.shape) for loop in loops]
        islands.append(Island(rounded[0], tuple(rounded[1:])))
    return islands


def _polygons(filled: tuple[Any, ...]) -> list[list[Points]]:
    """The loops (row, column) of each polygon that contourpy found: its outer border, then its holes."""
    polygons = []
    for points, starts in zip(filled[0], filled[1], strict=True):
        swapped = np.asarray(points, dtype=np.float64)[:, ::-1]
        polygons.append([swapped[first : last - 1] for first, last in pairwise(starts)])
    return polygons


def _cells(loop: Points) -> Points:
    """(n, 2) the square between four pixel centres that each edge of a loop runs through, by its first corner."""
    return np.asarray(np.floor((loop + np.roll(loop, -1, axis=0)) / 2 - 0.5) + 0.5)


def _rounded(loop: Points, shared: set[tuple[float, float]]) -> Points:
    """A loop with a point more on every edge, moved off the chord by what the curvature there asks for.

    Chords cut off every arc: 0.4 % of the area of a circle of ten pixels. The curvature is taken from the directions
    over two edges on either side; the move is at most LARGEST_MOVE. The points on the borders of cells stay, and no
    edge leaves its cell, so borders cannot cross; where two borders share a cell, nothing is moved.

    Args:
        loop: (n, 2).
        shared: Cells that more than one edge runs through.
    """
    if len(loop) < FEWEST_POINTS:
        return loop
    ahead = np.roll(loop, -1, axis=0)
    chord = ahead - loop
    before, after = loop - np.roll(loop, 2, axis=0), np.roll(loop, -3, axis=0) - ahead
    arc = (_length(before) + _length(after)) / 2 + _length(chord)
    turn = np.arctan2(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0], (before * after).sum(axis=1))
    move = np.clip(turn / np.maximum(arc, 1e-6) * _length(chord) ** 2 / 8, -LARGEST_MOVE, LARGEST_MOVE)
    cells = _cells(loop)
    if shared:
        move[[tuple(cell) in shared for cell in cells.tolist()]] = 0.0
    normal = np.stack([chord[:, 1], -chord[:, 0]], axis=1) / np.maximum(_length(chord), 1e-9)[:, None]
    refined = np.empty((2 * len(loop), 2))
    refined[0::2] = loop
    refined[1::2] = np.clip(loop + chord / 2 + normal * move[:, None], cells, cells + 1)
    return refined


def _length(vectors: Points) -> Points:
    return np.asarray(np.hypot(vectors[:, 0], vectors[:, 1]))
