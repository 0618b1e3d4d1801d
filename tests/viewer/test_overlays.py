"""The check itself, on pictures drawn here: it finds what lies right, and refuses what does not."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.imaging.geometry import Geometry
from tests.viewer.overlays import Canvas, Picture, Placement, Projection, picture_offset, place

GREEN, VIOLET = (60, 180, 90), (150, 120, 196)
GEOMETRY = Geometry(
    origins=np.zeros((1, 3)),
    row_direction=np.array([1.0, 0.0, 0.0]),
    column_direction=np.array([0.0, 1.0, 0.0]),
    row_spacing=2.0,
    column_spacing=1.0,
    rows=30,
    columns=50,
)
CANVAS = Canvas(left=20, top=10, width=400, height=300)
PROJECTION = Projection(GEOMETRY, CANVAS)


def disc(row: float, column: float) -> np.ndarray:
    rows, columns = np.mgrid[: GEOMETRY.rows, : GEOMETRY.columns]
    return np.asarray(((rows - row) * 2) ** 2 + (columns - column) ** 2 < 100)


def drawn(mask: np.ndarray, color: tuple[int, int, int], *, outline: bool = False, opacity: float = 0.5) -> Picture:
    """A grey ramp with a mask in a colour: 5 screen pixels per mm, so pixels of 5 x 10."""
    picture = np.zeros((330, 440, 3)) + np.linspace(0, 250, 440)[:, None]
    large = np.zeros((330, 440), dtype=bool)
    large[10:310, 95:345] = np.kron(mask, np.ones((10, 5), dtype=bool))
    if outline:
        eroded = large.copy()
        for axis in (0, 1):
            eroded &= np.roll(large, 1, axis) & np.roll(large, -1, axis)
        large &= ~eroded
    picture[large] = opacity * np.array(color) + (1 - opacity) * picture[large]
    return np.rint(picture).astype(np.uint8)


def placement(picture: Picture, mask: np.ndarray, color: tuple[int, int, int] = GREEN) -> Placement:
    (found,) = place(picture, PROJECTION, {"Disc": mask}, {"Disc": color})
    return found


def test_the_slice_is_fitted_into_the_canvas_whatever_its_spacing() -> None:
    assert PROJECTION.pixels_per_mm == 5
    assert PROJECTION.pixel_size == (5, 10)
    assert PROJECTION.corner == (20 + (400 - 250) / 2, 10)


@pytest.mark.parametrize("outline", [False, True], ids=["fill", "outline"])
def test_a_structure_in_its_place_is_found_there(*, outline: bool) -> None:
    mask = disc(14, 22)
    found = placement(drawn(mask, GREEN, outline=outline), mask)
    assert found.distance < 0.1
    assert abs(found.growth) < 0.1


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_a_structure_one_pixel_off_is_found_off(rows: int, columns: int) -> None:
    found = placement(drawn(disc(14 + rows, 22 + columns), GREEN), disc(14, 22))
    assert np.allclose(found.offset, (5 * columns, 10 * rows), atol=0.1)


def test_a_structure_of_another_colour_is_not_taken_for_it() -> None:
    assert placement(drawn(disc(14, 22), VIOLET), disc(14, 22)).distance == float("inf")


def test_a_structure_half_shown_is_too_small() -> None:
    half = disc(14, 22)
    half[:14] = False
    assert placement(drawn(half, GREEN), disc(14, 22)).growth < -10


@pytest.mark.parametrize("shift", [(0, 0), (5, 0), (0, -4), (3, 7)])
def test_the_image_itself_is_found_where_it_lies(shift: tuple[int, int]) -> None:
    values = np.random.default_rng(3).normal(0, 100, (30, 50)) + 800 * disc(14, 22) - 500 * disc(8, 35)
    seen = np.zeros((330, 440))
    rows, columns = CANVAS.window
    seen[rows, columns] = np.clip(PROJECTION.rendered(values.astype(np.int16)) / 6 + 90, 0, 255)
    seen = np.roll(seen, shift[::-1], axis=(0, 1))
    assert picture_offset(np.repeat(seen[..., None], 3, axis=2).astype(np.uint8), PROJECTION, values) == shift
