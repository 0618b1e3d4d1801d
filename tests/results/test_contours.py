from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from dicom_node.results.contours import pixel_edge_contours
from dicom_node.results.filling import fill_even_odd
from dicom_node.results.islands import Points

Mask = npt.NDArray[np.bool_]

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))
sparse_masks = arrays.arrays(
    bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16), fill=st.just(False)
)
full_masks = arrays.arrays(
    bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16), fill=st.just(True)
)


def picture(text: str) -> Mask:
    return np.array([[letter == "#" for letter in line] for line in text.split()])


def filled(contours: list[Points], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    if contours:
        rows, columns, window = fill_even_odd([corners - 0.5 for corners in contours], shape[0], shape[1])
        mask[rows, columns] = window
    return mask


def winding_numbers(contours: list[Points], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Turns around every pixel centre, edge by edge: slow, and nothing in common with the filling under test."""
    turns = np.zeros(shape, dtype=np.int64)
    for corners in contours:
        points = corners.astype(int)
        for (row, column), (next_row, _) in zip(points, np.roll(points, -1, axis=0), strict=True):
            for j in range(min(row, next_row), max(row, next_row)):  # a vertical edge passes the centres of these rows
                turns[j, max(column, 0) :] += 1 if next_row < row else -1
    return turns


@given(st.one_of(masks, sparse_masks, full_masks))
@settings(max_examples=300, deadline=None)
def test_filling_the_contours_gives_the_mask_back(mask: Mask) -> None:
    assert np.array_equal(filled(pixel_edge_contours(mask), mask.shape), mask)


@given(st.one_of(masks, full_masks))
@settings(max_examples=150, deadline=None)
def test_the_non_zero_rule_fills_the_same(mask: Mask) -> None:
    turns = winding_numbers(pixel_edge_contours(mask), mask.shape)
    assert np.array_equal(turns, mask.astype(int))


@given(masks)
@settings(max_examples=150, deadline=None)
def test_every_island_is_one_contour_of_its_own(mask: Mask) -> None:
    islands, count = ndimage.label(mask)
    contours = pixel_edge_contours(mask)
    assert len(contours) == count
    for number, corners in enumerate(contours, start=1):
        assert np.array_equal(filled([corners], mask.shape), islands == number)


@given(st.one_of(masks, full_masks))
@settings(max_examples=150, deadline=None)
def test_contours_are_closed_chains_of_axis_parallel_edges(mask: Mask) -> None:
    for corners in pixel_edge_contours(mask):
        steps = np.roll(corners, -1, axis=0) - corners
        assert len(corners) >= 4
        assert np.all(np.count_nonzero(steps, axis=1) == 1)


@given(masks)
@settings(max_examples=150, deadline=None)
def test_contours_without_holes_turn_at_every_point(mask: Mask) -> None:
    solid = ndimage.binary_fill_holes(mask, structure=np.ones((3, 3)))
    for corners in pixel_edge_contours(solid):
        horizontal = (np.roll(corners, -1, axis=0) - corners)[:, 0] == 0
        assert np.all(horizontal != np.roll(horizontal, 1))


def test_a_single_pixel_is_its_four_corners() -> None:
    (corners,) = pixel_edge_contours(picture("... .#. ..."))
    assert {tuple(corner) for corner in corners.tolist()} == {(1, 1), (1, 2), (2, 2), (2, 1)}
    assert len(corners) == 4


def test_a_line_of_twelve_pixels_has_four_corners() -> None:
    (corners,) = pixel_edge_contours(np.ones((1, 12), dtype=bool))
    assert len(corners) == 4


def test_a_mask_at_the_border_reaches_the_edge_of_the_image() -> None:
    (corners,) = pixel_edge_contours(np.ones((3, 5), dtype=bool))
    assert corners.min(axis=0).tolist() == [0, 0]
    assert corners.max(axis=0).tolist() == [3, 5]


def test_an_empty_mask_has_no_contour() -> None:
    assert pixel_edge_contours(np.zeros((4, 4), dtype=bool)) == []


def test_pixels_that_touch_at_a_corner_are_two_contours() -> None:
    contours = pixel_edge_contours(picture("#. .#"))
    assert [len(corners) for corners in contours] == [4, 4]


def test_a_hole_that_touches_the_outside_at_a_corner_needs_no_keyhole() -> None:
    (corners,) = pixel_edge_contours(picture("### #.# .## ###".replace(".##", "##.")))
    assert len(corners) == len({tuple(corner) for corner in corners.tolist()}) + 1


def test_a_keyhole_runs_the_same_line_there_and_back() -> None:
    (corners,) = pixel_edge_contours(picture("##### ##### ##.## ##### #####"))
    edges = [
        (tuple(first), tuple(second))
        for first, second in zip(corners.tolist(), np.roll(corners, -1, axis=0).tolist(), strict=True)
    ]
    doubled = [edge for edge in edges if edge[::-1] in edges]
    assert doubled == [((2, 0), (2, 2)), ((2, 2), (2, 0))]


@pytest.mark.parametrize(
    "text",
    [
        "####### #.....# #.###.# #.#.#.# #.###.# #.....# #######",  # nested rings
        "##### #.#.# ##### #.#.# #####",  # four holes side by side: keyholes meet other holes
        "###### #.##.# ##..## ###### ######",  # holes that touch at corners
        "####### #.#.#.# #######",
    ],
)
def test_holes_of_every_kind_come_back(text: str) -> None:
    mask = picture(text)
    assert np.array_equal(filled(pixel_edge_contours(mask), mask.shape), mask)


def test_a_hole_gives_no_contour_of_its_own() -> None:
    assert len(pixel_edge_contours(picture("#### #..# ####"))) == 1


def test_contours_are_the_same_each_time() -> None:
    mask = np.random.default_rng(3).random((40, 40)) < 0.6
    first, second = pixel_edge_contours(mask), pixel_edge_contours(mask.copy())
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(("centre", "expected"), [(2.0, False), (2.49, True), (4.51, False)])
def test_filling_decides_by_the_pixel_centre(centre: float, expected: bool) -> None:
    square = np.array([[centre - 0.5, 0.6], [centre + 0.4, 0.6], [centre + 0.4, 3.4], [centre - 0.5, 3.4]])
    rows, columns, window = fill_even_odd([square], 8, 8)
    mask = np.zeros((8, 8), dtype=bool)
    mask[rows, columns] = window
    assert bool(mask[2, 2]) == (expected or centre == 2.0)


def test_filling_clips_at_every_side_of_the_image() -> None:
    square = np.array([[-5.0, -5.0], [-5.0, 50.0], [50.0, 50.0], [50.0, -5.0]])
    rows, columns, window = fill_even_odd([square], 4, 6)
    assert (rows, columns) == (slice(0, 4), slice(0, 6))
    assert window.all()
