"""Files that are read anew when they have changed: what a hospital renews while the node runs."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.settings import CredentialsTable, TlsTable
from dicom_node.tls import server_context

log = get_logger("receive")
Stamp = tuple[int, int, int, int] | None
"""What tells that a file has changed: inode, size, and both its times; None where it is not there."""


def stamp_of(path: Path) -> Stamp:
    """What a file looks like now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class RenewedContext:
    """The context of a port that speaks TLS, made anew when one of its files has changed.

    While what they hold now cannot be used (a certificate that was replaced before its key), the context made last
    stays good, and the log says why.

    Args:
        table: The files.
        adapt: Changes each context after it is made.

    Raises:
        SettingsError: A file cannot be used.
    """

    def __init__(self, table: TlsTable, adapt: Callable[[ssl.SSLContext], None] = lambda _: None) -> None:
        self._table = table
        self._adapt = adapt
        self._lock = threading.Lock()
        self._stamps = self._stamps_now()
        self._context = self._made()
        self._complaint = ""

    def current(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        with self._lock:
            stamps = self._stamps_now()
            if stamps != self._stamps:
                self._renew(stamps)
            return self._context

    def _renew(self, stamps: list[Stamp]) -> None:
        """Read the files; what cannot be read is tried again at the next handshake, and told once."""
        try:
            self._context = self._made()
        except (SettingsError, OSError) as error:
            if str(error) != self._complaint:
                log.error("files for TLS cannot be used, those read before stay good", reason=str(error))  # noqa: TRY400
            self._complaint = str(error)
            return
        self._stamps = stamps  # taken before reading: a change in between is seen by the next handshake
        self._complaint = ""
        log.info("files for TLS read anew")

    def _made(self) -> ssl.SSLContext:
        context = server_context(self._table)
        self._adapt(context)
        return context

    def _stamps_now(self) -> list[Stamp]:
        named = [getattr(self._table, key) for key in CredentialsTable.model_fields]
        return [stamp_of(path) for path in named if path is not None]
