"""Whether two files hold the same object, however each of them is encoded.

A peer may send an instance twice under different transfer syntaxes, through another AE title, or with other sequence
encodings. None of that makes it another object: its elements and its pixels do.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element

from dicom_node.receive.spool import SpoolFile

_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ENCODING_ONLY = frozenset({0xFFFCFFFC, 0x00080001, 0x7FE00001, 0x7FE00002, 0x00082111})
"""Trailing padding, length to end, the extended offset tables, and DerivationDescription, in which toolkits note that
they compressed without loss: these describe an encoding, not an object."""
_WORDS = frozenset({"OW", "US", "SS", "US or SS", "US or OW", "US or SS or OW", "OB or OW"})


def same_object(kept: Path, arrived: SpoolFile) -> bool:
    """Compare a file of the spool with one that arrived under the same SOP Instance UID.

    Args:
        kept: The file on record.
        arrived: The file that was just received.

    Returns:
        True when both hold the same elements and the same pixels; False too when that cannot be shown.

    Raises:
        OSError: The kept file cannot be read.
    """
    kept_bytes = kept.read_bytes()
    if kept_bytes == arrived.head + arrived.encoded:
        return True
    try:
        first = pydicom.dcmread(io.BytesIO(kept_bytes))
        second = pydicom.dcmread(io.BytesIO(arrived.head + arrived.encoded))
        return _same_elements(first, second) and _same_pixels(first, second)
    except _UNREADABLE:
        return False


_UNREADABLE = (
    EOFError,
    ValueError,  # includes UnicodeDecodeError and BytesLengthException
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,  # no decoder for a transfer syntax (NotImplementedError); nesting too deep
    pydicom.errors.InvalidDicomError,
)


def _same_elements(first: Dataset, second: Dataset) -> bool:
    """Compare every element but the pixels, items of sequences too."""
    one, other = _compared(first), _compared(second)
    return [element.tag for element in one] == [element.tag for element in other] and all(
        _same_value(a, b, swapped=(_is_big(first), _is_big(second))) for a, b in zip(one, other, strict=True)
    )


def _compared(dataset: Dataset) -> list[DataElement]:
    return [
        element
        for element in dataset
        if element.tag.element != 0 and element.tag not in _PIXELS and element.tag not in _ENCODING_ONLY
    ]


def _same_value(a: DataElement, b: DataElement, *, swapped: tuple[bool, bool]) -> bool:
    if a.VR == b.VR == "SQ":
        return len(a.value) == len(b.value) and all(map(_same_elements, a.value, b.value))
    if a.VR == b.VR and a.VR in {"DS", "IS"}:
        return _numbers(a) == _numbers(b)  # toolkits write 1.0 again as 1 when they compress
    # A private element has its VR in explicit syntaxes and is UN in implicit ones: the bytes decide.
    return _bytes_of(a, swapped=swapped[0]) == _bytes_of(b, swapped=swapped[1])


def _numbers(element: DataElement) -> list[float]:
    if element.is_empty:
        return []
    return [float(number) for number in (element.value if element.VM > 1 else [element.value])]


def _bytes_of(element: DataElement, *, swapped: bool) -> bytes:
    """The value as implicit VR little endian encodes it, without padding."""
    if isinstance(element.value, bytes):
        raw = element.value
        if swapped and element.VR in _WORDS:
            raw = np.frombuffer(raw, ">u2").astype("<u2").tobytes()
        return raw.rstrip(b"\0 ")
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_data_element(buffer, element)
    return buffer.getvalue()[8:].rstrip(b"\0 ")


def _is_big(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is False


def _same_pixels(first: FileDataset, second: FileDataset) -> bool:
    present = [any(tag in dataset for tag in _PIXELS) for dataset in (first, second)]
    if not all(present):
        return not any(present)
    if first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID:
        identical = all(first.get(tag) == second.get(tag) for tag in _PIXELS)
        if identical:
            return True
    return bool(np.array_equal(first.pixel_array, second.pixel_array))
