"""Items of ContourSequence (PS3.3 C.8.8.6) as encoded bytes, in Implicit VR Little Endian.

A structure set of an abdomen has a million points in ten thousand contours: pydicom would make an object of every
number and of every item, and take most of the time for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import numpy as np

from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.imaging.volume import SourceSlice
from dicom_node.results.islands import Points

_ITEM = (0xFFFE, 0xE000)
_SOP_CLASS, _SOP_INSTANCE, _FRAME = (0x0008, 0x1150), (0x0008, 0x1155), (0x0008, 0x1160)
_CONTOUR_IMAGES, _TYPE = (0x3006, 0x0016), (0x3006, 0x0042)
_POINTS, _NUMBER, _CONTOUR = (0x3006, 0x0046), (0x3006, 0x0048), (0x3006, 0x0050)
_NEGLIGIBLE_MM = 5e-5
"""What a direction that should be zero may add up to over an image without being seen in thousandths."""


class ContourEncoder:
    """Encodes the contours of one series' structures.

    Args:
        geometry: Planes of the slices: each contour lies on its own alone.
        sources: The image of each slice.
    """

    def __init__(self, geometry: Geometry, sources: tuple[SourceSlice, ...]) -> None:
        self._geometry = geometry
        self._sources = sources
        self._slices: dict[int, tuple[_SliceText, bytes]] = {}

    def items(self, contours: Iterable[tuple[int, Points]]) -> Iterator[bytes]:
        """An encoded item for every contour of a structure, numbered from 1.

        Args:
            contours: Slice, and (n, 2) points (row, column) on the lattice of pixel corners.
        """
        for number, (k, points) in enumerate(contours, start=1):
            if k not in self._slices:
                image = _element(_CONTOUR_IMAGES, _image_item(self._sources[k]))
                self._slices[k] = _SliceText(self._geometry, k), image
            text, image = self._slices[k]
            numbers = text.of(text.well_begun(points))
            yield _element(
                _ITEM,
                image
                + _element(_TYPE, b"CLOSED_PLANAR ")
                + _element(_POINTS, _even(str(len(numbers) // 3).encode(), b" "))
                + _element(_NUMBER, _even(str(number).encode(), b" "))
                + _element(_CONTOUR, _even("\\".join(numbers).encode("ascii"), b" ")),
            )


def decimal_text(values: FloatArray) -> list[str]:
    """Each number as decimal string: thousandths of a millimetre, at most 16 characters (PS3.5 6.2)."""
    return [text if text != "-0.000" else "0.000" for text in map("%.3f".__mod__, values.ravel().tolist())]


class _SliceText:
    """Points of one slice as text.

    Where a patient axis runs along rows or along columns, its coordinates are those of a few hundred pixel corners:
    each is turned into text once.
    """

    def __init__(self, geometry: Geometry, k: int) -> None:
        self._origin = geometry.origins[k]
        self._per_row = geometry.column_direction * geometry.row_spacing
        self._per_column = geometry.row_direction * geometry.column_spacing
        self._size = geometry.rows, geometry.columns
        along_rows = np.abs(self._per_row) * geometry.rows > _NEGLIGIBLE_MM
        along_columns = np.abs(self._per_column) * geometry.columns > _NEGLIGIBLE_MM
        self._tables: list[tuple[int, list[str]]] | None = None
        if not (along_rows & along_columns).any():
            self._tables = [self._table(axis, int(not along_rows[axis])) for axis in range(3)]

    def well_begun(self, points: Points) -> Points:
        """A contour begun where its last edge does not run along z alone.

        Some readers (plastimatch 1.10) take a last point with the x and y of the first for its repetition, whatever its
        z, and would lose a corner of each contour on coronal and sagittal planes.
        """
        across = self._per_row[:2], self._per_column[:2]
        if min(float(np.abs(step).max()) for step in across) > _NEGLIGIBLE_MM:
            return points
        edges = np.roll(points, -1, axis=0) - points
        moved = np.abs(edges @ np.array(across)).max(axis=1) > _NEGLIGIBLE_MM
        return points if moved[-1] or not moved.any() else np.roll(points, -1 - int(np.argmax(moved)), axis=0)

    def of(self, points: Points) -> list[str]:
        """The numbers of points (row, column) on the lattice of pixel corners: x, y, z, x, y, z ...

        A point that falls on the one before it, to a thousandth of a millimetre, is left out.
        """
        corners = points.astype(np.int64)
        if self._tables is None or not np.array_equal(corners, points):
            thousandths = np.rint(self._patient_mm(points) * 1000)
            apart = (thousandths != np.roll(thousandths, 1, axis=0)).any(axis=1)
            return decimal_text((thousandths[apart] if apart.sum() > 2 else thousandths) / 1000)
        parts = [""] * (3 * len(points))
        indices = corners[:, 0].tolist(), corners[:, 1].tolist()
        for axis, (along, table) in enumerate(self._tables):
            parts[axis::3] = [table[index] for index in indices[along]]
        return parts

    def _table(self, axis: int, along: int) -> tuple[int, list[str]]:
        """What an axis runs along (0: rows, 1: columns), and its coordinate at each pixel corner there."""
        corners = np.zeros((self._size[along] + 1, 2))
        corners[:, along] = np.arange(len(corners))
        corners[:, 1 - along] = 0.5
        return along, decimal_text(self._patient_mm(corners)[:, axis])

    def _patient_mm(self, points: Points) -> FloatArray:
        """(n, 3) patient_mm, on the plane of this slice alone."""
        rows, columns = points[:, 0] - 0.5, points[:, 1] - 0.5
        return np.asarray(self._origin + np.outer(rows, self._per_row) + np.outer(columns, self._per_column))


def _image_item(source: SourceSlice) -> bytes:
    content = _element(_SOP_CLASS, _even(source.sop_class_uid.encode(), b"\0"))
    content += _element(_SOP_INSTANCE, _even(source.sop_instance_uid.encode(), b"\0"))
    if source.frame_number is not None:
        content += _element(_FRAME, _even(str(source.frame_number).encode(), b" "))
    return _element(_ITEM, content)


def _element(tag: tuple[int, int], value: bytes) -> bytes:
    return struct.pack("<HHL", *tag, len(value)) + value


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value
