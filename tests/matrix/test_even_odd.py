"""The even-odd reader itself: a judge that is wrong proves nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.matrix.even_odd import enclosed_area, fill

SIZE = (9, 11)
coordinates = st.tuples(st.floats(-2, 11), st.floats(-2, 13)).map(
    lambda point: tuple(round(value, 3) + 0.0004 for value in point)  # never on a pixel's centre
)


def test_edges_of_pixels_enclose_exactly_those_pixels() -> None:
    expected = np.zeros(SIZE, dtype=bool)
    expected[2:5, 3:10] = True
    corners = np.array([[1.5, 2.5], [1.5, 9.5], [4.5, 9.5], [4.5, 2.5]])
    np.testing.assert_array_equal(fill(corners, SIZE), expected)
    assert enclosed_area(corners) == 21.0


def test_a_keyhole_leaves_its_hole_out() -> None:
    expected = np.zeros(SIZE, dtype=bool)
    expected[1:8, 1:8] = True
    expected[3:6, 3:6] = False
    outer = [[0.5, 0.5], [0.5, 7.5], [7.5, 7.5], [7.5, 0.5], [0.5, 0.5]]
    inner = [[2.5, 2.5], [5.5, 2.5], [5.5, 5.5], [2.5, 5.5], [2.5, 2.5]]
    corners = np.array(outer + inner)
    np.testing.assert_array_equal(fill(corners, SIZE), expected)
    assert enclosed_area(corners) == pytest.approx(40.0)


def test_what_reaches_beyond_the_image_is_cut_off() -> None:
    corners = np.array([[-3.0, -3.0], [-3.0, 30.0], [30.0, 30.0], [30.0, -3.0]])
    assert fill(corners, SIZE).all()


@given(st.lists(coordinates, min_size=3, max_size=9))
def test_any_polygon_is_filled_as_the_plain_rule_says(points: list[tuple[float, float]]) -> None:
    corners = np.array(points)
    filled = fill(corners, SIZE)
    for j, i in np.ndindex(SIZE):
        if _distance_to_border(corners, j, i) > 1e-6:  # on the border itself rounding decides, and neither is wrong
            assert filled[j, i] == _odd_crossings(corners, j, i), (j, i)


def _distance_to_border(corners: np.ndarray, j: int, i: int) -> float:
    start, along = corners, np.roll(corners, -1, axis=0) - corners
    to_point = np.array([j, i]) - start
    share = (to_point * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-12)
    return float(np.linalg.norm(to_point - np.clip(share, 0, 1)[:, None] * along, axis=1).min())


def _odd_crossings(corners: np.ndarray, j: int, i: int) -> bool:
    """Whether a ray from a pixel's centre to the left meets an odd number of edges, edge by edge."""
    odd = False
    for (start_j, start_i), (end_j, end_i) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (start_j >= j) != (end_j >= j):
            odd ^= bool(start_i + (j - start_j) / (end_j - start_j) * (end_i - start_i) <= i)
    return odd
