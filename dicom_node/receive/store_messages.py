"""C-STORE requests and their plain answers, decoded and encoded here: by pynetdicom's way a millisecond of each image.

It turns every command into a pydicom data set and back. A C-STORE command is a handful of numbers and UIDs (PS3.7
9.3.1), implicit VR little endian (PS3.7 6.3.1). Whatever is not a whole, plain C-STORE-RQ, or not a plain Success, is
left to pynetdicom untouched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dicom_node.uids import is_uid

_C_STORE_RQ: Final = 0x0001
_C_STORE_RSP: Final = 0x8001
_NO_DATA_SET: Final = 0x0101
_SUCCESS: Final = 0x0000
_PRIORITIES: Final = frozenset({0, 1, 2})
_CLASS, _FIELD, _MESSAGE, _ANSWERED, _PRIORITY = 0x0002, 0x0100, 0x0110, 0x0120, 0x0700
_DATA_SET_TYPE, _STATUS, _INSTANCE = 0x0800, 0x0900, 0x1000


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE-RQ that brings a data set (PS3.7 9.1.1).

    Attributes:
        message_id: What its answer refers to.
        sop_class_uid: Affected SOP Class UID.
        sop_instance_uid: Affected SOP Instance UID.
    """

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


def decode_store_request(command: bytes) -> StoreRequest | None:
    """A C-STORE-RQ that brings a data set; None where the command is anything else, or not plainly one.

    Args:
        command: A whole command set.
    """
    try:
        fields = dict(_elements(command))
        if _number(fields[_FIELD]) != _C_STORE_RQ or _number(fields[_DATA_SET_TYPE]) == _NO_DATA_SET:
            return None
        if _number(fields[_PRIORITY]) not in _PRIORITIES:
            return None
        return StoreRequest(_number(fields[_MESSAGE]), _uid(fields[_CLASS]), _uid(fields[_INSTANCE]))
    except (KeyError, ValueError, struct.error):
        return None


def encode_success(request: StoreRequest) -> bytes:
    """The command set of a C-STORE-RSP with status Success."""
    elements = (
        _element(_CLASS, _padded(request.sop_class_uid)),
        _element(_FIELD, struct.pack("<H", _C_STORE_RSP)),
        _element(_ANSWERED, struct.pack("<H", request.message_id)),
        _element(_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        _element(_STATUS, struct.pack("<H", _SUCCESS)),
        _element(_INSTANCE, _padded(request.sop_instance_uid)),
    )
    command = b"".join(elements)
    return _element(0x0000, struct.pack("<I", len(command))) + command


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(command):
        group, number, length = struct.unpack_from("<HHI", command, position)
        value = command[position + 8 : position + 8 + length]
        if group != 0x0000 or len(value) != length:
            raise ValueError("not a command set")
        yield number, value
        position += 8 + length


def _number(value: bytes) -> int:
    return int(struct.unpack("<H", value)[0])


def _uid(value: bytes) -> str:
    text = value.decode("ascii").rstrip("\0 ")
    if not is_uid(text):
        raise ValueError("not a UID")
    return text


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0x0000, number, len(value)) + value


def _padded(uid: str) -> bytes:
    return (uid if len(uid) % 2 == 0 else uid + "\0").encode("ascii")
