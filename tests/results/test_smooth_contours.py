"""Contours through a probability: exact at pixel centres, and close to the truth between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from dicom_node.imaging.certainty import HALF
from dicom_node.results.contours import pixel_edge_islands
from dicom_node.results.filling import fill_even_odd
from dicom_node.results.islands import Island, join_holes
from dicom_node.results.smooth_contours import smooth_islands

RADIUS_MM, SLICE_MM = 10.0, 3.0
GRID = np.mgrid[0:40, 0:40].astype(np.float64)  # 1 mm pixels


def as_bytes(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """255ths, no nearer to one half than a network's certainty is stored."""
    scaled = np.rint(255 * probability)
    return np.where(probability >= 0.5, np.maximum(scaled, 129), np.minimum(scaled, 126)).astype(np.uint8)


def ball(centre: npt.NDArray[np.float64], height: float, softness: float) -> npt.NDArray[np.uint8]:
    """The probability of a ball on a plane at a height over its centre: a sigmoid of the distance to its surface."""
    distance = np.sqrt((GRID[0] - centre[0]) ** 2 + (GRID[1] - centre[1]) ** 2 + height**2)
    return as_bytes(1 / (1 + np.exp((distance - RADIUS_MM) / softness)))


def area(island: Island) -> float:
    row, column = join_holes(island).T
    return float(abs(np.sum(column * np.roll(row, -1) - np.roll(column, -1) * row)) / 2)


def filled(islands: list[Island], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    if islands:
        rows, columns, window = fill_even_odd([join_holes(island) - 0.5 for island in islands], *shape)
        mask[rows, columns] = window
    return mask


@st.composite
def fields(draw: st.DrawFn) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = generator.normal(size=tuple(generator.integers(1, 30, 2)))
    smooth = ndimage.gaussian_filter(noise, draw(st.sampled_from([0.1, 0.7, 2.0, 5.0])))
    steepness = draw(st.sampled_from([0.5, 3.0, 60.0]))
    return as_bytes(special.expit(steepness * smooth / max(float(np.abs(smooth).max()), 1e-9)))


@given(fields())
@settings(max_examples=300, deadline=None)
def test_filling_by_pixel_centres_gives_the_label_back(probability: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(filled(smooth_islands(probability), probability.shape), probability > HALF)


def test_nothing_above_one_half_has_no_contour() -> None:
    assert smooth_islands(np.full((5, 6), 126, dtype=np.uint8)) == []


def test_a_structure_that_fills_the_image_ends_at_its_border() -> None:
    (island,) = smooth_islands(np.full((5, 6), 255, dtype=np.uint8))
    assert area(island) == pytest.approx(30, abs=0.5)  # the corners are cut
    assert (island.outer.min(), island.outer[:, 0].max(), island.outer[:, 1].max()) == (0.0, 5.0, 6.0)


def test_a_hole_is_a_hole() -> None:
    probability = np.full((9, 9), 250, dtype=np.uint8)
    probability[4, 4] = 3
    (island,) = smooth_islands(probability)
    assert len(island.holes) == 1


@pytest.mark.parametrize("softness", [0.5, 1.0, 2.0])
def test_a_ball_of_ten_millimetres_keeps_its_volume_and_surface(softness: float) -> None:
    generator = np.random.default_rng(7)
    volumes, distances, edge_distances = [], [], []
    for _ in range(20):
        centre, phase = generator.uniform(19, 21, 2), generator.uniform(0, SLICE_MM)
        heights = np.arange(-5, 6) * SLICE_MM + phase
        planes = [(height, smooth_islands(ball(centre, height, softness))) for height in heights]
        sections = sum(np.pi * max(0.0, RADIUS_MM**2 - height**2) for height in heights)
        volumes.append(sum(area(island) for _, islands in planes for island in islands) / sections - 1)
        distances += [to_surface(island, height, centre) for height, islands in planes for island in islands]
        edges = [(height, pixel_edge_islands(ball(centre, height, softness) > HALF)) for height in heights]
        edge_distances += [to_surface(island, height, centre) for height, islands in edges for island in islands]
    assert np.abs(volumes).max() < 0.005
    assert np.concatenate(distances).max() < 0.2
    assert np.concatenate(edge_distances).mean() > 0.3  # along pixel edges: about half a pixel


def to_surface(island: Island, height: float, centre: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance in mm of every point of a contour to the surface of the ball."""
    points = island.outer - 0.5 - centre
    return np.abs(np.sqrt((points**2).sum(axis=1) + height**2) - RADIUS_MM)


def test_a_straight_border_stays_straight() -> None:
    probability = as_bytes(1 / (1 + np.exp(-(GRID[1] - 17.3) / 1.5)))
    (island,) = smooth_islands(probability)
    border = island.outer[island.outer[:, 1] < 30]
    inner = border[(border[:, 0] > 3) & (border[:, 0] < 37)]
    assert np.ptp(inner[:, 1]) < 1e-6
    assert inner[0, 1] == pytest.approx(17.8, abs=0.02)


@given(fields())
@settings(max_examples=200, deadline=None)
def test_borders_never_cross(probability: npt.NDArray[np.uint8]) -> None:
    for island in smooth_islands(probability):
        assert shapely.Polygon(island.outer, island.holes).is_valid


def test_borders_on_both_sides_of_a_neck_of_one_pixel_do_not_cross() -> None:
    plateau = np.array([[129, 129, 66], [19, 129, 6], [25, 129, 61], [129, 129, 33]], dtype=np.uint8)
    (island,) = smooth_islands(plateau)
    assert shapely.Polygon(island.outer, island.holes).is_valid
