"""What a file claims, held against the bytes that are there, before memory is asked for.

A few bytes of a header can claim gigabytes: rows, columns and frames that are not in the file, or a deflated data set
that unpacks to a thousand times its size.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO, Final

from pydicom import Dataset
from pydicom.filereader import _read_command_set_elements, _read_file_meta_info, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from dicom_node.errors import InputRefused

MAX_INFLATED_BYTES = 2**30
"""Most that one deflated file may unpack to; a few kilobytes can claim far more."""
MOST_EXPANSION: Final = {
    "native": 1,
    "deflated": 1032,  # zlib's technical details: a run of 258 bytes in two bits
    "RLE": 64,  # PS3.5 G.3.1: a run of 128 bytes in two
    "compressed": 10_000,  # a black slice in JPEG 2000 takes some hundred bytes
}
"""Pixel bytes that come of one byte in the file, at most."""
ALWAYS_BELIEVED_BYTES: Final = 2**26
"""What a compressed file may claim whatever its size: JPEG 2000 makes 154 bytes of a uniform slice of 2048 x 2048,
54 000 times less than its pixels."""


def claimed_pixel_bytes(header: Dataset) -> int:
    """Bytes of the pixels that a header claims: rows x columns x samples x frames at BitsAllocated."""
    pixels = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)
    return pixels * int(header.get("NumberOfFrames") or 1) * int(header.get("BitsAllocated") or 0) // 8


def may_hold(header: Dataset, syntax: UID, present: int) -> bool:
    """Whether so many bytes can hold the pixels that a header claims.

    Args:
        header: Gives rows, columns, samples, frames and bits.
        syntax: Transfer syntax of the file.
        present: Bytes of the encoded pixel data, or of the whole file.
    """
    kind = "native"
    if syntax == DeflatedExplicitVRLittleEndian:
        kind = "deflated"
    elif syntax.is_private or syntax.is_encapsulated:
        kind = "RLE" if syntax == RLELossless else "compressed"
    believed = ALWAYS_BELIEVED_BYTES if kind == "compressed" else 0
    return claimed_pixel_bytes(header) <= max(believed, present * MOST_EXPANSION[kind])


def refuse_inflation_bomb(file: BinaryIO) -> None:
    """Measure what a deflated file unpacks to; pydicom inflates it whole before it reads the first attribute.

    The data set's beginning is found as pydicom finds it: neither the group length nor the order of the file meta
    information can be believed.

    Args:
        file: A file from its beginning; left anywhere.

    Raises:
        InputRefused: It unpacks to more than MAX_INFLATED_BYTES.
        Exception: Whatever pydicom and zlib raise on damaged bytes.
    """
    read_preamble(file, force=False)
    meta = _read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    _read_command_set_elements(file)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, chunk = 0, file.read(2**16)
    while chunk and not inflater.eof:
        total += len(inflater.decompress(chunk, 2**24))
        if total > MAX_INFLATED_BYTES:
            raise InputRefused(f"unpacks to more than {MAX_INFLATED_BYTES // 2**20} MB: not a plausible image")
        chunk = inflater.unconsumed_tail or file.read(2**16)
