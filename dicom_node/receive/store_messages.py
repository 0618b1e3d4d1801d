"""C-STORE requests and their plain answers, decoded and encoded here: by pynetdicom's way a millisecond of each image.

It turns every command into a pydicom data set and back. A C-STORE command is a handful of numbers and UIDs (PS3.7
9.3.1), implicit VR little endian (PS3.7 6.3.1). Whatever is not a whole, plain C-STORE-RQ, or not a plain Success, is
left to pynetdicom untouched.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.uids import is_uid

_C_STORE_RQ: Final = 0x0001
_C_STORE_RSP: Final = 0x8001
_NO_DATA_SET: Final = 0x0101
_SUCCESS: Final = 0x0000
_COMMAND, _LAST = 0x01, 0x02  # PS3.8 E.2, message control header
_LEAST_PDU: Final = 1024  # of a peer that takes less, the answer would have to be cut
_CLASS, _FIELD, _MESSAGE, _ANSWERED, _PRIORITY = 0x0002, 0x0100, 0x0110, 0x0120, 0x0700
_DATA_SET_TYPE, _STATUS, _INSTANCE = 0x0800, 0x0900, 0x1000


def exchange_directly(association: Association) -> None:
    """Have an accepted association's C-STORE messages decoded and encoded here; before its threads start."""
    messages = association.dimse
    exchange = _Exchange(association, messages.receive_primitive, messages.send_msg)
    messages.receive_primitive = exchange.receive  # type: ignore[method-assign]
    messages.send_msg = exchange.send  # type: ignore[method-assign]


def decode_store_request(command: bytes) -> C_STORE | None:
    """A C-STORE-RQ that brings a data set; None where the command is anything else, or not plainly one.

    Args:
        command: A whole command set.
    """
    try:
        fields = dict(_elements(command))
        if _number(fields[_FIELD]) != _C_STORE_RQ or _number(fields[_DATA_SET_TYPE]) == _NO_DATA_SET:
            return None
        request = C_STORE()
        request.MessageID = _number(fields[_MESSAGE])
        request.Priority = _number(fields[_PRIORITY])
        request.AffectedSOPClassUID = _uid(fields[_CLASS])
        request.AffectedSOPInstanceUID = _uid(fields[_INSTANCE])
    except (KeyError, ValueError, TypeError, struct.error):
        return None
    return request


def encode_success(answer: C_STORE) -> bytes:
    """The command set of a C-STORE-RSP with status Success."""
    elements = (
        _element(_CLASS, _padded(str(answer.AffectedSOPClassUID))),
        _element(_FIELD, struct.pack("<H", _C_STORE_RSP)),
        _element(_ANSWERED, struct.pack("<H", answer.MessageIDBeingRespondedTo)),
        _element(_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        _element(_STATUS, struct.pack("<H", _SUCCESS)),
        _element(_INSTANCE, _padded(str(answer.AffectedSOPInstanceUID))),
    )
    command = b"".join(elements)
    return _element(0x0000, struct.pack("<I", len(command))) + command


class _Exchange:
    """The C-STORE messages of one association: ``receive`` in the provider's thread, ``send`` in its own."""

    def __init__(
        self, association: Association, receive: Callable[[P_DATA], None], send: Callable[[Any, int], None]
    ) -> None:
        self._association = association
        self._receive_otherwise = receive
        self._send_otherwise = send
        self._request: C_STORE | None = None
        self._content = BytesIO()

    def receive(self, primitive: P_DATA) -> None:
        """Take what one PDU brought."""
        fragments = primitive.presentation_data_value_list
        if self._request is not None:
            self._take_content(fragments)
            return
        is_whole_command = len(fragments) == 1 and fragments[0][1][0] & 3 == _COMMAND | _LAST
        if is_whole_command and self._association.dimse.message is None:
            self._request = decode_store_request(fragments[0][1][1:])
        if self._request is None:
            self._receive_otherwise(primitive)

    def send(self, primitive: Any, context_id: int) -> None:
        """Send a message."""
        is_plain = isinstance(primitive, C_STORE) and primitive.Status == _SUCCESS and not primitive.ErrorComment
        peer_takes = self._association.dimse.maximum_pdu_size
        if not is_plain or 0 < peer_takes < _LEAST_PDU:
            self._send_otherwise(primitive, context_id)
            return
        fragment = P_DATA()
        answer = bytes([_COMMAND | _LAST]) + encode_success(primitive)
        fragment.presentation_data_value_list.append((context_id, answer))
        self._association.dul.send_pdu(fragment)

    def _take_content(self, fragments: list[tuple[int, bytes]]) -> None:
        for context_id, fragment in fragments:
            if fragment[0] & _COMMAND:  # a command in the middle of a data set: PS3.8 E.1 forbids it
                self._association.dul.event_queue.put("Evt19")
                return
            self._content.write(memoryview(fragment)[1:])
            if fragment[0] & _LAST and self._request is not None:
                request, self._request = self._request, None
                request.DataSet, self._content = self._content, BytesIO()
                self._association.dimse.msg_queue.put((context_id, request))


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


def _uid(value: bytes) -> UID:
    text = value.decode("ascii").rstrip("\0 ")
    if not is_uid(text):
        raise ValueError("not a UID")
    return UID(text)


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0x0000, number, len(value)) + value


def _padded(uid: str) -> bytes:
    return (uid if len(uid) % 2 == 0 else uid + "\0").encode("ascii")
