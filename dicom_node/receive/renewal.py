"""Files that are read anew when they have changed: what a hospital renews while the node runs."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.settings import CredentialsTable, TlsTable
from dicom_node.tls import server_context

log = get_logger("receive")
T = TypeVar("T")
Stamp = tuple[int, int, int, int] | None
"""What tells that a file has changed: inode, size, and both its times; None where it is not there."""


class Renewed(Generic[T]):
    """What some files hold, read anew when one of them has changed; for any number of threads.

    Args:
        what: The files, for the log.
        paths: Where they lie.
        first: Reads them for the first time.
        again: From what they held before: what counts now, and in words what of them cannot be used, if anything. While
            there is such a complaint they are read again each time; the log tells it once.

    Raises:
        SettingsError: As ``first`` does.
    """

    def __init__(
        self, what: str, paths: Iterable[Path], first: Callable[[], T], again: Callable[[T], tuple[T, str]]
    ) -> None:
        self._what = what
        self._paths = tuple(paths)
        self._again = again
        self._lock = threading.Lock()
        self._complaint = ""
        self._stamps = self._stamps_now()
        self._value = first()

    def current(self) -> T:
        """What they hold now."""
        with self._lock:
            stamps = self._stamps_now()
            if stamps != self._stamps:
                self._renew(stamps)
            return self._value

    def _renew(self, stamps: list[Stamp]) -> None:
        self._value, complaint = self._again(self._value)
        if not complaint:
            self._stamps = stamps  # taken before reading: a change in between is seen the next time
            log.info("read anew", files=self._what)
        elif complaint != self._complaint:
            log.error("files cannot be used, what was read before stays good", files=self._what, reason=complaint)
        self._complaint = complaint

    def _stamps_now(self) -> list[Stamp]:
        return [_stamp_of(path) for path in self._paths]


def renewed_context(
    table: TlsTable, adapt: Callable[[ssl.SSLContext], None] = lambda _: None
) -> Renewed[ssl.SSLContext]:
    """The context of a port that speaks TLS.

    While its files cannot be used (a certificate that was replaced before its key), the context made last stays good.

    Args:
        table: The files.
        adapt: Changes each context after it is made.

    Raises:
        SettingsError: A file cannot be used.
    """

    def made() -> ssl.SSLContext:
        context = server_context(table)
        adapt(context)
        return context

    def made_again(before: ssl.SSLContext) -> tuple[ssl.SSLContext, str]:
        try:
            return made(), ""
        except (SettingsError, OSError) as error:
            return before, str(error)

    named = (getattr(table, key) for key in CredentialsTable.model_fields)
    return Renewed("for TLS", (path for path in named if path is not None), made, made_again)


def _stamp_of(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
