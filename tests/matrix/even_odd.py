"""A reader of RTSTRUCT: every contour filled by the even-odd rule on the plane of its own slice (PS3.3 C.8.8.6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset

from tests.matrix.agreement import Mask, Reading
from tests.matrix.source_planes import Points, SourcePlanes

Corners = npt.NDArray[np.float64]


def read_structures(path: Path, planes: SourcePlanes, *, union: bool = False) -> dict[str, Reading]:
    """Every ROI of a structure set by its ROIName.

    Args:
        path: The RTSTRUCT.
        planes: Of the series it is drawn on.
        union: Contours of a slice are joined, as CLOSED_PLANAR says; otherwise a contour within another is a hole,
            as many readers and writers have it.
    """
    dataset = pydicom.dcmread(path)
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    return {
        names[int(roi.ReferencedROINumber)]: _reading(list(roi.get("ContourSequence") or []), planes, union)
        for roi in dataset.ROIContourSequence
    }


def fill(corners: Corners, size: tuple[int, int]) -> Mask:
    """(rows, columns) pixel centres inside a polygon: an odd number of its edges lies to their left.

    Args:
        corners: (n, 2) fractional row and column of the polygon's corners; the last is joined to the first.
        size: Rows, columns.
    """
    rows, columns = size
    toggles = np.zeros((rows, columns + 1), dtype=np.int64)
    starts, ends = corners, np.roll(corners, -1, axis=0)
    ascending = starts[:, :1] <= ends[:, :1]
    upper, lower = np.where(ascending, starts, ends), np.where(ascending, ends, starts)
    # a centre counts an edge whose upper end is at or above it and whose lower end is below it: each corner once
    first = np.clip(np.ceil(upper[:, 0]), 0, rows).astype(int)
    last = np.clip(np.ceil(lower[:, 0]), 0, rows).astype(int)
    edges = np.repeat(np.arange(len(corners)), last - first)
    if not len(edges):
        return np.zeros(size, dtype=bool)
    begins = np.cumsum(last - first) - (last - first)
    crossed = np.arange(len(edges)) - begins[edges] + first[edges]
    share = (crossed - upper[edges, 0]) / (lower[edges, 0] - upper[edges, 0])
    at = upper[edges, 1] + share * (lower[edges, 1] - upper[edges, 1])
    np.add.at(toggles, (crossed, np.clip(np.ceil(at), 0, columns).astype(int)), 1)
    return np.cumsum(toggles, axis=1)[:, :columns] % 2 == 1


def enclosed_area(corners: Corners) -> float:
    """Area of a polygon in pixels (Gauss's formula); the cut of a keyhole is run both ways and counts nothing."""
    following = np.roll(corners, -1, axis=0)
    return float(abs(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1])) / 2)


def _reading(contours: list[Dataset], planes: SourcePlanes, union: bool) -> Reading:
    mask = np.zeros(planes.shape, dtype=bool)
    area = np.zeros(len(mask))
    off, references = 0.0, True
    for contour, points in _polygons(contours):
        nearest, away = planes.nearest(points)
        k = int(np.bincount(nearest).argmax())
        corners = planes.in_plane(points, k)
        filled = fill(corners, planes.size)
        mask[k] = mask[k] | filled if union else mask[k] ^ filled
        area[k] += enclosed_area(corners) * planes.spacing[0] * planes.spacing[1]
        off = max(off, float(away.max()))
        references &= _names(contour) == [planes.names[k]]
    return Reading(mask, off_plane_mm=off, area_mm2=area, references=references)


def _polygons(contours: list[Dataset]) -> Iterator[tuple[Dataset, Points]]:
    for contour in contours:
        points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
        if len(points) >= 3:
            yield contour, points


def _names(contour: Dataset) -> list[tuple[str, int | None]]:
    return [
        (str(image.ReferencedSOPInstanceUID), image.get("ReferencedFrameNumber"))
        for image in contour.get("ContourImageSequence") or []
    ]
