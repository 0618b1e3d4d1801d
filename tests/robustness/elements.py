"""Where the elements of a DICOM file lie, by a walk that believes what it reads: for whole files, to be damaged."""

from __future__ import annotations

import struct
from dataclasses import dataclass

LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED = b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Element:
    """One element, item or delimiter of a file.

    Attributes:
        tag: Group and element.
        vr: Two letters; empty where implicit.
        start: Offset of the tag.
        value: Offset of the value.
        length: As written.
    """

    tag: int
    vr: bytes
    start: int
    value: int
    length: int

    @property
    def end(self) -> int:
        """Offset behind the value; behind the header where the length is undefined."""
        return self.value + (0 if self.length == UNDEFINED else self.length)


def body_offset(content: bytes) -> int:
    """Where the data set begins, behind preamble and file meta information."""
    return int(128 + 4 + 12 + struct.unpack_from("<I", content, 140)[0])


def elements_of(content: bytes) -> list[Element]:
    """Every element, those in sequences too, and the fragments of pixel data, in the order of the file.

    Of a deflated data set there are none, of a big endian one those of the file meta information alone.
    """
    body = body_offset(content)
    found = _walk(content, 132, body, implicit=False)
    syntax = next(content[one.value : one.end] for one in found if one.tag == 0x00020010)
    if syntax.startswith((DEFLATED, EXPLICIT_BIG)):
        return found
    return [*found, *_walk(content, body, len(content), implicit=syntax == IMPLICIT_LITTLE)]


def header(tag: int, vr: bytes, length: int) -> bytes:
    """An element's header; implicit where the VR is empty."""
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not vr:
        return start + struct.pack("<I", length)
    if vr in LONG_VRS:
        return start + vr + b"\0\0" + struct.pack("<I", length)
    return start + vr + struct.pack("<H", length & 0xFFFF)


def _walk(content: bytes, position: int, end: int, *, implicit: bool) -> list[Element]:
    found: list[Element] = []
    in_pixels = False
    while position + 8 <= end:
        element = _element(content, position, implicit=implicit)
        found.append(element)
        in_pixels = in_pixels or element.tag == PIXEL_DATA
        goes_in = not in_pixels and (element.tag >> 16 == 0xFFFE or element.vr == b"SQ")
        position = element.value if goes_in else element.end
    return found


def _element(content: bytes, start: int, *, implicit: bool) -> Element:
    group, number = struct.unpack_from("<HH", content, start)
    tag = group << 16 | number
    vr = b"" if implicit or group == 0xFFFE else content[start + 4 : start + 6]
    if vr in LONG_VRS:
        return Element(tag, vr, start, start + 12, struct.unpack_from("<I", content, start + 8)[0])
    if vr:
        return Element(tag, vr, start, start + 8, struct.unpack_from("<H", content, start + 6)[0])
    return Element(tag, vr, start, start + 8, struct.unpack_from("<I", content, start + 4)[0])
