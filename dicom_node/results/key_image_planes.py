"""Which planes a key image shows: three orthogonal ways of cutting a volume, each where the structures are.

The ways are the volume's own directions, so that the acquired slices are shown as they are; each is named after the
patient's axis that it is nearest to, and laid out as radiologists expect it: the patient's right on the left, head up,
in sagittal planes anterior on the left. Places are in frame_mm, the coordinates along the volume's directions: they
grow to the patient's left, back and head, or nearly so, and have the patient coordinates' origin.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.imaging.label_volume import Box, LabelVolume

PLANES_PER_VIEW: Final = 3
"""Most planes of one way of cutting."""
_LETTER_COSINE: Final = 0.26
"""Least cosine (75 degrees) between a direction and a patient's axis for the axis to be named."""
_NEAR_COSINE: Final = 0.985
"""Least cosine (10 degrees) between a plane's normal and a patient's axis for the plane to bear its plain name."""
_LETTERS: Final = ("LR", "PA", "HF")
LEFT, BACK, HEAD = 0, 1, 2
"""Axes of frame_mm."""


@dataclass(frozen=True)
class View:
    """One way of cutting.

    Attributes:
        name: "axial", "coronal" or "sagittal".
        across: Axis of frame_mm along which the picture's columns grow.
        down: Axis along which its rows grow.
        down_sign: -1 where rows grow against that axis.
        through: Axis that the planes are chosen along.
    """

    name: str
    across: int
    down: int
    down_sign: int
    through: int


VIEWS: Final = (
    View("axial", LEFT, BACK, 1, HEAD),
    View("coronal", LEFT, HEAD, -1, BACK),
    View("sagittal", BACK, HEAD, -1, LEFT),
)


@dataclass(frozen=True)
class Plane:
    """A plane of a volume, and the pixels it is shown with; they are square.

    Attributes:
        view: The way of cutting.
        frame: (3, 3) unit vectors in patient coordinates, by axis of frame_mm.
        position: frame_mm along ``view.through``.
        left: frame_mm of the left edge, along ``view.across``.
        top: mm of the upper edge, along ``view.down`` times its sign.
        spacing: mm of a pixel.
        rows: Pixels down.
        columns: Pixels across.
    """

    view: View
    frame: FloatArray
    position: float
    left: float
    top: float
    spacing: float
    rows: int
    columns: int

    def patient_mm(self) -> FloatArray:
        """(rows * columns, 3) patient coordinates of the pixel centres, row by row."""
        down, across = np.mgrid[: self.rows, : self.columns].reshape(2, -1) + 0.5
        places = np.empty((len(down), 3))
        places[:, self.view.across] = self.left + across * self.spacing
        places[:, self.view.down] = self.view.down_sign * (self.top + down * self.spacing)
        places[:, self.view.through] = self.position
        return np.asarray(places @ self.frame)

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """Where the patient is from the picture: left, right, top, bottom (PS3.3 C.7.6.1.1.1, with H and F)."""
        across, down = self.frame[self.view.across], self.frame[self.view.down] * self.view.down_sign
        return direction_letters(-across), direction_letters(across), direction_letters(-down), direction_letters(down)

    @property
    def name(self) -> str:
        """What the plane is called; "near" where it is turned from the patient's by more than ten degrees."""
        is_near = abs(self.frame[self.view.through][self.view.through]) < _NEAR_COSINE
        return f"near {self.view.name}" if is_near else self.view.name


def direction_letters(direction: FloatArray) -> str:
    """Letters of a direction in patient coordinates, the main one first: "L", "RA", "HPL" ..."""
    axes = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    named = [axis for axis in axes if abs(direction[axis]) >= _LETTER_COSINE]
    return "".join(_LETTERS[axis][0 if direction[axis] > 0 else 1] for axis in named)


def patient_frame(geometry: Geometry) -> FloatArray:
    """The volume's directions, ordered and turned towards the patient's left, back and head.

    Returns:
        (3, 3) unit vectors in patient coordinates, one a row.
    """
    directions = np.array([geometry.row_direction, geometry.column_direction, geometry.normal])
    best = max(
        permutations(range(3)), key=lambda order: sum(abs(directions[own][axis]) for axis, own in enumerate(order))
    )
    ordered = directions[list(best)]
    signs = np.where(np.diagonal(ordered) < 0, -1.0, 1.0)
    return np.asarray(ordered * signs[:, None])


