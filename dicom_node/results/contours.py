"""Contours of a mask along the borders of its pixels.

A contour runs exactly on pixel borders, so that whatever fills it by pixel centres gets the mask back, pixel for
pixel: nothing is lost of shells thinner than two pixels, of single pixels and lines. (Marching squares between pixel
centres, the usual way, cuts half a pixel off every side.)

Coordinates here are (row, column) on the lattice of pixel corners: pixel (j, i) covers [j, j + 1] x [i, i + 1] and its
centre is (j + 0.5, i + 0.5).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_node.results.islands import Island, Points, join_holes

Mask = npt.NDArray[np.bool_]
Corners = npt.NDArray[np.int32]
"""(n, 2) corners (row, column) of one closed border, the first not repeated."""
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
    islands, count = ndimage.label(padded, structure=_FOUR_CONNECTED)
    outer: list[Points | None] = [None] * (count + 1)
    holes: list[list[Points]] = [[] for _ in range(count + 1)]
    for loop, island in _loops(padded, islands):
        moved = loop.astype(np.float64) + np.array([top, left])
        if _signed_area(loop) > 0:
            outer[island] = moved
        else:
            holes[island].append(moved)
    found = []
    for border, inner in zip(outer[1:], holes[1:], strict=True):
        assert border is not None
        found.append(Island(border, tuple(inner)))
    return found


def _loops(padded: Mask, islands: npt.NDArray[np.int32]) -> list[tuple[Corners, int]]:
    """Every closed border line with the island it belongs to, which lies to the right of its direction."""
    nodes, horizontal, vertical, pixels = _nodes(padded)
    begins = _begins_run(padded, nodes, nodes[horizontal]).tolist()
    points, across, along = nodes.tolist(), horizontal.tolist(), vertical.tolist()
    left_over = [True] * len(points)
    loops = []
    for start in range(len(points)):
        node = start if begins[start] else across[start]
        loop = []
        while left_over[node]:
            far = across[node]
            left_over[node] = left_over[far] = False
            loop += [points[node], points[far]]
            node = along[far]
        if loop:
            loops.append((np.array(loop, dtype=np.int32), int(islands[tuple(pixels[start])])))
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


def _signed_area(loop: Corners) -> int:
    """Twice the area; positive where the inside is on the right of the direction (rows grow downwards)."""
    row, column = loop[:, 0].astype(np.int64), loop[:, 1].astype(np.int64)
    return int(np.sum(column * np.roll(row, -1) - np.roll(column, -1) * row))
