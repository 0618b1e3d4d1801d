"""Pixel data of a Segmentation, made from the labels while it is read: it lies in memory nowhere as a whole."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dicom_node.imaging.certainty import CERTAIN
from dicom_node.results.seg_frames import Frame, Segment, segment_numbers

Part = TypeVar("Part")
Array = npt.NDArray[Any]


def binary_pixels(frames: Sequence[Frame], rows: int, columns: int) -> io.BufferedReader:
    """One bit per pixel, the first pixel in the lowest bit of the first byte.

    Frames follow each other bit by bit, without padding in between (PS3.5 8.1.1).
    """
    if columns % 8 == 0:  # every row begins on a byte: a frame is packed where its structure is, and nowhere else
        row_bytes = columns // 8
        return _reader(frames, lambda frame: _packed_rows(frame, rows, row_bytes), rows * row_bytes)
    together = 8 // math.gcd(rows * columns, 8)  # so many frames end on a byte
    groups = [frames[first : first + together] for first in range(0, len(frames), together)]
    missing = len(groups) * together - len(frames)
    return _reader(
        groups,
        lambda group: _packed_frames(group, rows, columns),
        together * rows * columns // 8,
        surplus=missing * rows * columns // 8,
    )


def fractional_pixels(frames: Sequence[Frame], rows: int, columns: int) -> io.BufferedReader:
    """One byte per pixel: the probability as 255ths; 0 or 255 where the layer has no certainty."""
    return _reader(frames, lambda frame: _probabilities(frame, rows, columns), rows * columns)


def label_pixels(slices: Sequence[int], segments: Sequence[Segment], rows: int, columns: int) -> io.BufferedReader:
    """The segment number of each pixel, in one byte or two (little endian).

    Args:
        slices: The slice of each frame.
        segments: What to number; they do not overlap.
        rows: Of a slice.
        columns: Of a slice.
    """
    layers = list({id(segment.layer): segment.layer for segment in segments}.values())
    tables = [segment_numbers(segments, layer) for layer in layers]

    def numbers(k: int) -> Array:
        frame = tables[0][layers[0].labels[k]]
        for layer, table in zip(layers[1:], tables[1:], strict=True):
            np.maximum(frame, table[layer.labels[k]], out=frame)
        return np.asarray(frame)

    return _reader(slices, numbers, rows * columns * tables[0].itemsize)


def _packed_rows(frame: Frame, rows: int, row_bytes: int) -> Array:
    packed = np.zeros((rows, row_bytes), dtype=np.uint8)
    j, i = frame.box
    first, last = i.start // 8, -(-i.stop // 8)
    mask = frame.segment.layer.labels[frame.k, j, first * 8 : last * 8] == frame.segment.label
    packed[j, first:last] = np.packbits(mask, axis=1, bitorder="little")
    return packed


def _packed_frames(group: Sequence[Frame], rows: int, columns: int) -> Array:
    masks = np.zeros((len(group), rows, columns), dtype=np.bool_)
    for mask, frame in zip(masks, group, strict=True):
        mask[frame.box] = frame.segment.layer.labels[frame.k][frame.box] == frame.segment.label
    return np.packbits(masks, bitorder="little")


def _probabilities(frame: Frame, rows: int, columns: int) -> Array:
    values = np.zeros((rows, columns), dtype=np.uint8)
    layer, label = frame.segment.layer, frame.segment.label
    labels = layer.labels[frame.k][frame.box]
    if layer.certainty is None:
        values[frame.box][labels == label] = CERTAIN
    else:
        values[frame.box] = layer.certainty.probability(labels, label, frame.k, frame.box)
    return values


def _reader(
    parts: Sequence[Part], encode: Callable[[Part], Array], part_bytes: int, *, surplus: int = 0
) -> io.BufferedReader:
    """What pydicom takes as a buffered value: of even length, seekable, and as often as one likes."""
    length = len(parts) * part_bytes - surplus

    def part(index: int) -> bytes:
        return encode(parts[index]).tobytes() if index < len(parts) else b""

    return io.BufferedReader(_Parts(part, part_bytes, length + length % 2))


class _Parts(io.RawIOBase):
    """Bytes that are made part by part when they are read; zeros after the last one."""

    def __init__(self, part: Callable[[int], bytes], part_bytes: int, length: int) -> None:
        """Take what makes the parts.

        Args:
            part: The bytes of the part of this number.
            part_bytes: How many each part but the last has.
            length: How many they are together, padding included.
        """
        super().__init__()
        self._part = part
        self._part_bytes = part_bytes
        self._length = length
        self._position = 0
        self._held: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a byte."""
        self._position = max(
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence], 0
        )
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill as much of the buffer as the part at this place has; 0 at the end."""
        index, offset = divmod(self._position, self._part_bytes)
        wanted = max(min(len(buffer), self._part_bytes - offset, self._length - self._position), 0)
        if not wanted:
            return 0
        if self._held[0] != index:
            self._held = (index, self._part(index))
        buffer[:wanted] = self._held[1][offset : offset + wanted].ljust(wanted, b"\0")
        self._position += wanted
        return wanted
