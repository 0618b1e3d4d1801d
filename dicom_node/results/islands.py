"""Islands: connected parts of a structure on one slice, their holes, and contours that go around both.

Coordinates are (row, column) on the lattice of pixel corners: pixel (j, i) covers [j, j + 1] x [i, i + 1] and its
centre is (j + 0.5, i + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from dicom_node.results.filling import fill_even_odd

Points = npt.NDArray[np.float64]
"""(n, 2) points (row, column) of one closed line, the first not repeated."""

SMALL_PIXELS = 400.0
"""Islands below this area are never simplified: they have few points, and each pixel of them counts."""

MOST_CHANGED = 0.004
"""Of an island's pixels, those that simplification may give to the other side."""
_SHARES = (1.0, 0.6, 0.3, 0.15, 0.07)
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
    same line, one there and one back, which no filling rule (even-odd, non-zero) sees. That border has a point further
    left, so the holes from right to left can each be put where they end.
    """
    if not island.holes:
        return island.outer
    anchored = [np.roll(hole, -int(np.lexsort((hole[:, 0], hole[:, 1]))[0]), axis=0) for hole in island.holes]
    loops = [island.outer, *sorted(anchored, key=lambda hole: (float(hole[0, 1]), float(hole[0, 0])))]
    edges = _Edges(loops)
    keyholes: list[list[_Keyhole]] = [[] for _ in loops]
    for number in range(len(loops) - 1, 0, -1):
        around = _with_keyholes(loops[number], keyholes[number])
        target, keyhole = edges.keyhole_to(around)
        keyholes[target].append(keyhole)
    return _with_keyholes(loops[0], keyholes[0])


@dataclass(frozen=True)
class _Keyhole:
    """A way from a border around a hole and back.

    Attributes:
        edge: Number of the border's edge (from point ``edge`` to the next) that it leaves.
        along: How far along that edge, 0 (at its first point) to 1.
        way: (n, 2) points: where it leaves (unless at the edge's first point), around the hole, where it comes back.
    """

    edge: int
    along: float
    way: Points


class _Edges:
    """Every edge of some loops, by the rows it passes."""

    def __init__(self, loops: list[Points]) -> None:
        self._start = np.concatenate(loops)
        self._end = np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
        self._first = np.cumsum([0, *map(len, loops)])
        self._low = np.minimum(self._start[:, 0], self._end[:, 0])
        self._high = np.maximum(self._start[:, 0], self._end[:, 0])
        sloping = np.flatnonzero(self._high > self._low)
        band = np.floor(self._low[sloping]).astype(np.intp)
        passed = np.floor(self._high[sloping]).astype(np.intp) - band + 1
        bands = np.repeat(band - np.cumsum(passed) + passed, passed) + np.arange(passed.sum())
        order = np.argsort(bands, kind="stable")
        self._bands, self._edges = bands[order], np.repeat(sloping, passed)[order]

    def keyhole_to(self, hole: Points) -> tuple[int, _Keyhole]:
        """The loop that lies next to the left of a hole's first point, and the keyhole from there."""
        row, column = hole[0]
        first, last = np.searchsorted(self._bands, [np.floor(row), np.floor(row) + 1])
        edges = self._edges[first:last]
        edges = edges[(self._low[edges] <= row) & (row <= self._high[edges])]
        along = (row - self._start[edges, 0]) / (self._end[edges, 0] - self._start[edges, 0])
        crossing = self._start[edges, 1] + along * (self._end[edges, 1] - self._start[edges, 1])
        nearest = int(np.argmax(np.where(crossing < column, crossing, -np.inf)))
        edge, bridge = int(edges[nearest]), np.array([[row, crossing[nearest]]])
        loop = int(np.searchsorted(self._first, edge, side="right")) - 1
        place, size = edge - int(self._first[loop]), int(self._first[loop + 1] - self._first[loop])
        if np.array_equal(bridge[0], self._end[edge]):
            place, at_point = (place + 1) % size, True
        else:
            at_point = bool(np.array_equal(bridge[0], self._start[edge]))
        way = np.concatenate([*([] if at_point else [bridge]), hole, hole[:1], bridge])
        return loop, _Keyhole(place, 0.0 if at_point else float(along[nearest]), way)


def _with_keyholes(loop: Points, keyholes: list[_Keyhole]) -> Points:
    """A loop with its keyholes put in."""
    pieces, done = [], 0
    for keyhole in sorted(keyholes, key=lambda item: (item.edge, item.along)):
        pieces += [loop[done : keyhole.edge + 1], keyhole.way]
        done = keyhole.edge + 1
    return np.concatenate([*pieces, loop[done:]])


def simplified(island: Island, spacing: tuple[float, float], tolerance_mm: float) -> Island:
    """An island with fewer points, none of the old ones further than a tolerance from the new borders.

    Holes stay inside and borders do not cross (Douglas-Peucker that keeps the topology, by GEOS). Where that would give
    more than MOST_CHANGED of the island's pixels to the other side (thin shells), less is simplified, or nothing.

    Args:
        island: The island.
        spacing: mm between rows and between columns.
        tolerance_mm: In the plane; 0 leaves the island as it is.
    """
    area = shapely.Polygon(island.outer, island.holes)
    if not tolerance_mm or area.area < SMALL_PIXELS or not area.is_valid:
        return island
    scale = np.array(spacing)
    in_mm = shapely.Polygon(island.outer * scale, [hole * scale for hole in island.holes])
    for share in _SHARES:
        fewer = shapely.simplify(in_mm, share * tolerance_mm, preserve_topology=True)
        found = [_scaled(part, 1 / scale) for part in _islands_of(fewer)]
        if len(found) != 1 or shapely.hausdorff_distance(fewer.boundary, in_mm.boundary) > tolerance_mm:
            continue
        if _changed_pixels(island, found[0]) <= MOST_CHANGED * area.area:
            return found[0]
    return island


def divided(island: Island) -> list[Island]:
    """An island cut in two along a line between pixel rows, or columns where it is wider than high; nothing is lost."""
    lower, upper = island.outer.min(axis=0), island.outer.max(axis=0)
    axis = int(np.argmax(upper - lower))
    cut = np.floor((lower[axis] + upper[axis]) / 2)
    # a border may touch itself at a corner, which GEOS calls invalid
    polygon = shapely.make_valid(shapely.Polygon(island.outer, island.holes))
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


def _scaled(island: Island, scale: Points) -> Island:
    return Island(island.outer * scale, tuple(hole * scale for hole in island.holes))


def _changed_pixels(island: Island, other: Island) -> int:
    """Pixels whose centre lies in one of two islands only."""
    loops = [island.outer, *island.holes, other.outer, *other.holes]
    lower = np.floor(np.min([loop.min(axis=0) for loop in loops], axis=0))
    rows, columns = (int(n) for n in np.max([loop.max(axis=0) for loop in loops], axis=0) - lower + 1)
    _, _, changed = fill_even_odd([loop - lower - 0.5 for loop in loops], rows, columns)
    return int(np.count_nonzero(changed))
