"""Solids in patient space, as functions of coordinates in mm relative to the phantom's middle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Grid = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Point = tuple[float, float, float]


class Solid(Protocol):
    """Where something is."""

    @property
    def bounds(self) -> tuple[Point, Point]:
        """Lower and upper corner of a box around it, in mm."""

    def contains(self, x: Grid, y: Grid, z: Grid) -> Mask:
        """Which of these points lie in it."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, optionally turned about z (degrees, from x towards y) and then clipped to z limits."""

    centre: Point
    axes: Point
    turn: float = 0.0
    below: float = np.inf
    above: float = -np.inf

    @property
    def bounds(self) -> tuple[Point, Point]:
        widest = max(self.axes[:2]) if self.turn else 0.0
        reach = np.maximum(self.axes, [widest, widest, 0.0])
        lower, upper = np.subtract(self.centre, reach), np.add(self.centre, reach)
        lower[2], upper[2] = max(lower[2], self.above), min(upper[2], self.below)
        return tuple(lower), tuple(upper)

    def contains(self, x: Grid, y: Grid, z: Grid) -> Mask:
        cosine, sine = np.cos(np.radians(self.turn)), np.sin(np.radians(self.turn))
        u, v, w = x - self.centre[0], y - self.centre[1], z - self.centre[2]
        along, across = u * cosine + v * sine, v * cosine - u * sine
        a, b, c = self.axes
        return ((along / a) ** 2 + (across / b) ** 2 + (w / c) ** 2 <= 1) & (z <= self.below) & (z >= self.above)


@dataclass(frozen=True)
class Box:
    """An axis-aligned box; the upper faces are not part of it."""

    lower: Point
    upper: Point

    @property
    def bounds(self) -> tuple[Point, Point]:
        return self.lower, self.upper

    def contains(self, x: Grid, y: Grid, z: Grid) -> Mask:
        inside = (x >= self.lower[0]) & (x < self.upper[0]) & (y >= self.lower[1]) & (y < self.upper[1])
        return inside & (z >= self.lower[2]) & (z < self.upper[2])


@dataclass(frozen=True)
class Tube:
    """A round tube along a polyline, its radius interpolated from point to point."""

    points: tuple[Point, ...]
    radii: tuple[float, ...]

    @property
    def bounds(self) -> tuple[Point, Point]:
        reach = max(self.radii)
        return tuple(np.min(self.points, axis=0) - reach), tuple(np.max(self.points, axis=0) + reach)

    def contains(self, x: Grid, y: Grid, z: Grid) -> Mask:
        inside = np.zeros(np.broadcast(x, y, z).shape, dtype=bool)
        steps = zip(self.points[:-1], self.points[1:], self.radii[:-1], self.radii[1:], strict=True)
        for start, end, first, last in steps:
            axis = np.subtract(end, start)
            u, v, w = x - start[0], y - start[1], z - start[2]
            along = np.clip((u * axis[0] + v * axis[1] + w * axis[2]) / (axis @ axis), 0, 1)
            distance = (u - along * axis[0]) ** 2 + (v - along * axis[1]) ** 2 + (w - along * axis[2]) ** 2
            inside |= distance <= (first + along * (last - first)) ** 2
        return inside


@dataclass(frozen=True)
class Rule:
    """A solid given by a formula, with the box it lies in."""

    formula: Callable[[Grid, Grid, Grid], Mask]
    bounds: tuple[Point, Point] = ((-np.inf, -np.inf, -np.inf), (np.inf, np.inf, np.inf))

    def contains(self, x: Grid, y: Grid, z: Grid) -> Mask:
        return self.formula(x, y, z)


@dataclass(frozen=True)
class Part:
    """One thing to paint: a solid, its tissue, its label (0: part of the background), and what it must lie in."""

    solid: Solid
    tissue: int
    label: int = 0
    only_over: tuple[int, ...] = ()
    """Tissues it may replace; anything where empty."""


def paint(parts: Sequence[Part], x: Grid, y: Grid, z: Grid) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Labels and tissues at these points; later parts cover earlier ones."""
    labels = np.zeros(x.shape, dtype=np.uint8)
    tissues = np.zeros(x.shape, dtype=np.uint8)
    lower = [grid.min() for grid in (x, y, z)]
    upper = [grid.max() for grid in (x, y, z)]
    for part in parts:
        least, most = part.solid.bounds
        if any(low > high for low, high in zip((*lower, *least), (*most, *upper), strict=True)):
            continue
        mask = part.solid.contains(x, y, z)
        if part.only_over:
            mask &= np.isin(tissues, part.only_over)
        labels[mask] = part.label
        tissues[mask] = part.tissue
    return labels, tissues
