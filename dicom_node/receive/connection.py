"""One connection of the listener: how it is read, and for how long.

pynetdicom reads as much as a PDU header claims, up to 4 GiB, from anybody, in pieces of 4 KiB, and waits between any
two of them as long as between the first two. Here a PDU has a size and a time as a whole.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from dicom_node.logs import get_logger
from dicom_node.receive.messages import MessageGuard, MessageRefused, ReceivingMemory
from dicom_node.settings import LimitsTable

MAXIMUM_PDU: Final = 1 << 20
"""Largest PDU we announce (PS3.8 D.1). Larger than the usual 16 KiB: fewer turns of pynetdicom's polling loop."""
ABORT_SECONDS: Final = 2.0
"""How long an A-ABORT may take to leave before a stop cuts its connection."""
_HEADER_BYTES: Final = 6
_KNOWN_PDUS: Final = range(0x01, 0x08)  # PS3.8 9.3.1
P_DATA_TF: Final = 0x04
_log = get_logger("receive")


class GuardedSocket(AssociationSocket):
    """The connection of an association, in the place of pynetdicom's own.

    Args:
        plain: The connection as pynetdicom has wrapped it; not used by anybody else from here on.
        limits: The time limits.
        memory: What all associations share.
        now: A clock that never goes back, in seconds.
    """

    def __init__(
        self,
        plain: AssociationSocket,
        limits: LimitsTable,
        memory: ReceivingMemory,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        vars(self).update(vars(plain))
        self._limits = limits
        self._now = now
        self.guard = MessageGuard(limits, memory, now, self.assoc.is_alive)
        self._deadline = now() + limits.negotiation_seconds
        self._is_first = True
        self._has_request = False
        self._is_over = False
        self._header = b""
        self._early = b""
        self._pdu_header = bytearray()
        self._allowed: float | None = None
        self._storing = False
        self._forget_otherwise: Callable[[], None] = lambda: None
        self._tune()

    @property
    def certificate_socket(self) -> ssl.SSLSocket | None:
        """The TLS connection, which knows the peer's certificate; None where the connection is a plain one."""
        return self.socket if isinstance(self.socket, ssl.SSLSocket) else None

    @contextmanager
    def storing(self) -> Iterator[None]:
        """While an instance is being stored nothing further is read: at most one lies in memory beside it."""
        self._storing = True
        try:
            yield
        finally:
            self.guard.release()
            self._storing = False

    @property
    def ready(self) -> bool:
        """Whether a PDU begins to arrive, and there is room for it.

        One request is answered after the other, so a peer that does not wait for the answer waits here. Over TLS the
        socket is readable also when part of a record came, or a message of TLS itself: reading would then block the
        thread that has to send our answer, so the first byte is fetched without waiting.
        """
        if self._is_over or self._storing or self.assoc.dimse.msg_queue.qsize():
            return False
        if self._early:
            return True
        if not super().ready:
            return False
        return not isinstance(self.socket, ssl.SSLSocket) or self._has_begun(self.socket)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read the header or the rest of a PDU, as pynetdicom does; fewer bytes when the peer closes.

        Raises:
            OSError: The PDU is longer than we announced, or not complete in time, or its message is beyond a limit;
                pynetdicom then closes the connection.
        """
        try:
            content = self._recv(nr_bytes)
        except OSError as error:
            self.give_up(error)
            raise
        if len(content) < nr_bytes:
            self.end()
        return content

    def read_header(self) -> tuple[int, int]:
        """Begin to read a PDU: its type, and the bytes of its variable field; its time runs from here.

        Raises:
            OSError: As :meth:`recv` does, and where the peer closes.
        """
        self._restart_clock()
        self._pdu_header = self.read(_HEADER_BYTES)
        kind, length = self._pdu_header[0], int.from_bytes(self._pdu_header[2:], "big")
        if kind == P_DATA_TF and length > MAXIMUM_PDU:
            raise _too_long(length)
        return kind, length

    def read(self, count: int) -> bytearray:
        """Read so many bytes of the PDU that was begun.

        Raises:
            OSError: As :meth:`recv` does, and where the peer closes.
        """
        content = self._read(count)
        if len(content) < count:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the peer closed the connection in the middle of a PDU")
        return content

    def when_over(self, forget: Callable[[], None]) -> None:
        """Have something called when no message will become whole any more; maybe more than once."""
        self._forget_otherwise = forget

    def unread(self, begun: bytes = b"") -> None:
        """Give the header of the PDU back, and what was read of it: :meth:`recv` begins with them."""
        self._early = bytes(self._pdu_header) + begun + self._early

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; a peer that does not read for as long as it may take to send one is cut off."""
        with suppress(OSError):  # closed meanwhile: pynetdicom finds out as it sends
            self._allow(self._limits.pdu_seconds)
        super().send(bytestream)

    def close(self) -> None:
        """Close the connection for certain: pynetdicom leaves a socket open that the peer has closed before."""
        connection = self.socket
        super().close()
        if connection is not None:
            connection.close()
        self._forget_message()

    @property
    def has_request(self) -> bool:
        """Whether an association was asked for; before that there is nothing to abort (PS3.8 9.2, state 2)."""
        return self._has_request

    def note_request(self) -> None:
        """The association learnt that it was asked for."""
        self._has_request = True

    def cut(self, reason: str) -> None:
        """End the connection because of what the peer sent; the provider's thread alone may call it."""
        self._log_cut(MessageRefused(reason))
        self.close()
        self.end()

    def interrupt(self) -> None:
        """Cut the connection: who waits for the peer finds it closed."""
        connection = self.socket
        if connection is not None:
            with suppress(OSError):  # the peer has closed it already
                connection.shutdown(socket.SHUT_RDWR)

    def give_up(self, error: OSError) -> None:
        """Reading failed: nothing more is read."""
        self._log_cut(error)
        self.end()

    def _log_cut(self, error: OSError) -> None:
        if isinstance(error, MessageRefused | TimeoutError):
            reason = str(error) if isinstance(error, MessageRefused) else "a PDU was not complete in time"
            requestor = self.assoc.requestor
            _log.warning("connection cut", reason=reason, calling_ae=requestor.ae_title, address=requestor.address)

    def end(self) -> None:
        """Nothing more is read; the wait for an association request that will not come is ended.

        It would hold two threads until its time is up. The association takes None for a wait in vain, and ends.
        """
        self._is_over = True
        self._forget_message()
        if not self._has_request:
            self.assoc.dul.to_user_queue.put(cast(Any, None))

    def _forget_message(self) -> None:
        """Free what came of a message that will not be whole: pynetdicom keeps ended associations for half a minute."""
        self.assoc.dimse.message = None
        self._forget_otherwise()
        self.guard.release()

    def _recv(self, count: int) -> bytearray:
        if self._header:
            kind, self._header = self._header[0], b""
            if count > MAXIMUM_PDU:
                raise _too_long(count)
            body = self._read(count)
            if kind == P_DATA_TF:
                self.guard.take(body)
            return body
        self._restart_clock()
        header = self._read(count)
        if len(header) == _HEADER_BYTES and header[0] in _KNOWN_PDUS:
            self._header = bytes(header)
        return header

    def _restart_clock(self) -> None:
        if not self._is_first:
            self._deadline = self._now() + self._limits.pdu_seconds
        self._is_first = False

    def _read(self, count: int) -> bytearray:
        connection = cast(socket.socket, self.socket)
        content = bytearray(count)
        filled = min(count, len(self._early))
        if filled:
            content[:filled], self._early = self._early[:filled], self._early[filled:]
        view = memoryview(content)
        while filled < count:
            left = self._deadline - self._now()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "a PDU was not complete in time")
            self._allow(left)
            received = connection.recv_into(view[filled:])
            if not received:
                return content[:filled]
            filled += received
        return content

    def _has_begun(self, connection: ssl.SSLSocket) -> bool:
        try:
            self._allow(0.0)
            self._early = connection.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            return True  # reading tells pynetdicom
        return True

    def _allow(self, seconds: float) -> None:
        """Have a call on the connection wait so long at most, or up to a second longer: to say so is a system call."""
        if self._allowed is not None and 0 < seconds <= self._allowed <= seconds + 1.0:
            return
        cast(socket.socket, self.socket).settimeout(seconds)
        self._allowed = seconds

    def _tune(self) -> None:
        connection = cast(socket.socket, self.socket)
        # Without this every C-STORE response waits for the peer's delayed acknowledgement, some 40 ms.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._allow(self._limits.pdu_seconds)


