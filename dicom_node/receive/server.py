"""The listening sockets: who may hold a connection, and the TLS handshake, beside the loop that accepts.

pynetdicom shakes hands inside that loop: a client that connects and says nothing would keep everybody else out.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.logs import get_logger
from dicom_node.receive.admission import may_call
from dicom_node.receive.renewal import Renewed
from dicom_node.settings import LimitsTable, Settings
from dicom_node.tls import reason_of

_log = get_logger("receive")
_LOG_SECONDS: Final = 10.0
_STRANGERS_SHARE: Final = 8


@dataclass
class _Open:
    """A connection; without an association while it is being set up."""

    address: str
    is_stranger: bool
    association: Association | None = None

    @property
    def is_over(self) -> bool:
        return self.association is not None and not (self.association.is_alive() or self.association.dul.is_alive())


class ConnectionGate:
    """Which connections are open, and whether there may be one more.

    Those whose address no peer has may connect, to be told by an A-ASSOCIATE-RJ that they are not known, but all of
    them together hold an eighth of the connections at most.

    Args:
        settings: The limits, and the addresses of the peers.
        now: A clock that never goes back, in seconds.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._limits: LimitsTable = settings.limits
        self._peers = settings.peers
        self._now = now
        self._open: dict[object, _Open] = {}
        self._lock = threading.Lock()
        self._logged_at = -_LOG_SECONDS
        self._unlogged = 0

    def enter(self, key: object, address: str) -> bool:
        """Count a new connection; False where it is one too many.

        Args:
            key: What identifies it.
            address: The IP address it comes from.
        """
        is_stranger = not may_call(address, self._peers)
        with self._lock:
            self._open = {other: entry for other, entry in self._open.items() if not entry.is_over}
            reason = self._lack(address, is_stranger)
            if reason is None:
                self._open[key] = _Open(address, is_stranger)
                return True
            self._log_seldom(reason, address)
            return False

    def hand_over(self, key: object, association: Association) -> None:
        """From here on the connection lasts as long as its association's threads."""
        with self._lock:
            if key in self._open:
                self._open[key].association = association

    def leave(self, key: object) -> None:
        """A connection ended before it had an association."""
        with self._lock:
            self._open.pop(key, None)

    def _lack(self, address: str, is_stranger: bool) -> str | None:
        entries, limits = self._open.values(), self._limits
        if len(entries) >= limits.connections:
            return f"{limits.connections} connections are open: [limits] connections"
        if sum(entry.address == address for entry in entries) >= limits.connections_per_address:
            return f"{limits.connections_per_address} come from one address: [limits] connections_per_address"
        if is_stranger and sum(entry.is_stranger for entry in entries) >= max(
            1, limits.connections // _STRANGERS_SHARE
        ):
            return "too many come from addresses that no [[peer]] has"
        return None

    def _log_seldom(self, reason: str, address: str) -> None:
        """One line in ten seconds: whoever floods the port shall not flood the log."""
        self._unlogged += 1
        if self._now() - self._logged_at >= _LOG_SECONDS:
            _log.warning("connection refused", reason=reason, address=address, times=self._unlogged)
            self._logged_at, self._unlogged = self._now(), 0


class _Handler(RequestHandler):
    """Starts the association of a connection, and tells the gate."""

    def handle(self) -> None:
        server = cast(GatedServer, self.server)
        super().handle()
        server.gate.hand_over(server.key_of(self.client_address), self._association)

    def _create_association(self) -> Association:
        self._association: Association = super()._create_association()
        return self._association


class GatedServer(ThreadedAssociationServer):
    """A listening socket behind a gate; handshakes run in a thread of each connection.

    Args:
        gate: Shared by all listening sockets of the node.
        renewed: The context of a port that speaks TLS; None for a plain one.
        handshake_seconds: How long a TLS handshake may take in all.
        on_failure: Told of a handshake that failed: address, and why.
        options: What pynetdicom's server takes; with ``ssl_context`` the port speaks TLS alone.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        *arguments: Any,
        gate: ConnectionGate,
        renewed: Renewed[ssl.SSLContext] | None,
        handshake_seconds: float,
        on_failure: Callable[[str, str], None],
        **options: Any,
    ) -> None:
        self.gate = gate
        self._renewed = renewed
        self._on_failure = on_failure
        self._handshake_seconds = handshake_seconds
        super().__init__(*arguments, **{"request_handler": _Handler, **options})

    def key_of(self, client_address: Any) -> object:
        """What identifies a connection at the gate."""
        return (self.server_address[1], *client_address[:2])

    def get_request(self) -> Any:
        """Accept a connection, and no more than that."""
        return cast(Any, self.socket).accept()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether a connection may stay open."""
        return self.gate.enter(self.key_of(client_address), client_address[0])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, and start the association."""
        key = self.key_of(client_address)
        try:
            if self._renewed is not None:
                request = self._secured(request, self._renewed.current())
        except OSError as error:
            _log.warning("TLS handshake failed", reason=reason_of(error), address=client_address[0])
            self._on_failure(client_address[0], reason_of(error))
            self.shutdown_request(request)
            self.gate.leave(key)
            return
        super().process_request_thread(request, client_address)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """An association could not be started (no thread left, say): the connection is closed and counts no more."""
        _log.exception("association not started", address=client_address[0])
        self.gate.leave(self.key_of(client_address))

    def _secured(self, connection: Any, context: ssl.SSLContext) -> ssl.SSLSocket:
        connection.settimeout(self._handshake_seconds)  # of the whole handshake, not of each message
        secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        try:
            secured.do_handshake()
        except OSError:
            secured.close()
            raise
        return secured
