"""Where the slices of a series lie, read from its files with pydicom and numpy alone (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SourcePlanes:
    """The planes of a series, ascending along the normal row x column.

    Attributes:
        origins: (n, 3) LPS mm of the centre of each plane's first pixel.
        row: (3,) direction along which the column index grows.
        column: (3,) direction along which the row index grows.
        spacing: mm between rows, mm between columns.
        size: Rows, columns.
        names: SOPInstanceUID and, for multi-frame objects, frame number from 1 of each plane.
        thickness: Nominal mm, the extent of a single plane.
    """

    origins: Points
    row: Points
    column: Points
    spacing: tuple[float, float]
    size: tuple[int, int]
    names: tuple[tuple[str, int | None], ...]
    thickness: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.origins), *self.size

    @property
    def heights(self) -> Points:
        """(n,) mm of each plane along the normal."""
        return self.origins @ np.cross(self.row, self.column)

    @property
    def voxel_volumes(self) -> Points:
        """(n,) mm3 of a voxel: half the way to either neighbour times the pixel's area."""
        if len(self.origins) == 1:
            extents = np.array([self.thickness])
        else:
            gaps = np.diff(self.heights)
            extents = (np.append(gaps[0], gaps) + np.append(gaps, gaps[-1])) / 2
        return extents * self.spacing[0] * self.spacing[1]

    @cached_property
    def centres(self) -> Points:
        """(n * rows * columns, 3) LPS mm of every voxel's centre, the column index running fastest."""
        return self.points_of(np.ones(self.shape, dtype=bool))

    def nearest(self, points: Points) -> tuple[npt.NDArray[np.intp], Points]:
        """Which plane each of (n, 3) points is nearest to, and how far off it the point lies in mm."""
        height = points @ np.cross(self.row, self.column)
        above = np.clip(np.searchsorted(self.heights, height), 0, len(self.heights) - 1)
        below = np.maximum(above - 1, 0)
        chosen = np.where(np.abs(self.heights[below] - height) <= np.abs(self.heights[above] - height), below, above)
        return chosen, np.abs(self.heights[chosen] - height)

    def in_plane(self, points: Points, planes: npt.NDArray[np.intp] | int) -> Points:
        """(n, 2) fractional row and column of points seen at right angles to these planes."""
        offset = points - self.origins[planes]
        return np.stack([offset @ self.column / self.spacing[0], offset @ self.row / self.spacing[1]], axis=-1)

    def points_of(self, mask: npt.NDArray[np.bool_]) -> Points:
        """(n, 3) LPS mm of the centres of a mask's voxels."""
        k, j, i = np.nonzero(mask)
        along = np.outer(j * self.spacing[0], self.column) + np.outer(i * self.spacing[1], self.row)
        return self.origins[k] + along


def read_planes(series: Path) -> SourcePlanes:
    """The planes of the one series in a folder."""
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(series.iterdir())]
    found = [plane for dataset in datasets for plane in _planes(dataset)]
    first = found[0]
    directions = np.array(first.ImageOrientationPatient, dtype=np.float64)
    row, column = directions[:3], directions[3:]
    found.sort(key=lambda plane: float(np.array(plane.ImagePositionPatient, dtype=np.float64) @ np.cross(row, column)))
    return SourcePlanes(
        origins=np.array([plane.ImagePositionPatient for plane in found], dtype=np.float64),
        row=row,
        column=column,
        spacing=(float(first.PixelSpacing[0]), float(first.PixelSpacing[1])),
        size=(int(datasets[0].Rows), int(datasets[0].Columns)),
        names=tuple((str(plane.SOPInstanceUID), plane.get("ReferencedFrameNumber")) for plane in found),
        thickness=float(first.SliceThickness),
    )


def _planes(dataset: Dataset) -> list[Dataset]:
    """Position, orientation and pixel measures of an image, or of each frame of a multi-frame one (C.7.6.16)."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [dataset]
    planes = []
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        plane = Dataset()
        for groups in (dataset.SharedFunctionalGroupsSequence[0], frame):
            for keyword in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
                if keyword in groups:
                    plane.update(groups[keyword].value[0])
        plane.SOPInstanceUID = dataset.SOPInstanceUID
        plane.ReferencedFrameNumber = number
        planes.append(plane)
    return planes
