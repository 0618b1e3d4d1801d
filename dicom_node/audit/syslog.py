"""The audit trail to a syslog server: RFC 5424 messages over TLS (RFC 5425), UDP (RFC 5426) or plain TCP (RFC 6587).

Syslog acknowledges nothing. Over TLS and TCP each batch therefore has a connection of its own, and counts as delivered
only when the server has closed its side after ours and its system has acknowledged every byte. A server that closes
with something unread, because it does not like our certificate, say, makes its system reset the connection. Not all
servers end TLS with a close_notify (RFC 5425 4.4; rsyslog with GnuTLS does not), so that alone tells nothing. Over UDP
nobody knows.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Final
from urllib.parse import SplitResult

from dicom_node.audit.messages import SUCCESS, AuditMessage
from dicom_node.errors import SettingsError
from dicom_node.settings import AuditTable
from dicom_node.tls import client_context

ANSWER_SECONDS: Final = 10.0
_AUTHPRIV: Final = 10  # PS3.15 A.6: facility 10, security and authorisation
_NOTICE, _WARNING = 5, 4
_APPLICATION = "dicom-node"
_MESSAGE_ID = "DICOM+RFC3881"  # PS3.15 A.6
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # RFC 5424 6.4: the message is UTF-8


def syslog_message(message: AuditMessage) -> bytes:
    """An audit message as RFC 5424 has it."""
    severity = _NOTICE if message.outcome == SUCCESS else _WARNING
    at = datetime.fromtimestamp(message.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = "".join(letter for letter in message.host if "!" <= letter <= "~")[:255] or "-"
    header = f"<{_AUTHPRIV * 8 + severity}>1 {at} {host} {_APPLICATION} {message.process} {_MESSAGE_ID} - "
    return header.encode("ascii") + _BYTE_ORDER_MARK + message.xml


class SyslogServer:
    """Sends messages.

    Args:
        table: ``[audit]``, with ``syslog``.

    Raises:
        SettingsError: A file for TLS cannot be used.
    """

    def __init__(self, table: AuditTable) -> None:
        server = table.syslog_server
        if server is None:
            raise SettingsError("[audit] names no syslog server")
        self._server: SplitResult = server
        self._credentials = table.credentials if server.scheme == "tls" else None
        if self._credentials is not None:
            client_context(self._credentials)

    def write(self, messages: Sequence[AuditMessage]) -> None:
        """Send messages.

        Raises:
            OSError: The server did not take all of them; some may have arrived.
            SettingsError: A file for TLS cannot be used any more.
        """
        encoded = [syslog_message(message) for message in messages]
        if self._server.scheme == "udp":
            self._send_datagrams(encoded)
        else:
            self._send_stream(b"".join(b"%d %s" % (len(each), each) for each in encoded))

    @property
    def _address(self) -> tuple[str, int]:
        return str(self._server.hostname), int(self._server.port or 0)

    def _send_datagrams(self, encoded: Sequence[bytes]) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sender:
            sender.connect(address)
            for each in encoded:
                sender.send(each)

    def _send_stream(self, content: bytes) -> None:
        with closing(self._connected()) as connection:
            connection.sendall(content)
            _await_end(connection)
            _require_acknowledged(connection)

    def _connected(self) -> socket.socket:
        plain = socket.create_connection(self._address, timeout=ANSWER_SECONDS)
        if self._credentials is None:
            return plain
        try:
            # read each time: a certificate is renewed while the trail is written
            context = client_context(self._credentials)
            return context.wrap_socket(plain, server_hostname=str(self._server.hostname))
        except (OSError, SettingsError):
            plain.close()
            raise


def _await_end(connection: socket.socket) -> None:
    """Say that nothing more comes, and wait for the server to close its side."""
    if not isinstance(connection, ssl.SSLSocket):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
        return
    try:
        connection.unwrap()
    except OSError as error:
        # the stream ended without close_notify, which OpenSSL before 3.0 calls error number 0
        if not isinstance(error, ssl.SSLEOFError) and error.errno != 0:
            raise


def _require_acknowledged(connection: socket.socket) -> None:
    """Make sure that the server's system has every byte, and did not reset the connection over one (``tcp(7)``)."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        queued = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        # asked for after that: a reset empties the queue, too
        if failure := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionError(failure, "the server closed before it had read everything")
        if not queued:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "the server did not acknowledge everything")
        time.sleep(0.01)
