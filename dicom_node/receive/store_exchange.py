"""The plain way of an image: from the connection into its buffer, stored, answered, all in the provider's own thread.

pynetdicom makes objects of every PDU, copies its bytes five times and hands each message from the thread that reads to
one that answers and back: as much processor time as everything else that is done for an image. Here the PDUs of a
C-STORE (PS3.8 9.3.5, PS3.7 9.3.1) are read straight into one buffer. Whatever is anything else is given back to the
connection as it came, and pynetdicom reads it: the association's request and end, other messages, commands in pieces.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final, cast

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE, DimseServiceType
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.receive.connection import P_DATA_TF, GuardedSocket, guarded
from dicom_node.receive.store_messages import StoreRequest, decode_store_request, encode_success
from dicom_node.receive.storing import SUCCESS, Answer, Arrival

_COMMAND, _LAST = 0x01, 0x02  # PS3.8 E.2, message control header
_ITEM: Final = struct.Struct(">LBB")  # length of what follows it, presentation context, message control header
_ITEM_LENGTH_BYTES: Final = 4
_PDU: Final = struct.Struct(">BxL")
_MOST_PLAIN_COMMAND: Final = 4096
_LEAST_PDU: Final = 1024  # of a peer that takes less, the answer would have to be cut
_TRANSFERRING: Final = "Sta6"  # PS3.8 9.2.1
_CLOSED, _INVALID_PDU = "Evt17", "Evt19"  # PS3.8 9.2.2

Store = Callable[[Association, Arrival], Answer]


@dataclass(frozen=True)
class _Message:
    """A C-STORE whose data set is coming in."""

    request: StoreRequest
    context_id: int
    content: BytesIO = field(default_factory=BytesIO)


class _Invalid(Exception):
    """A PDU that has no place in a data set."""


def exchange_directly(association: Association, store: Store) -> None:
    """Have the plain C-STORE messages of an association read and answered here, from the next PDU on.

    To be called once its beginning is known to ``store``: the peer may send its first image before that, and then
    pynetdicom serves it.

    Args:
        association: Its connection is a guarded one.
        store: Stores an instance and says what to answer; never raises.
    """
    exchange = _Exchange(association, guarded(association), store)
    association.dul._read_pdu_data = exchange.read  # type: ignore[method-assign]
    association.dul.idle_timer_expired = exchange.is_idle_too_long  # type: ignore[method-assign]


class _Exchange:
    """Used by the provider's thread alone, but for :meth:`is_idle_too_long` and what forgets at the end."""

    def __init__(self, association: Association, connection: GuardedSocket, store: Store) -> None:
        self._association = association
        self._provider = association.dul
        self._connection = connection
        self._store = store
        self._read_otherwise: Callable[[], None] = association.dul._read_pdu_data
        self._idle_otherwise: Callable[[], bool] = association.dul.idle_timer_expired
        self._message: _Message | None = None
        self._is_answering = False
        self._serve_otherwise = association._serve_request
        association._serve_request = self._serve  # type: ignore[method-assign]
        connection.when_over(self._forget)

    def _serve(self, msg: DimseServiceType, context_id: int) -> None:
        """Serve a message by pynetdicom, in the association's thread, and count it as served; its peer was not idle."""
        try:
            self._serve_otherwise(msg, context_id)
        finally:
            self._provider._idle_timer.restart()
            if threading.current_thread() is self._association:  # an N-EVENT-REPORT has not been in the queue
                self._association.dimse.msg_queue.task_done()

    def is_idle_too_long(self) -> bool:
        """Whether the peer has been silent for too long; it waits for us while its image is being stored."""
        return not self._is_answering and self._idle_otherwise()

    def read(self) -> None:
        """Read what the peer sent: PDUs of one C-STORE as long as there are any, or one of any other kind."""
        if self._provider.state_machine.current_state != _TRANSFERRING:
            self._read_otherwise()
            return
        try:
            while self._read_one() and self._may_go_on():
                pass
        except _Invalid:
            self._forget()
            self._provider.event_queue.put(_INVALID_PDU)
        except OSError as error:
            self._connection.give_up(error)
            self._provider.event_queue.put(_CLOSED)

    def _may_go_on(self) -> bool:
        """Whether the next PDU has begun to come, and nothing is to be sent before it, an abort above all.

        A link that is slower than we are delivers the beginning of each PDU with the end of the one before: there is
        always something to read, for as long as a large instance takes.
        """
        self._provider._idle_timer.restart()
        return not self._provider._kill_thread and self._provider.to_provider_queue.empty() and self._connection.ready

    def _read_one(self) -> bool:
        """Read a PDU; whether a further one of the same message is to come."""
        kind, length = self._connection.read_header()
        if kind != P_DATA_TF:
            self._forget()
            self._leave_to_pynetdicom()
        elif self._message is None:
            self._begin(length)
        else:
            self._read_fragments(self._message, length)
        return self._message is not None

    def _begin(self, length: int) -> None:
        if length > _MOST_PLAIN_COMMAND or self._is_busy_otherwise:
            self._leave_to_pynetdicom()
            return
        items = self._connection.read(length)
        self._message = self._announced(items)
        if self._message is None:
            self._leave_to_pynetdicom(items)
        else:
            self._connection.guard.take(items)

    @property
    def _is_busy_otherwise(self) -> bool:
        """Whether pynetdicom has a message half or not answered yet: what comes behind it is answered behind it."""
        messages = self._association.dimse
        return messages.message is not None or messages.msg_queue.unfinished_tasks > 0

    def _announced(self, items: bytearray) -> _Message | None:
        """The message that a PDU begins, where it holds the whole command of a plain C-STORE and nothing else."""
        if len(items) < _ITEM.size:
            return None
        length, context_id, header = _ITEM.unpack_from(items)
        if length + _ITEM_LENGTH_BYTES != len(items) or header & (_COMMAND | _LAST) != _COMMAND | _LAST:
            return None
        request = decode_store_request(bytes(items[_ITEM.size :]))
        if request is None or context_id not in self._association._accepted_cx:
            return None
        if uid_to_service_class(request.sop_class_uid) is not StorageServiceClass:
            return None
        return _Message(request, context_id)

    def _read_fragments(self, message: _Message, left: int) -> None:
        """Take the presentation data values of one PDU into the data set."""
        if not left:
            self._connection.guard.take(b"")
        while left:
            length, context_id, header = self._read_item(left)
            if context_id != message.context_id or header & _COMMAND:  # PS3.8 E.1 and E.2 forbid both
                self._skip(left - _ITEM.size)
            size = length - (_ITEM.size - _ITEM_LENGTH_BYTES)
            self._connection.guard.take_fragment(header, size)
            message.content.write(self._connection.read(size))
            left -= _ITEM.size + size
            if header & _LAST:
                if left:
                    self._skip(left)
                self._forget()
                self._answer(message)
                return

    def _read_item(self, left: int) -> tuple[int, int, int]:
        if left < _ITEM.size:
            self._skip(left)
        length, context_id, header = _ITEM.unpack(self._connection.read(_ITEM.size))
        if length < _ITEM.size - _ITEM_LENGTH_BYTES or _ITEM_LENGTH_BYTES + length > left:
            self._skip(left - _ITEM.size)
        return length, context_id, header

    def _skip(self, count: int) -> None:
        """Read a PDU that means nothing to its end, so that the abort is what comes next; then raise."""
        self._connection.read(count)
        raise _Invalid

    def _answer(self, message: _Message) -> None:
        context = self._association._accepted_cx[message.context_id]
        arrival = Arrival(
            sop_class_uid=message.request.sop_class_uid,
            sop_instance_uid=message.request.sop_instance_uid,
            abstract_syntax=str(context.abstract_syntax),
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            encoded=message.content.getvalue(),  # shares the receive buffer: no copy of a large object is made
        )
        self._is_answering = True
        answer = self._store(self._association, arrival)
        self._provider._idle_timer.restart()
        self._is_answering = False
        peer_takes = self._association.dimse.maximum_pdu_size
        if answer.status == SUCCESS and not 0 < peer_takes < _LEAST_PDU:
            self._connection.send(_p_data(message.context_id, encode_success(message.request)))
        else:
            self._association.dimse.send_msg(_response(message.request, answer), message.context_id)

    def _forget(self) -> None:
        """Keep nothing of a message that was taken over or will not be whole: ended associations stay for a while."""
        self._message = None

    def _leave_to_pynetdicom(self, begun: bytes | bytearray = b"") -> None:
        self._connection.unread(bytes(begun))
        self._read_otherwise()


def _p_data(context_id: int, command: bytes) -> bytes:
    """A P-DATA-TF PDU that holds a whole command."""
    item = _ITEM.pack(len(command) + _ITEM.size - _ITEM_LENGTH_BYTES, context_id, _COMMAND | _LAST) + command
    return _PDU.pack(P_DATA_TF, len(item)) + item


def _response(request: StoreRequest, answer: Answer) -> C_STORE:
    response = cast(Any, C_STORE())
    response.MessageIDBeingRespondedTo = request.message_id
    response.AffectedSOPClassUID = UID(request.sop_class_uid)
    response.AffectedSOPInstanceUID = UID(request.sop_instance_uid)
    response.Status = answer.status
    if answer.comment:
        response.ErrorComment = answer.error_comment
    return cast(C_STORE, response)
