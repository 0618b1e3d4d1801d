"""Contours of a mask along the borders of its pixels.

A contour runs exactly on pixel borders, so that whatever fills it by pixel centres gets the mask back, pixel for
pixel: nothing is lost of shells thinner than two pixels, of single pixels and lines. (Marching squares between pixel
centres, the usual way, cuts half a pixel off every side.)

Coordinates here are (row, column) on the lattice of pixel corners: pixel (j, i) covers [j, j + 1] x [i, i + 1] and its
centre is (j + 0.5, i + 0.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_node.results.islands import Island, Points, join_holes

Mask = npt.NDArray[np.bool_]
Corners = npt.NDArray[np.int32]
"""(n, 2) corners (row, column) of one closed border, the first not repeated."""
MOST_PIXELS = 4_000_000
"""Of the images that are traced at once; labelling their islands takes four bytes a pixel."""
_FOUR_CONNECTED = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def pixel_edge_contours(mask: Mask) -> list[Points]:
    """The contours of a mask, one per island, holes joined to the outside by keyholes.

    Args:
        mask: (rows, columns).

    Returns:
        One contour per island, in the order of :func:`pixel_edge_islands`. Empty for an empty mask.
    """
    return [join_holes(island) for island in pixel_edge_islands(mask)]


def pixel_edge_islands(mask: Mask) -> list[Island]:
    """The borders of a mask, on pixel edges.

    Pixels that touch at a corner only are islands of their own, so a border never crosses itself. Corners on a straight
    line are dropped.

    Args:
        mask: (rows, columns).

    Returns:
        Islands by their first pixel in row order. Empty for an empty mask.
    """
    used_rows, used_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(used_rows):
        return []
    top, left = int(used_rows[0]), int(used_columns[0])
    padded = np.pad(mask[top : used_rows[-1] + 1, left : used_columns[-1] + 1], 1)
    loops = _loops(padded)
    corner = np.array([top, left])
    outer = [(loop.points + corner).astype(np.float64) for loop in loops if loop.is_outer]
    holes: list[list[Points]] = [[] for _ in outer]
    if len(outer) < len(loops):
        islands, _ = ndimage.label(padded, structure=_FOUR_CONNECTED)
        place = {islands[loop.pixel]: place for place, loop in enumerate(loop for loop in loops if loop.is_outer)}
        for loop in loops:
            if not loop.is_outer:
                holes[place[islands[loop.pixel]]].append((loop.points + corner).astype(np.float64))
    return [Island(border, tuple(inner)) for border, inner in zip(outer, holes, strict=True)]


def islands_of_slices(masks: Mask) -> Iterator[tuple[int, Island]]:
    """The islands of many slices, with the slice each lies on.

    Slices are laid one below the other, a row apart, so that a few large images are traced instead of many small ones.

    Args:
        masks: (k, rows, columns).
    """
    count, rows, columns = masks.shape
    at_once = max(1, MOST_PIXELS // ((rows + 1) * columns))
    for first in range(0, count, at_once):
        part = masks[first : first + at_once]
        tall = np.zeros((len(part), rows + 1, columns), dtype=bool)
        tall[:, :rows] = part
        for island in pixel_edge_islands(tall.reshape(-1, columns)):
            k = int(island.outer[0, 0]) // (rows + 1)
            offset = np.array([k * (rows + 1), 0.0])
            yield first + k, Island(island.outer - offset, tuple(hole - offset for hole in island.holes))


@dataclass(frozen=True)
class _Loop:
    """A closed border line; the island lies to the right of its direction.

    Attributes:
        points: (n, 2) corners.
        pixel: A pixel of the padded mask that belongs to the island.
        is_outer: Whether the island lies inside; a hole does otherwise.
    """

    points: Corners
    pixel: tuple[int, int]
    is_outer: bool


def _loops(padded: Mask) -> list[_Loop]:
    """Every closed border line, by its first corner in row order."""
    nodes, horizontal, vertical, pixels = _nodes(padded)
    begins = _begins_run(padded, nodes, nodes[horizontal]).tolist()
    across, along = horizontal.tolist(), vertical.tolist()
    # of a loop's first corner, the one pixel inside lies south-east; of a hole's, the one pixel outside does
    starts_outer = ((pixels - nodes) == 1).all(axis=1).tolist()
    left_over = bytearray(b"\1") * len(nodes)
    loops = []
    for start in range(len(nodes)):
        if not left_over[start]:
            continue
        node = start if begins[start] else across[start]
        loop: list[int] = []
        while left_over[node]:
            far = across[node]
            left_over[node] = left_over[far] = 0
            loop += (node, far)
            node = along[far]
        row, column = pixels[start]
        loops.append(_Loop(nodes[loop], (int(row), int(column)), starts_outer[start]))
    return loops


def _nodes(padded: Mask) -> tuple[Corners, npt.NDArray[np.intp], npt.NDArray[np.intp], Corners]:
    """The corners of all borders and how they are linked.

    Where two pixels touch at a corner only, the corner is two nodes, one for each pixel.

    Returns:
        (n, 2) corners in row order; for each the node at the other end of its horizontal and of its vertical run; and
        (n, 2) a pixel of the padded mask that is set and touches the node.
    """
    north_west, north_east = padded[:-1, :-1], padded[:-1, 1:]
    south_west, south_east = padded[1:, :-1], padded[1:, 1:]
    is_corner = (north_west ^ north_east ^ south_west ^ south_east) | (
        (north_west == south_east) & (north_east == south_west) & (north_west != north_east)
    )
    at = np.argwhere(is_corner).astype(np.int32)
    pixels = np.stack(
        [quarter[at[:, 0], at[:, 1]] for quarter in (north_west, north_east, south_west, south_east)], axis=1
    )
    touching = pixels.sum(axis=1) == 2
    repeated = np.repeat(np.arange(len(at)), np.where(touching, 2, 1))
    second = np.zeros(len(repeated), dtype=bool)
    second[1:] = repeated[1:] == repeated[:-1]
    at, pixels, touching = at[repeated], pixels[repeated], touching[repeated]
    quarter = np.argmax(pixels, axis=1)
    quarter[second] = 3 - np.argmax(pixels[second][:, ::-1], axis=1)
    # of two nodes on one corner, the one whose pixel is west owns the run to the west, and so on
    east, south = quarter % 2, quarter // 2
    horizontal = _partners(at[:, 0], at[:, 1], np.where(touching, east, 0))
    vertical = _partners(at[:, 1], at[:, 0], np.where(touching, south, 0))
    return at, horizontal, vertical, (at + np.stack([south, east], axis=1)).astype(np.int32)


def _partners(
    line: npt.NDArray[np.int32], place: npt.NDArray[np.int32], half: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Ends of straight runs: on each line, corners pair up in order."""
    order = np.lexsort((half, place, line))
    partners = np.empty(len(line), dtype=np.intp)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def _begins_run(padded: Mask, nodes: Corners, ends: Corners) -> Mask:
    """Whether a node is where its horizontal run begins, if the island is to lie on the right."""
    heads_east = ends[:, 1] > nodes[:, 1]
    first = np.minimum(nodes[:, 1], ends[:, 1])
    island_below = padded[nodes[:, 0] + 1, first + 1]
    return np.asarray(heads_east == island_below)