def _too_long(length: int) -> MessageRefused:
    return MessageRefused(f"a PDU of {length} bytes came, {MAXIMUM_PDU} are allowed")


def guard_connection(association: Association, limits: LimitsTable, memory: ReceivingMemory) -> None:
    """Put a guarded connection in the place of an association's own; before its threads run."""
    association.dul.socket = GuardedSocket(cast(Any, association.dul.socket), limits, memory)


def end_associations(associations: Sequence[Association]) -> None:
    """Abort associations side by side; one whose peer stopped in the middle of a PDU has its connection cut.

    The thread that would send the A-ABORT is then waiting for the rest of the PDU, for as long as that may take.
    """
    enders = {
        association: threading.Thread(target=association.abort, daemon=True)
        for association in associations
        if guarded(association).has_request
    }
    for association in associations:
        if association not in enders:
            guarded(association).interrupt()
    for ender in enders.values():
        ender.start()
    deadline = time.monotonic() + ABORT_SECONDS
    for association, ender in enders.items():
        ender.join(timeout=max(0.0, deadline - time.monotonic()))
        if ender.is_alive():
            guarded(association).interrupt()
    for ender in enders.values():
        ender.join(timeout=ABORT_SECONDS)


def guarded(association: Association) -> GuardedSocket:
    """The guarded connection of an association."""
    return cast(GuardedSocket, association.dul.socket)
