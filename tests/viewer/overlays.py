"""Where structures lie on a screenshot, and where the DICOM says they have to.

Screen coordinates are (x, y) in pixels from the upper left corner of the screenshot; a pixel's middle is at one half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_node.imaging.geometry import Geometry

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Color = tuple[int, int, int]

_LEAST_OPACITY = 0.15
_HUE_TOLERANCE = 0.25
"""Tangent of the angle by which a pixel's hue may differ: 14 degrees."""
_SEARCH_PIXELS = 12


@dataclass(frozen=True)
class Canvas:
    """The part of a screenshot that shows the image, in screen pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the screenshot."""
        rows = slice(round(self.top), round(self.top + self.height))
        return rows, slice(round(self.left), round(self.left + self.width))


@dataclass(frozen=True)
class Projection:
    """From a slice's pixels to the screen: the whole slice, as large as fits, its middle on the canvas's middle."""

    geometry: Geometry
    canvas: Canvas

    @property
    def pixels_per_mm(self) -> float:
        """Scale of the screen; one for both directions, whatever the pixel spacings are."""
        width, height = (
            self.geometry.columns * self.geometry.column_spacing,
            self.geometry.rows * self.geometry.row_spacing,
        )
        return min(self.canvas.width / width, self.canvas.height / height)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a slice's pixel on the screen."""
        return self.geometry.column_spacing * self.pixels_per_mm, self.geometry.row_spacing * self.pixels_per_mm

    @property
    def corner(self) -> tuple[float, float]:
        """Screen coordinates of the upper left corner of the slice's first pixel."""
        (width, height), canvas = self.pixel_size, self.canvas
        return (
            canvas.left + (canvas.width - width * self.geometry.columns) / 2,
            canvas.top + (canvas.height - height * self.geometry.rows) / 2,
        )

    def centroid(self, mask: Mask) -> tuple[float, float]:
        """Screen coordinates of the middle of a mask of the slice."""
        rows, columns = np.nonzero(mask)
        (left, top), (width, height) = self.corner, self.pixel_size
        return float(left + (columns.mean() + 0.5) * width), float(top + (rows.mean() + 0.5) * height)

    def rendered(self, values: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """The slice as it has to look on the canvas, up to its greys."""
        (left, top), (width, height) = self.corner, self.pixel_size
        rows, columns = self.canvas.window
        y = (np.arange(rows.start, rows.stop) + 0.5 - top) / height - 0.5
        x = (np.arange(columns.start, columns.stop) + 0.5 - left) / width - 0.5
        points = np.meshgrid(y, x, indexing="ij")
        found: npt.NDArray[np.float64] = ndimage.map_coordinates(values.astype(np.float64), points, order=1)
        return found


@dataclass(frozen=True)
class Placement:
    """One structure on the screen.

    Attributes:
        structure: Its name.
        expected: Where its middle has to be.
        found: Where it is; NaN where its colour is nowhere.
        growth: Screen pixels by which it is too large: the difference of the radii of two discs of those areas.
    """

    structure: str
    expected: tuple[float, float]
    found: tuple[float, float]
    growth: float

    @property
    def offset(self) -> tuple[float, float]:
        """Screen pixels to the right and down by which the structure is misplaced."""
        return self.found[0] - self.expected[0], self.found[1] - self.expected[1]

    @property
    def distance(self) -> float:
        """Screen pixels by which the structure is misplaced; infinite where it is not shown."""
        distance = float(np.hypot(*self.offset))
        return distance if np.isfinite(distance) else float("inf")


def place(
    picture: Picture, projection: Projection, masks: Mapping[str, Mask], colors: Mapping[str, Color]
) -> list[Placement]:
    """Find every structure of a slice on a screenshot.

    Regions are taken without their holes, on both sides, so that a fill and an outline are judged alike.

    Args:
        picture: (height, width, 3) the screenshot.
        projection: Of the shown slice.
        masks: (rows, columns) where each structure truly is on the slice.
        colors: sRGB colour of each structure.
    """
    placements = []
    for structure, mask in masks.items():
        solid = ndimage.binary_fill_holes(mask)
        region = solid_region(picture[projection.canvas.window], colors[structure])
        rows, columns = np.nonzero(region)
        found = (float("nan"), float("nan"))
        if len(rows):
            upper, left = (part.start for part in projection.canvas.window)
            found = float(left + columns.mean() + 0.5), float(upper + rows.mean() + 0.5)
        width, height = projection.pixel_size
        placements.append(
            Placement(
                structure, projection.centroid(solid), found, _radius(len(rows)) - _radius(solid.sum() * width * height)
            )
        )
    return placements


def _radius(area: float) -> float:
    return float(np.sqrt(area / np.pi))


def solid_region(picture: Picture, color: Color) -> Mask:
    """Where a picture has a colour, with what it encloses.

    A structure's colour lies over greys with some opacity, so the differences between its channels are those of the
    colour times the opacity, whatever is beneath.
    """
    differences = np.diff(picture.astype(np.float64), axis=2)
    of_color = np.diff(np.asarray(color, dtype=np.float64))
    opacity = differences @ of_color / (of_color @ of_color)
    residue = np.linalg.norm(differences - opacity[..., None] * of_color, axis=2)
    coloured = (opacity > _LEAST_OPACITY) & (residue < _HUE_TOLERANCE * opacity * np.linalg.norm(of_color))
    closed = ndimage.binary_closing(coloured, iterations=2)  # the corners of a thin line
    found: Mask = ndimage.binary_fill_holes(closed)
    return found


def picture_offset(picture: Picture, projection: Projection, values: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Screen pixels to the right and down by which the image itself lies off, from the edges in both.

    Args:
        picture: (height, width, 3) the screenshot.
        projection: Of the shown slice.
        values: (rows, columns) of the shown slice.
    """
    seen = picture[projection.canvas.window].astype(np.float64)
    grey = (seen.max(axis=2) - seen.min(axis=2)) < 8
    shown = _edges(seen.mean(axis=2)) * grey
    expected = _edges(projection.rendered(values))
    correlation = np.fft.irfft2(np.fft.rfft2(shown) * np.conj(np.fft.rfft2(expected)), s=shown.shape)
    near = np.roll(correlation, (_SEARCH_PIXELS, _SEARCH_PIXELS), axis=(0, 1))[: 2 * _SEARCH_PIXELS + 1]
    row, column = np.unravel_index(np.argmax(near[:, : 2 * _SEARCH_PIXELS + 1]), (2 * _SEARCH_PIXELS + 1,) * 2)
    return int(column) - _SEARCH_PIXELS, int(row) - _SEARCH_PIXELS


def _edges(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Strength of edges, the strongest tenth alike, so that bone does not outweigh all else."""
    edges = ndimage.gaussian_gradient_magnitude(image, 1.5)
    found: npt.NDArray[np.float64] = np.minimum(edges, np.quantile(edges, 0.9))
    return found
