"""Which instance an encoded data set is, read without decoding the rest of it.

Only the four UIDs that the record needs are looked at; reading stops behind (0020,000E). The walk is iterative and
checks every length against the bytes there are, so hostile nesting or lengths end in an error, not in a crash.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.errors import InputRefused

DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_WANTED = frozenset({_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with a length of four bytes behind two reserved ones (PS3.5 7.1.2)."""
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_FIRST_INFLATE = 1 << 20
_MOST_INFLATE = 1 << 26
_MOST_ELEMENTS = 1_000_000
"""Elements and items before (0020,000E) that are looked at, about a second's work; scanners write some thousand."""


@dataclass(frozen=True)
class Identity:
    """The four UIDs of an instance (PS3.3 C.12.1, C.7.2.1, C.7.3.1); an absent one is the empty text."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


class _RanOut(Exception):
    """The bytes ended before (0020,000E) was passed."""


def read_identity(encoded: bytes, transfer_syntax_uid: str) -> Identity:
    """Read the UIDs of an encoded data set.

    Args:
        encoded: The data set as it came, without preamble and file meta.
        transfer_syntax_uid: How it is encoded; compressed ones are explicit little endian (PS3.5 A.4).

    Raises:
        InputRefused: It is not a data set in that transfer syntax.
    """
    try:
        if transfer_syntax_uid == DEFLATED:
            found = _inflate_and_walk(encoded)
        else:
            found = _walk(
                encoded, implicit=transfer_syntax_uid == IMPLICIT_LITTLE, big=transfer_syntax_uid == EXPLICIT_BIG
            )
    except _RanOut as error:
        raise InputRefused(f"the data set ends inside its header ({error})") from error
    except zlib.error as error:
        raise InputRefused(f"the deflated data set is damaged: {error}") from error
    uids = (found.get(tag, "") for tag in (_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES))
    return Identity(*uids)


def _inflate_and_walk(encoded: bytes) -> dict[int, str]:
    """Inflate only as much as the header needs; a deflate bomb costs 64 MiB at most."""
    limit = _FIRST_INFLATE
    while True:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, limit)
        whole = len(head) < limit or limit >= _MOST_INFLATE
        try:
            found = _walk(head, implicit=False, big=False)
        except _RanOut:
            if whole:
                raise
        else:
            if whole or _SERIES in found:
                return found
        limit *= 8


def _walk(head: bytes, *, implicit: bool, big: bool) -> dict[int, str]:
    order = ">" if big else "<"
    tag_at = struct.Struct(order + "HH").unpack_from
    length_at = struct.Struct(order + "I").unpack_from
    header_at = _header_reader(order)
    found: dict[int, str] = {}
    nesting: list[bool] = []  # one entry per open sequence or item: is its content implicit VR?
    position = looked_at = 0
    while position < len(head):
        looked_at += 1
        if looked_at > _MOST_ELEMENTS:
            raise InputRefused(f"more than {_MOST_ELEMENTS} elements stand before SeriesInstanceUID")
        _need(head, position, 8)
        group, element = tag_at(head, position)
        tag = group << 16 | element
        if group == 0xFFFE:
            position = _past_delimiter(tag, length_at(head, position + 4)[0], position + 8, nesting)
            continue
        if not nesting and tag > _SERIES:
            return found
        vr, length, start = header_at(head, position, nesting[-1] if nesting else implicit)
        if length == _UNDEFINED:
            # A sequence of unknown VR holds implicit VR whatever surrounds it (PS3.5 6.2.2 note 2).
            nesting.append(vr in {b"", b"UN"})
            position = start
            continue
        if not nesting and tag in _WANTED:
            _need(head, start, length)
            found[tag] = head[start : start + length].decode("ascii", "replace").rstrip("\0 ")
        position = start + length
    if nesting or position > len(head):
        raise _RanOut(f"{len(head)} bytes")
    return found


def _past_delimiter(tag: int, length: int, start: int, nesting: list[bool]) -> int:
    """Step over an item or delimitation tag (PS3.5 7.5); returns where to go on."""
    if not nesting:
        raise InputRefused("an item stands outside of any sequence: not a data set in this transfer syntax")
    if tag == _ITEM:
        if length != _UNDEFINED:
            return start + length
        nesting.append(nesting[-1])
    elif tag in {_ITEM_END, _SEQUENCE_END}:
        nesting.pop()
    else:
        raise InputRefused(f"unknown delimiter {tag:08X}")
    return start


def _header_reader(order: str) -> Callable[[bytes, int, bool], tuple[bytes, int, int]]:
    """A reader of element headers: VR (empty where implicit), length, and where the value starts (PS3.5 7.1)."""
    long_at = struct.Struct(order + "I").unpack_from
    short_at = struct.Struct(order + "H").unpack_from

    def header_at(head: bytes, position: int, implicit: bool) -> tuple[bytes, int, int]:
        if implicit:
            return b"", long_at(head, position + 4)[0], position + 8
        vr = head[position + 4 : position + 6]
        if vr in _SHORT_VRS:
            return vr, short_at(head, position + 6)[0], position + 8
        if vr in LONG_VRS:
            _need(head, position, 12)
            return vr, long_at(head, position + 8)[0], position + 12
        raise InputRefused(f"{vr!r} at byte {position} is no value representation: not encoded as negotiated")

    return header_at


def _need(head: bytes, position: int, count: int) -> None:
    if position + count > len(head):
        raise _RanOut(f"{len(head)} bytes")
