"""Whether two files hold the same object, however each of them is encoded.

A peer may send an instance twice under different transfer syntaxes, through another AE title, or with other sequence
encodings. None of that makes it another object: its elements and its pixels do.
"""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element

from dicom_node.errors import SegmentationFailed
from dicom_node.imaging.claims import may_hold, refuse_inflation_bomb
from dicom_node.imaging.decoding import FrameDecoder
from dicom_node.imaging.instances import Instance
from dicom_node.logs import get_logger
from dicom_node.receive.spool import SpoolFile

_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ENCODING_ONLY = frozenset({0xFFFCFFFC, 0x00080001, 0x7FE00001, 0x7FE00002, 0x00082111})
"""Trailing padding, length to end, the extended offset tables, and DerivationDescription, in which toolkits note that
they compressed without loss: these describe an encoding, not an object."""
_log = get_logger("receive")
_MOST_FRAMES = 100_000
_decoding = threading.BoundedSemaphore(2)
"""Decoders are processes with much memory: not one for each association."""
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
        SegmentationFailed: The process that decodes compressed pixels could not be started.
    """
    kept_bytes = kept.read_bytes()
    if kept_bytes == arrived.head + arrived.encoded:
        return True
    try:
        return _compare(kept, kept_bytes, arrived)
    except _NotComparable as error:
        _log.info("not comparable with what is on record", reason=str(error)[:200])
        return False


class _NotComparable(Exception):
    """One of the two is damaged, and how."""


def _compare(kept: Path, kept_bytes: bytes, arrived: SpoolFile) -> bool:
    try:
        first, second = _read(kept_bytes), _read(arrived.head + arrived.encoded)
        if not _same_elements(first, second):
            return False
        return _same_bytes(first, second) or _same_pixels(kept, first, arrived, second)
    except SegmentationFailed:
        raise
    except Exception as error:  # on damaged bytes pydicom raises nearly anything
        raise _NotComparable(f"{type(error).__name__}: {error}") from error


def _read(content: bytes) -> FileDataset:
    refuse_inflation_bomb(io.BytesIO(content))
    return pydicom.dcmread(io.BytesIO(content))


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


def _same_bytes(first: FileDataset, second: FileDataset) -> bool:
    """Whether neither has pixels, or both have the same encoded ones."""
    if not any(tag in dataset for tag in _PIXELS for dataset in (first, second)):
        return True
    same_syntax = first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID
    return same_syntax and all(first.get(tag) == second.get(tag) for tag in _PIXELS)


def _same_pixels(kept: Path, first: FileDataset, arrived: SpoolFile, second: FileDataset) -> bool:
    """Compare decoded pixels: native ones here, compressed ones frame by frame where a codec may crash."""
    if not all(any(tag in dataset for tag in _PIXELS) for dataset in (first, second)):
        return False
    if not any(dataset.file_meta.TransferSyntaxUID.is_encapsulated for dataset in (first, second)):
        return bool(np.array_equal(first.pixel_array, second.pixel_array))
    frames = int(first.get("NumberOfFrames") or 1)
    claims = [may_hold(one, one.file_meta.TransferSyntaxUID, len(one.PixelData)) for one in (first, second)]
    if frames > _MOST_FRAMES or not all(claims):
        return False
    numbers, names = range(1, frames + 1), [f"frame {number}" for number in range(1, frames + 1)]
    with _decoding, _as_file(kept, arrived) as path, FrameDecoder() as ours, FrameDecoder() as theirs:
        pairs = zip(
            ours.frames(Instance(kept, first), numbers, names),
            theirs.frames(Instance(path, second), numbers, names),
            strict=True,
        )
        return all(np.array_equal(one, other) for one, other in pairs)


@contextmanager
def _as_file(kept: Path, arrived: SpoolFile) -> Iterator[Path]:
    """What arrived as a file beside the kept one; were the node killed now, its next start would remove it."""
    path = kept.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.write_bytes(arrived.head + arrived.encoded)
        yield path
    finally:
        path.unlink(missing_ok=True)
