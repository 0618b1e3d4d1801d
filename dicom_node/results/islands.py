"""Islands: connected parts of a structure on one slice, their holes, and contours that go around both.

Coordinates are (row, column) on the lattice of pixel corners: pixel (j, i) covers [j, j + 1] x [i, i + 1] and its
centre is (j + 0.5, i + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

Points = npt.NDArray[np.float64]
"""(n, 2) points (row, column) of one closed line, the first not repeated."""

SMALL_PIXELS = 400.0
"""Islands below this area are never simplified: they have few points, and each pixel of them counts."""

_SHARES = (1.0, 0.7, 0.5, 0.3)
"""Parts of a tolerance that are tried: GEOS may exceed what it is given where a border begins and ends."""


@dataclass(frozen=True)
class Island:
    """One connected part of a mask on a slice, by its borders.

    Attributes:
        outer: (n, 2) points (row, column) on the lattice of pixel corners, the first not repeated; clockwise as the
            image is seen.
        holes: As ``outer``, the other way round.
    """

    outer: Points
    holes: tuple[Points, ...] = ()


def join_holes(island: Island) -> Points:
    """One closed contour around an island and its holes.

    A keyhole leads from the leftmost point of each hole straight to the left, to the next border: two runs over the
    same line, one there and one back, which no filling rule (even-odd, non-zero) sees. Holes are taken from left to
    right, so what a keyhole runs into is the outer border or a hole joined already.
    """
    contour = island.outer
    anchored = [np.roll(hole, -int(np.lexsort((hole[:, 0], hole[:, 1]))[0]), axis=0) for hole in island.holes]
    for hole in sorted(anchored, key=lambda hole: (float(hole[0, 1]), float(hole[0, 0]))):
        contour = _insert(contour, hole)
    return contour


def simplified(island: Island, spacing: tuple[float, float], tolerance_mm: float) -> Island:
    """An island with fewer points, none of the old ones further than a tolerance from the new borders.

    Holes stay inside and borders do not cross (Douglas-Peucker that keeps the topology, by GEOS).

    Args:
        island: The island.
        spacing: mm between rows and between columns.
        tolerance_mm: In the plane; 0 leaves the island as it is.
    """
    area = shapely.Polygon(island.outer, island.holes)
    if not tolerance_mm or area.area < SMALL_PIXELS:
        return island
    scale = np.array(spacing)
    in_mm = shapely.Polygon(island.outer * scale, [hole * scale for hole in island.holes])
    for share in _SHARES:
        fewer = shapely.simplify(in_mm, share * tolerance_mm, preserve_topology=True)
        found = _islands_of(fewer)
        if len(found) == 1 and shapely.hausdorff_distance(fewer.boundary, in_mm.boundary) <= tolerance_mm:
            return Island(found[0].outer / scale, tuple(hole / scale for hole in found[0].holes))
    return island


def divided(island: Island) -> list[Island]:
    """An island cut in two along a line between pixel rows, or columns where it is wider than high; nothing is lost."""
    lower, upper = island.outer.min(axis=0), island.outer.max(axis=0)
    axis = int(np.argmax(upper - lower))
    cut = np.floor((lower[axis] + upper[axis]) / 2)
    polygon = shapely.Polygon(island.outer, island.holes)
    halves = []
    for low, high in ((lower[axis] - 1, cut), (cut, upper[axis] + 1)):
        bounds = np.array([lower - 1, upper + 1])
        bounds[:, axis] = low, high
        halves += _islands_of(shapely.intersection(polygon, shapely.box(*bounds.ravel())))
    return halves


def _islands_of(shape: shapely.Geometry) -> list[Island]:
    """The polygons of a shape, outer borders clockwise as the image is seen; lines and points have no inside."""
    islands = []
    for part in shapely.get_parts(shape):
        if not isinstance(part, shapely.Polygon) or part.is_empty:
            continue
        # (row, column) is left-handed: what turns against the clock in (x, y) turns with it as the image is seen
        turned = shapely.geometry.polygon.orient(part, -1.0)
        islands.append(Island(_open(turned.exterior), tuple(_open(ring) for ring in turned.interiors)))
    return islands


def _open(ring: shapely.LinearRing) -> Points:
    return np.asarray(ring.coords, dtype=np.float64)[:-1]


def _insert(contour: Points, hole: Points) -> Points:
    """Open a contour where the line to the left of a hole's first point meets it, and lead it around the hole."""
    row, column = hole[0]
    start, end = contour, np.roll(contour, -1, axis=0)
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    rise = np.where(high > low, end[:, 0] - start[:, 0], 1.0)
    crossing = start[:, 1] + (row - start[:, 0]) / rise * (end[:, 1] - start[:, 1])
    reached = (low <= row) & (row <= high) & (high > low) & (crossing < column)
    index = int(np.argmax(np.where(reached, crossing, -np.inf)))
    bridge = np.array([[row, crossing[index]]])
    if np.array_equal(bridge[0], end[index]):
        index = (index + 1) % len(contour)
    before = contour[: index + 1]
    if not np.array_equal(before[-1:], bridge):
        before = np.concatenate([before, bridge])
    return np.concatenate([before, hole, hole[:1], bridge, contour[index + 1 :]])
