"""The listening socket of the store service, behind the gate that counts the connections of the whole listener."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.receive.dicomweb.connection import HttpConnection
from dicom_node.receive.dicomweb.service import StoreService
from dicom_node.receive.renewal import Renewed, renewed_context
from dicom_node.receive.server import ConnectionGate
from dicom_node.settings import Settings
from dicom_node.tls import peer_certificate, reason_of

_log = get_logger("receive")
_END_SECONDS: Final = 2.0


class StoreServer(socketserver.ThreadingTCPServer):
    """Serves the store service, a thread to each connection.

    Args:
        settings: ``[dicomweb]`` says where, ``[tls]`` how.
        service: Answers the requests.
        gate: Shared by all listening sockets of the node.
        port: Port to bind; 0 for any free one.
        on_failure: Told of a TLS handshake that failed: address, and why.

    Raises:
        SettingsError: The address and port cannot be bound, or a file for TLS cannot be used.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        settings: Settings,
        service: StoreService,
        gate: ConnectionGate,
        port: int,
        on_failure: Callable[[str, str], None],
    ) -> None:
        self._on_failure = on_failure
        self._settings = settings
        self._service = service
        self._gate = gate
        self._tls = _tls_context(settings)
        self._open: set[HttpConnection] = set()
        self._lock = threading.Lock()
        bind = settings.dicomweb.bind
        if ":" in bind:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((bind, port), socketserver.BaseRequestHandler)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {bind} port {port}: {error.strerror}; change [dicomweb] bind or port"
            ) from error

    def start(self) -> None:
        """Serve from a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.1,), name="listener-dicomweb", daemon=True).start()

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self.server_address[1])

    @property
    def is_serving(self) -> bool:
        """Whether any connection is open."""
        with self._lock:
            return bool(self._open)

    def stop_accepting(self) -> None:
        """Close the port; open connections go on."""
        self.shutdown()
        self.server_close()

    def end_connections(self) -> None:
        """Cut what is still open once what was stored is answered, and wait a moment for the threads that serve it."""
        _wait_until(lambda: all(connection.waits_for_caller for connection in self._still_open()))
        for connection in self._still_open():
            connection.interrupt()
        _wait_until(lambda: not self.is_serving)

    def _still_open(self) -> list[HttpConnection]:
        with self._lock:
            return list(self._open)

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether a connection may stay open."""
        return self._gate.enter(self._key(client_address), client_address[0])

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, and answer until the connection ends; in the thread of the connection."""
        try:
            secured = self._secured(request)
        except OSError as error:
            _log.warning("TLS handshake failed", reason=reason_of(error), address=client_address[0])
            self._on_failure(client_address[0], reason_of(error))
            return
        connection = HttpConnection(secured, self._settings.limits)
        with self._lock:
            self._open.add(connection)
        try:
            self._serve(connection, secured, client_address[0])
        finally:
            connection.close()
            with self._lock:
                self._open.discard(connection)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and count it no more when it has ended."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._gate.leave(self._key(client_address))

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """A connection could not be served (no thread left, say): it is closed and counts no more."""
        _log.exception("connection not served", address=client_address[0])
        self._gate.leave(self._key(client_address))

    def _serve(self, connection: HttpConnection, secured: socket.socket, address: str) -> None:
        over_tls = isinstance(secured, ssl.SSLSocket)
        certificate = peer_certificate(secured) if isinstance(secured, ssl.SSLSocket) else None
        try:
            self._service.serve(connection, address, over_tls=over_tls, certificate=certificate)
        except OSError as error:
            _log.info("connection ended", reason=str(error), address=address)
        except Exception:  # noqa: BLE001 - one connection's fault is not that of the listener
            _log.exception("connection ended", reason="internal error", address=address)

    def _secured(self, request: socket.socket) -> socket.socket:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return request
        request.settimeout(self._settings.limits.negotiation_seconds)
        secured = self._tls.current().wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        try:
            secured.do_handshake()
        except OSError:
            secured.close()
            raise
        return secured

    def _key(self, client_address: Any) -> object:
        return ("dicomweb", *client_address[:2])


def _wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, for a moment at most."""
    deadline = time.monotonic() + _END_SECONDS
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)


def _tls_context(settings: Settings) -> Renewed[ssl.SSLContext] | None:
    if not settings.dicomweb.tls or settings.tls is None:
        return None
    return renewed_context(settings.tls, _for_http)


def _for_http(context: ssl.SSLContext) -> None:
    # Whoever is known by a token has no need of a certificate; one that is shown has to be good.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
