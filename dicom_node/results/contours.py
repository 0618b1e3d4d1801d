"""Contours of a mask along the borders of its pixels, and masks of contours.

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

Mask = npt.NDArray[np.bool_]
Corners = npt.NDArray[np.int32]
"""(n, 2) corners (row, column) of one closed contour, the first not repeated."""
_FOUR_CONNECTED = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def pixel_edge_contours(mask: Mask) -> list[Corners]:
    """The contours of a mask, one per island.

    Pixels that touch at a corner only are islands of their own, so a contour never crosses itself. Holes are joined to
    the outside by keyholes: two runs over the same line of pixel corners, one there and one back, which no filling
    rule (even-odd, non-zero) sees. Corners on a straight line are dropped, but for the end of a keyhole.

    Args:
        mask: (rows, columns).

    Returns:
        One contour per island, by its first pixel in row order; clockwise as the image is seen. Empty for an empty
        mask.
    """
    used_rows, used_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(used_rows):
        return []
    top, left = int(used_rows[0]), int(used_columns[0])
    padded = np.pad(mask[top : used_rows[-1] + 1, left : used_columns[-1] + 1], 1)
    islands, count = ndimage.label(padded, structure=_FOUR_CONNECTED)
    outer: list[Corners | None] = [None] * (count + 1)
    holes: list[list[Corners]] = [[] for _ in range(count + 1)]
    for loop, island in _loops(padded, islands):
        if _signed_area(loop) > 0:
            outer[island] = loop
        else:
            holes[island].append(loop)
    offset = np.array([top, left], dtype=np.int32)
    contours = []
    for contour, inner in zip(outer[1:], holes[1:], strict=True):
        assert contour is not None
        contours.append(_join_holes(contour, inner, padded) + offset)
    return contours


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


def _join_holes(contour: Corners, holes: list[Corners], padded: Mask) -> Corners:
    """Cut a keyhole from the leftmost corner of each hole straight to the left, to the next border.

    Holes are taken from left to right: what a keyhole runs into is the outer border or a hole joined already.
    """
    anchored = [np.roll(hole, -int(np.lexsort((hole[:, 0], hole[:, 1]))[0]), axis=0) for hole in holes]
    for hole in sorted(anchored, key=lambda hole: (int(hole[0, 1]), int(hole[0, 0]))):
        row, column = int(hole[0, 0]), int(hole[0, 1])
        both_inside = padded[row, : column + 1] & padded[row + 1, : column + 1]
        contour = _insert(contour, hole, (row, int(np.flatnonzero(~both_inside)[-1])))
    return contour


def _insert(contour: Corners, hole: Corners, target: tuple[int, int]) -> Corners:
    """Open a contour at a point of its border and lead it around a hole that starts at its anchor."""
    row, column = target
    following = np.roll(contour, -1, axis=0)
    at_corner = (contour[:, 0] == row) & (contour[:, 1] == column)
    low, high = np.minimum(contour[:, 0], following[:, 0]), np.maximum(contour[:, 0], following[:, 0])
    on_run = (contour[:, 1] == column) & (following[:, 1] == column) & (low < row) & (row < high)
    after_corner = bool(at_corner.any())
    index = int(np.argmax(at_corner if after_corner else on_run))
    bridge = np.array([[row, column]], dtype=np.int32)
    before = contour[: index + 1] if after_corner else np.concatenate([contour[: index + 1], bridge])
    return np.concatenate([before, hole, hole[:1], bridge, contour[index + 1 :]])