def choose_planes(labels: LabelVolume, wanted: Collection[int], size: int) -> tuple[tuple[Plane, ...], ...]:
    """The planes of each view, from the head down, from the front back, from the patient's right to the left.

    Each goes through the centre of a structure. The first shows most structures, each further one most of those that
    the planes before it do not show; where none is left there are fewer planes.

    Args:
        labels: What is shown; at least one of ``wanted`` has voxels.
        wanted: Labels of the structures.
        size: Pixels of a plane's longer side.
    """
    frame = patient_frame(labels.geometry)
    low, high = _extent(labels.geometry, frame)
    boxes = labels.bounding_boxes()
    masks = {label: (labels.layer_of(label).labels[boxes[label]] == label, boxes[label]) for label in wanted}
    planes = []
    for view in VIEWS:
        direction = frame[view.through]
        stations = _stations(labels.geometry, direction, low[view.through], high[view.through])
        counts = np.array([_counts(mask, box, labels.geometry, direction, stations) for mask, box in masks.values()])
        blank = _blank_plane(view, frame, low, high, size)
        places = [float(stations[station]) for station in _greedy(counts)]
        if view.through == HEAD:
            places.reverse()
        planes.append(tuple(replace(blank, position=place) for place in places))
    return tuple(planes)


def _blank_plane(view: View, frame: FloatArray, low: FloatArray, high: FloatArray, size: int) -> Plane:
    """A plane of a view, still without a position."""
    width, height = (high - low)[view.across], (high - low)[view.down]
    spacing = max(width, height) / size
    return Plane(
        view=view,
        frame=frame,
        position=0.0,
        left=float(low[view.across]),
        top=float(low[view.down] if view.down_sign > 0 else -high[view.down]),
        spacing=float(spacing),
        rows=max(1, round(height / spacing)),
        columns=max(1, round(width / spacing)),
    )


def _greedy(counts: npt.NDArray[np.int64]) -> list[int]:
    """Stations that show most structures, ascending.

    Args:
        counts: (structures, stations) voxels; every structure has some.
    """
    stations = np.arange(counts.shape[1])
    candidates = sorted({int(np.rint(np.average(stations, weights=of))) for of in counts})
    unseen = np.ones(len(counts), dtype=bool)
    chosen: list[int] = []
    while unseen.any() and len(chosen) < PLANES_PER_VIEW:
        gains = {station: counts[unseen, station] for station in candidates}
        best = max(candidates, key=lambda station: (np.count_nonzero(gains[station]), int(gains[station].sum())))
        if not gains[best].any():
            break  # what is left is hollow at its centre
        chosen.append(best)
        unseen &= counts[:, best] == 0
    return sorted(chosen) or [int(np.argmax(counts.sum(axis=0)))]


def _counts(
    mask: npt.NDArray[np.bool_], box: Box, geometry: Geometry, direction: FloatArray, stations: FloatArray
) -> npt.NDArray[np.int64]:
    """How many voxels of a structure lie at each station.

    Args:
        mask: Of the structure, within its box.
        box: Where the mask lies.
        geometry: Of the whole volume.
        direction: Of the stations; one of the volume's own, or its opposite.
        stations: mm along the direction, ascending.
    """
    of_slices = (geometry.origins[box[0]] @ direction)[:, None]
    columns = np.arange(box[2].start, box[2].stop) * geometry.column_spacing * (geometry.row_direction @ direction)
    rows = np.arange(box[1].start, box[1].stop) * geometry.row_spacing * (geometry.column_direction @ direction)
    is_along_rows = abs(geometry.row_direction @ direction) > 0.5
    places = of_slices + (columns if is_along_rows else rows)
    middles = (stations[1:] + stations[:-1]) / 2
    found = np.bincount(
        np.searchsorted(middles, places.ravel()),
        weights=mask.sum(axis=1 if is_along_rows else 2).ravel(),
        minlength=len(stations),
    )
    return found.astype(np.int64)


def _stations(geometry: Geometry, direction: FloatArray, low: float, high: float) -> FloatArray:
    """frame_mm of the planes that can be chosen: the slices themselves, or pixel by pixel across them."""
    cosine = float(direction @ geometry.normal)
    if abs(cosine) > 0.5:
        return np.sort(geometry.distances * np.sign(cosine))
    along_rows = abs(float(direction @ geometry.row_direction)) > 0.5
    spacing = geometry.column_spacing if along_rows else geometry.row_spacing
    return np.asarray(np.arange(low + spacing / 2, high, spacing))


def _extent(geometry: Geometry, frame: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest frame_mm of the volume, whole voxels."""
    slices, rows, columns = geometry.shape
    ends = np.array([[j, i] for j in (-0.5, rows - 0.5) for i in (-0.5, columns - 0.5)])
    kji = np.array([[k, *end] for k in range(slices) for end in ends])
    corners = geometry.index_to_patient(kji) @ frame.T
    half = np.abs(frame @ geometry.normal) * geometry.slice_spacing / 2
    return corners.min(axis=0) - half, corners.max(axis=0) + half
