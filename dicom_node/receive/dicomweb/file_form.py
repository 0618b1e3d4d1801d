"""A PS3.10 file that arrives in pieces: the file meta is read, and the data set behind it kept as it comes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from dicom_node.errors import InputRefused

_PREFIX_END: Final = 132
_META_GROUP: Final = 0x0002
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_LONG_VRS: Final = frozenset({b"OB", b"OW", b"UN", b"UT", b"SQ"})
MOST_META_BYTES: Final = 64 * 1024
"""Preamble, prefix and file meta; it takes some 300 bytes, unless somebody keeps private information there."""


@dataclass(frozen=True)
class FileMeta:
    """What the file meta says (PS3.10 7.1); an absent element is the empty text."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class ArrivingFile:
    """Takes the pieces of one file; the data set is held once.

    ``meta`` is None until the file meta is there.
    """

    def __init__(self) -> None:
        self.meta: FileMeta | None = None
        self._head = bytearray()
        self._encoded = BytesIO()

    def take(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            InputRefused: It is no DICOM file.
        """
        if self.meta is not None:
            self._encoded.write(piece)
            return
        self._head += piece
        found = _read_meta(bytes(self._head[: MOST_META_BYTES + 16]))
        if found is None:
            if len(self._head) > MOST_META_BYTES:
                raise InputRefused(f"the file meta is not over after {MOST_META_BYTES} bytes")
            return
        self.meta, end = found
        self._encoded.write(memoryview(self._head)[end:])
        self._head = bytearray()

    @property
    def encoded(self) -> bytes:
        """The data set as it came, without a copy."""
        return self._encoded.getvalue()


def _read_meta(head: bytes) -> tuple[FileMeta, int] | None:
    """File meta and where the data set begins; None while more bytes are needed.

    The group length is not relied upon: some writers leave it out or state it wrong.
    """
    if len(head) < _PREFIX_END:
        return None
    if head[128:_PREFIX_END] != b"DICM":
        raise InputRefused("not a DICOM file: the prefix DICM is missing (PS3.10 7.1)")
    values: dict[int, str] = {}
    position = _PREFIX_END
    while position + 12 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, position)
        if group != _META_GROUP:
            uids = (values.get(number, "") for number in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX))
            return FileMeta(*uids), position
        start = position + 8
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from("<I", head, start)
            start += 4
        if vr == b"UI":
            values[element] = head[start : start + length].decode("ascii", "replace").rstrip("\0 ")
        position = start + length
    return None
