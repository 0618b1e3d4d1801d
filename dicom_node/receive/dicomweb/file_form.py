"""A PS3.10 file that arrives in pieces: the file meta is read, and the data set behind it kept as it comes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from dicom_node.errors import InputRefused
from dicom_node.receive.identity import LONG_VRS

_PREFIX_END: Final = 132
_META_GROUP: Final = 0x0002
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_TOO_LONG: Final = 65
"""Characters that no UID has (PS3.5 9.1); no more are kept of what each part of a request says it is."""
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

    ``meta`` is None until the file meta is there. The group length is not relied upon: some writers leave it out or
    state it wrong.
    """

    def __init__(self) -> None:
        self.meta: FileMeta | None = None
        self._head = bytearray()
        self._position = 0  # how far the head was read: a sender of single bytes shall not have it read anew for each
        self._uids: dict[int, str] = {}
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
        if self._is_past_meta():
            uids = (self._uids.get(number, "") for number in (_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX))
            self.meta = FileMeta(*uids)
            self._encoded.write(memoryview(self._head)[self._position :])
            self._head = bytearray()
        elif len(self._head) > MOST_META_BYTES:
            raise InputRefused(f"the file meta is not over after {MOST_META_BYTES} bytes")

    @property
    def encoded(self) -> bytes:
        """The data set as it came, without a copy."""
        return self._encoded.getvalue()

    def _is_past_meta(self) -> bool:
        """Read on; whether an element beyond the file meta has begun, which is then at the position."""
        head = self._head
        if not self._position and len(head) >= _PREFIX_END:
            if head[128:_PREFIX_END] != b"DICM":
                raise InputRefused("not a DICOM file: the prefix DICM is missing (PS3.10 7.1)")
            self._position = _PREFIX_END
        while self._position and self._position + 12 <= len(head):
            group, element, vr, length = struct.unpack_from("<HH2sH", head, self._position)
            if group != _META_GROUP:
                return True
            start = self._position + 8
            if vr in LONG_VRS:
                (length,) = struct.unpack_from("<I", head, start)
                start += 4
            if start + length > len(head):
                return False
            if vr == b"UI":
                value = head[start : start + min(length, _TOO_LONG)]
                self._uids[element] = value.decode("ascii", "replace").rstrip("\0 ")
            self._position = start + length
        return False
