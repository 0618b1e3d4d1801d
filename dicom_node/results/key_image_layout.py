"""Where everything is on a key image, in pixels: planes in rows and columns, margins for letters, a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.key_image_planes import Plane, choose_planes

PANEL: Final = 400
"""Pixels of a plane's longer side."""
MARGIN: Final = 44
"""Around each plane: orientation letters, the plane's name and the scale bar are written beside the image."""
FOOT: Final = 52
"""Below each plane: its lower letter and the scale bar."""
LEGEND: Final = 300
"""Width of the legend."""
LINE: Final = 20
"""Height of a line of the legend."""
SWATCH: Final = 12
_HEADING_LINES: Final = 3


@dataclass(frozen=True)
class PlacedPlane:
    """A plane and the canvas pixel of its upper left corner."""

    plane: Plane
    row: int
    column: int


@dataclass(frozen=True)
class LegendEntry:
    """A structure's line in the legend.

    Attributes:
        label: Which structure.
        name: What the destination calls it.
        color: sRGB.
        row: Canvas row of the swatch's upper edge.
        column: Canvas column of its left edge.
    """

    label: int
    name: str
    color: tuple[int, int, int]
    row: int
    column: int


@dataclass(frozen=True)
class Layout:
    """A key image before it is drawn.

    Attributes:
        rows: Of the canvas.
        columns: Of the canvas.
        planes: What is shown.
        legend: Structures in the order of their labels, as many as there is room for.
        unlisted: Structures that there was no room for.
        colors: By label, of every structure that is drawn.
    """

    rows: int
    columns: int
    planes: tuple[PlacedPlane, ...]
    legend: tuple[LegendEntry, ...]
    unlisted: int
    colors: Mapping[int, tuple[int, int, int]]


def lay_out(labels: LabelVolume, profile: Profile) -> Layout:
    """The layout for the structures that a profile wants; at least one of them has voxels.

    Args:
        labels: What is shown.
        profile: Which structures are wanted, and what they are called.
    """
    wanted = {label: structure for label, structure in labels.present() if profile.wants(structure)}
    views = choose_planes(labels, wanted, PANEL)
    lines = max(len(planes) for planes in views)
    rows, left = lines * _cell_height(), len(views) * (PANEL + 2 * MARGIN)
    room = (rows - MARGIN) // LINE - _HEADING_LINES - 1
    legend = tuple(
        LegendEntry(
            label,
            profile.segment_label(structure),
            structure.color,
            MARGIN + (number + _HEADING_LINES) * LINE,
            left,
        )
        for number, (label, structure) in enumerate(list(wanted.items())[:room])
    )
    return Layout(
        rows=rows,
        columns=left + LEGEND,
        planes=tuple(_placed(views)),
        legend=legend,
        unlisted=len(wanted) - len(legend),
        colors={label: structure.color for label, structure in wanted.items()},
    )


def _placed(views: Sequence[Sequence[Plane]]) -> list[PlacedPlane]:
    """One view a column; each plane in the middle of its cell."""
    placed = []
    for column, planes in enumerate(views):
        for line, plane in enumerate(planes):
            row = line * _cell_height() + MARGIN + (PANEL - plane.rows) // 2
            placed.append(
                PlacedPlane(plane, row, column * (PANEL + 2 * MARGIN) + MARGIN + (PANEL - plane.columns) // 2)
            )
    return placed


def _cell_height() -> int:
    return PANEL + MARGIN + FOOT
