"""The audit trail as a file: one message a line, for its owner alone, on the disk before this returns."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dicom_node.audit.messages import AuditMessage
from dicom_node.durable_file import fsync_directory, make_directory_durably
from dicom_node.errors import StorageFull

_PRIVATE: Final = 0o600
_FOREIGN: Final = 0o077
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class AuditFile:
    """Appends messages.

    The file is opened for each call, and made anew where it is missing: whoever rotates it renames it, and that is all.

    Args:
        path: Where it lies; missing folders are made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    def write(self, messages: Sequence[AuditMessage]) -> None:
        """Append messages, all of them or none, durably.

        Raises:
            StorageFull: The disk has no room; the file is as it was.
            OSError: It cannot be written.
        """
        make_directory_durably(self._path.parent)
        is_new = not self._path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, _PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_mode & _FOREIGN:
                os.fchmod(descriptor, _PRIVATE)
            self._append(descriptor, b"".join(message.xml + b"\n" for message in messages))
        finally:
            os.close(descriptor)
        if is_new:
            fsync_directory(self._path.parent)

    def _append(self, descriptor: int, content: bytes) -> None:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            content = b"\n" + content  # a power cut left half a line; it is told again, on a line of its own
        try:
            written = os.write(descriptor, content)
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)
            if error.errno in _NO_ROOM:
                raise StorageFull(f"no room for the audit trail {self._path}: {error.strerror}") from error
            raise
        if written < len(content):
            os.ftruncate(descriptor, size)
            raise StorageFull(f"no room for the audit trail {self._path}: it took {written} of {len(content)} bytes")
