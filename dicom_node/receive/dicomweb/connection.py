"""One HTTP connection: requests are read by h11, each within limits of size and time, and answered one after another.

A thread serves each connection, as it does for an association: what it waits for is the disk.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import h11

from dicom_node.receive.dicomweb.store_request import RequestRefused
from dicom_node.settings import LimitsTable

MOST_HEADER_BYTES: Final = 16 * 1024
KEEP_ALIVE_SECONDS: Final = 30.0
"""How long a connection may wait for its next request."""
_READ_BYTES: Final = 256 * 1024
_ALLOWANCE_BYTES: Final = 1 << 20
_LINGER_SECONDS: Final = 2.0


@dataclass(frozen=True)
class HttpAnswer:
    """Status, content type, body and further headers of a response."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]


class HttpConnection:
    """Reads requests from a socket and writes responses to it.

    Args:
        connection: The socket; TLS is set up already.
        limits: ``negotiation_seconds`` for the head of a request, ``pdu_seconds`` for each MiB of its body.
    """

    def __init__(self, connection: socket.socket, limits: LimitsTable) -> None:
        self._socket = connection
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)
        self._is_first = True
        self._has_body = True
        self._waits_for_caller = False

    @property
    def waits_for_caller(self) -> bool:
        """Whether it is the caller's turn; else something is being stored or answered."""
        return self._waits_for_caller

    def next_request(self) -> h11.Request | None:
        """The head of the next request; None where there is none and the connection is over.

        Raises:
            RequestRefused: It is not HTTP, too long, or not there in time.
        """
        if not self._is_first:
            self._http.start_next_cycle()
            if not self._http.trailing_data[0] and not self._has_begun(KEEP_ALIVE_SECONDS):
                return None
        self._is_first = False
        deadline = time.monotonic() + self._limits.negotiation_seconds
        event = self._next_event(lambda: deadline - time.monotonic())
        if not isinstance(event, h11.Request):
            return None
        self._has_body = event.method != b"HEAD"
        return event

    def body(self) -> Iterator[bytes]:
        """The body of the request in pieces; who waits for 100 Continue is told to go on.

        Raises:
            RequestRefused: It is cut short, is not HTTP, or comes too slowly.
        """
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        waited, arrived = 0.0, 0

        def left() -> float:
            return self._limits.pdu_seconds - waited

        while True:
            began = time.monotonic()
            event = self._next_event(left)
            waited += time.monotonic() - began
            if not isinstance(event, h11.Data):
                return
            arrived += len(event.data)
            if arrived >= _ALLOWANCE_BYTES:
                waited, arrived = 0.0, 0
            yield bytes(event.data)

    def answer(self, answer: HttpAnswer) -> bool:
        """Send a response; whether the connection may have another request."""
        goes_on = self._http.their_state is h11.DONE
        headers = {
            **answer.headers,
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            **({} if goes_on else {"Connection": "close"}),
        }
        if not self._may_answer:
            return False
        head = h11.Response(status_code=answer.status, headers=list(headers.items()))
        body = h11.Data(data=answer.body if self._has_body else b"")
        sent = [self._http.send(head), self._http.send(body), self._http.send(h11.EndOfMessage())]
        self._write(b"".join(piece for piece in sent if piece))
        return goes_on and self._http.our_state is h11.DONE

    def close(self) -> None:
        """End the connection so that an answer arrives whole though the caller may still be sending.

        A socket closed with bytes unread is reset, and the answer lost with it.
        """
        self._waits_for_caller = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + _LINGER_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(_READ_BYTES):
                    break
        self._socket.close()

    def interrupt(self) -> None:
        """Cut the connection: whoever waits for it finds it closed."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # TLS would forget its state under the reader

    @property
    def _may_answer(self) -> bool:
        return self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}

    def _next_event(self, left: Callable[[], float]) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self._read(left()))
        except h11.RemoteProtocolError as error:
            raise RequestRefused(error.error_status_hint, f"not HTTP as announced: {error}") from error
        except TimeoutError as error:
            raise RequestRefused(408, "the request did not arrive in time") from error
        return event

    def _read(self, seconds: float) -> bytes:
        if seconds <= 0:
            raise TimeoutError
        self._socket.settimeout(seconds)
        self._waits_for_caller = True
        try:
            return self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise
        except (ssl.SSLEOFError, ConnectionError):
            return b""
        finally:
            self._waits_for_caller = False

    def _has_begun(self, seconds: float) -> bool:
        try:
            content = self._read(seconds)
        except TimeoutError:
            return False
        self._http.receive_data(content)
        return bool(content)

    def _write(self, content: bytes | None) -> None:
        if content:
            self._socket.settimeout(self._limits.pdu_seconds)
            self._socket.sendall(content)
