"""Islands: keyholes, simplification within a tolerance, and cutting in two."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.results.contours import pixel_edge_islands
from dicom_node.results.filling import fill_even_odd
from dicom_node.results.islands import MOST_CHANGED, SMALL_PIXELS, Island, divided, join_holes, simplified

SPACING = (0.8, 1.3)


def polygon(island: Island, spacing: tuple[float, float] = (1.0, 1.0)) -> shapely.Polygon:
    return shapely.Polygon(island.outer * spacing, [hole * spacing for hole in island.holes])


def star(points: int, seed: int, holes: int = 0) -> Island:
    """A wavy outline of some forty pixels across, with square holes."""
    generator = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = 20 + 3 * np.sin(5 * angle + generator.uniform(0, 6)) + generator.uniform(-0.2, 0.2, points)
    outer = np.stack([30 + radius * np.sin(angle), 30 + radius * np.cos(angle)], axis=1)
    squares = [
        np.array([[0, 0], [2, 0], [2, 2], [0, 2]]) + np.array([24 + 4 * number, 26 + 3 * number])
        for number in range(holes)
    ]
    return Island(outer, tuple(square.astype(np.float64) for square in squares))


@given(st.integers(0, 1000), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_keyhole_neither_adds_nor_takes_area(seed: int, holes: int) -> None:
    island = star(150, seed, holes)
    row, column = join_holes(island).T
    enclosed = np.sum(column * np.roll(row, -1) - np.roll(column, -1) * row) / 2
    assert abs(enclosed) == pytest.approx(polygon(island).area, rel=1e-9)


def test_a_keyhole_may_end_at_a_corner() -> None:
    outer = np.array([[0.0, 0.0], [0.0, 8.0], [8.0, 8.0], [8.0, 0.0], [4.0, 1.0]])
    hole = np.array([[4.0, 4.0], [5.0, 5.0], [6.0, 4.0], [5.0, 4.5]])
    contour = join_holes(Island(outer, (hole,)))
    assert len(contour) == len(outer) + len(hole) + 2
    assert (contour == [4.0, 1.0]).all(axis=1).sum() == 2


@pytest.mark.parametrize("tolerance", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_simplified_border_stays_within_the_tolerance(tolerance: float, seed: int) -> None:
    island = star(300, seed, holes=2)
    fewer = simplified(island, SPACING, tolerance)
    assert len(fewer.outer) < len(island.outer)
    before, after = polygon(island, SPACING), polygon(fewer, SPACING)
    assert after.is_valid
    assert after.boundary.hausdorff_distance(before.boundary) <= tolerance + 1e-9


def test_small_islands_are_not_simplified() -> None:
    (island,) = pixel_edge_islands(np.ones((int(SMALL_PIXELS) // 20 - 1, 20), dtype=bool))
    assert simplified(island, SPACING, 1.0) is island


def test_without_a_tolerance_nothing_is_simplified() -> None:
    island = star(300, 1)
    assert simplified(island, SPACING, 0.0) is island


@pytest.mark.parametrize("seed", range(5))
def test_a_divided_island_covers_the_same(seed: int) -> None:
    island = star(200, seed, holes=2)
    halves = divided(island)
    assert len(halves) >= 2
    assert sum(polygon(half).area for half in halves) == pytest.approx(polygon(island).area)
    assert shapely.union_all([polygon(half) for half in halves]).symmetric_difference(
        polygon(island)
    ).area == pytest.approx(0, abs=1e-9)


def test_a_divided_pixel_edge_island_keeps_to_pixel_edges() -> None:
    mask = np.add.outer((np.arange(30) - 15) ** 2, (np.arange(40) - 20) ** 2) < 150
    for half in divided(pixel_edge_islands(mask)[0]):
        assert np.array_equal(half.outer, np.rint(half.outer))


@pytest.mark.parametrize("thickness", [3, 5, 8])
@pytest.mark.parametrize("tolerance", [0.1, 0.5, 2.0])
def test_thin_shells_keep_their_pixels(thickness: int, tolerance: float) -> None:
    radius = np.hypot(*(np.mgrid[0:140, 0:140] - 69.7))
    shell = (radius > 60) & (radius < 60 + thickness)
    (island,) = pixel_edge_islands(shell)
    fewer = simplified(island, (0.3, 0.3), tolerance)
    rows, columns, window = fill_even_odd([loop - 0.5 for loop in (fewer.outer, *fewer.holes)], 140, 140)
    kept = np.zeros_like(shell)
    kept[rows, columns] = window
    assert np.count_nonzero(kept != shell) <= MOST_CHANGED * np.count_nonzero(shell)


def test_thousands_of_holes_are_joined_exactly() -> None:
    mask = np.random.default_rng(2).random((200, 200)) < 0.8
    loops = [join_holes(island) - 0.5 for island in pixel_edge_islands(mask)]
    rows, columns, window = fill_even_odd(loops, 200, 200)
    assert np.array_equal(window, mask[rows, columns])
