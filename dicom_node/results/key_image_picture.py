"""The picture of a key image: grey planes, contours of the structures, letters, scale bars and the legend."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from dicom_node.imaging.geometry import FloatArray
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.results.identity import RESEARCH_NOTE
from dicom_node.results.key_image_layout import LINE, MARGIN, SWATCH, Layout, PlacedPlane
from dicom_node.results.key_image_planes import Plane

Picture = npt.NDArray[np.uint8]
"""(rows, columns, 3) sRGB."""
Grey = npt.NDArray[np.uint8]
CONTOUR_PIXELS: Final = 2
"""Width of a contour; it lies inside the structure, its outer edge on the border."""
CT_WINDOW: Final = (-160.0, 240.0)
"""Hounsfield units of black and white: the soft tissue window, centre 40, width 400."""
_MR_PERCENTILES: Final = (1.0, 99.5)
_SAMPLED: Final = 1_000_000
_TEXT, _FAINT = (235, 235, 235), (170, 170, 170)
_BAR_MM: Final = (100, 50, 20, 10, 5, 2, 1)
_BAR_SHARE: Final = 0.45
"""Most of a plane's width that its scale bar takes."""


def draw_key_image(volume: Volume, labels: LabelVolume, layout: Layout) -> Picture:
    """Draw a layout.

    Args:
        volume: The source.
        labels: On its slices.
        layout: What is where.
    """
    canvas = np.zeros((layout.rows, layout.columns, 3), dtype=np.uint8)
    window = grey_window(volume)
    for placed in layout.planes:
        kji = labels.geometry.patient_to_index(placed.plane.patient_mm())
        panel = np.repeat(_grey(volume, kji, window).reshape(placed.plane.rows, -1, 1), 3, axis=2)
        for label, border in borders(labels, kji, placed.plane, layout.colors).items():
            panel[border] = layout.colors[label]
        canvas[placed.row : placed.row + placed.plane.rows, placed.column : placed.column + placed.plane.columns] = (
            panel
        )
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    for placed in layout.planes:
        _write_orientation(pen, placed)
        _draw_scale(pen, placed)
    _write_legend(pen, layout)
    return np.asarray(image)


def grey_window(volume: Volume) -> tuple[float, float]:
    """Values that are shown black and white; white is the lower one where the source is shown inverted."""
    if volume.modality == "CT":
        return CT_WINDOW
    sample = volume.voxels.ravel()[:: max(1, volume.voxels.size // _SAMPLED)]
    black, white = (float(value) for value in np.percentile(sample, _MR_PERCENTILES))
    white = max(white, black + 1.0)
    return (white, black) if volume.header.get("PhotometricInterpretation") == "MONOCHROME1" else (black, white)


def shown(values: FloatArray, window: tuple[float, float]) -> Grey:
    """Values as they are shown, 0 black to 255 white."""
    black, white = window
    return np.asarray(np.clip((values - black) / (white - black) * 255.0 + 0.5, 0, 255).astype(np.uint8))


def borders(
    labels: LabelVolume, kji: FloatArray, plane: Plane, wanted: Collection[int]
) -> dict[int, npt.NDArray[np.bool_]]:
    """(rows, columns) of each structure's contour on a plane; structures that the plane does not meet are left out.

    Args:
        labels: What is drawn.
        kji: (n, 3) fractional indices of the plane's pixel centres, row by row.
        plane: Which plane.
        wanted: Labels that are drawn.
    """
    found = {}
    for layer in labels.layers:
        section = _nearest(layer, kji).reshape(plane.rows, plane.columns)
        for label in sorted(set(np.unique(section).tolist()) & set(wanted)):
            mask = section == label
            found[label] = mask & ~ndimage.binary_erosion(mask, iterations=CONTOUR_PIXELS)
    return found


def _grey(volume: Volume, kji: FloatArray, window: tuple[float, float]) -> Grey:
    """The volume at indices, linearly interpolated; black outside of it."""
    values = ndimage.map_coordinates(volume.voxels, kji.T, output=np.float64, order=1, mode="nearest")
    return np.where(_inside(kji, volume.geometry.shape), shown(values, window), 0).astype(np.uint8)


def _nearest(layer: LabelVolume, kji: FloatArray) -> npt.NDArray[np.unsignedinteger]:
    index = np.clip(np.floor(kji + 0.5).astype(np.intp), 0, np.array(layer.labels.shape) - 1)
    values = layer.labels[tuple(index.T)]
    return np.asarray(np.where(_inside(kji, layer.labels.shape), values, 0))


def _inside(kji: FloatArray, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.asarray(((kji >= -0.5) & (kji < np.array(shape) - 0.5)).all(axis=1))


def _write_orientation(pen: ImageDraw.ImageDraw, placed: PlacedPlane) -> None:
    """Letters in the margins, where they hide nothing, and the plane's name."""
    plane, row, column = placed.plane, placed.row, placed.column
    left, right, top, bottom = plane.letters
    middle_row, middle = row + plane.rows // 2, column + plane.columns // 2
    font = ImageFont.load_default(16)
    pen.text((column - 4, middle_row), left, _TEXT, font, anchor="rm")
    pen.text((column + plane.columns + 4, middle_row), right, _TEXT, font, anchor="lm")
    pen.text((middle, row - 4), top, _TEXT, font, anchor="ms")
    pen.text((middle, row + plane.rows + 4), bottom, _TEXT, font, anchor="mt")
    pen.text((column, row - 5), plane.name, _FAINT, ImageFont.load_default(13), anchor="ls")


def _draw_scale(pen: ImageDraw.ImageDraw, placed: PlacedPlane) -> None:
    plane = placed.plane
    width_mm = plane.columns * plane.spacing
    length_mm = next((length for length in _BAR_MM if length <= _BAR_SHARE * width_mm), _BAR_MM[-1])
    row, column, length = placed.row + plane.rows + 26, placed.column, round(length_mm / plane.spacing)
    pen.line([(column, row), (column + length, row)], _TEXT)
    for end in (column, column + length):
        pen.line([(end, row - 4), (end, row + 4)], _TEXT)
    pen.text((column + length + 8, row), f"{length_mm} mm", _TEXT, ImageFont.load_default(13), anchor="lm")


def _write_legend(pen: ImageDraw.ImageDraw, layout: Layout) -> None:
    """Names and colours; what the picture is; never a word about the patient."""
    left = layout.legend[0].column
    small, font = ImageFont.load_default(13), ImageFont.load_default(15)
    head, _, tail = RESEARCH_NOTE.rpartition(", ")
    pen.text((left, MARGIN), f"{head},", _TEXT, font)
    pen.text((left, MARGIN + LINE), tail, _TEXT, font)
    for entry in layout.legend:
        box = (entry.column, entry.row, entry.column + SWATCH, entry.row + SWATCH)
        pen.rectangle(box, fill=entry.color)
        pen.text((entry.column + SWATCH + 8, entry.row - 3), _cut(entry.name, small, layout), _TEXT, small)
    if layout.unlisted:
        row = layout.legend[-1].row + LINE
        pen.text((left, row), f"and {layout.unlisted} more", _FAINT, small)


def _cut(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, layout: Layout) -> str:
    """A name as far as there is room."""
    room = layout.columns - layout.legend[0].column - SWATCH - 12
    while font.getlength(name) > room:
        name = name[:-1]
    return name
