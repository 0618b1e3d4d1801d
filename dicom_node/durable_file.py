"""Files that survive a power cut: written whole under their final name, or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from dicom_node.errors import StorageFull

_making = threading.RLock()
"""Held while a folder is made: it is there for everybody before it is recorded in its parent."""
_NO_ROOM_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_durably(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file so that, once this returns, it outlives kill -9 and power loss.

    Args:
        path: Final name; missing parent directories are made durably too.
        chunks: The content, in order.

    Raises:
        StorageFull: The disk or quota has no room; no trace of the attempt is left.
        OSError: Any other failure of the file system.
    """
    write_durably_with(path, lambda file: file.writelines(chunks))


def write_durably_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file as :func:`write_durably` does, by a function that is given the open file.

    The bytes go to a temporary name in the same directory, are fsynced, renamed onto ``path``, and the directory is
    fsynced. A crash before the rename leaves a ``.part`` file and never a half-written ``path``.

    Args:
        path: Final name; missing parent directories are made durably too.
        write: Writes the content.

    Raises:
        StorageFull: The disk or quota has no room; no trace of the attempt is left.
        OSError: Any other failure of the file system. Whatever ``write`` raises passes through, and leaves no trace.
    """
    make_directory_durably(path.parent)
    part = path.parent / f".{uuid4().hex}.part"
    with _no_room_said(path.name):
        try:
            with part.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except Exception:
            part.unlink(missing_ok=True)
            raise
        try:
            fsync_directory(path.parent)
        except Exception:
            path.unlink(missing_ok=True)  # a name that a power cut may take back is no name
            raise


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_directory_durably(path: Path) -> None:
    """Make a directory and its missing parents, each recorded in its own parent before this returns.

    Raises:
        StorageFull: The disk or quota has no room for it.
        OSError: Any other failure of the file system.
    """
    with _making:
        if path.is_dir():
            return
        make_directory_durably(path.parent)
        with _no_room_said(path.name):
            path.mkdir(exist_ok=True)
            try:
                fsync_directory(path.parent)
            except Exception:
                with suppress(OSError):  # somebody else may have put a file into it, and made it durable
                    path.rmdir()  # else whoever comes next would take it for recorded
                raise


def fsync_directory(path: Path) -> None:
    """Make the names inside a directory durable.

    Raises:
        StorageFull: The disk or quota has no room for them.
        OSError: Any other failure of the file system.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with _no_room_said(path.name):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _no_room_said(name: str) -> Iterator[None]:
    """Turn what says that a disk or a quota has no room into the node's own error."""
    try:
        yield
    except StorageFull:
        raise  # said already
    except Exception as error:
        if no_room := _no_room(error):
            raise StorageFull(f"no room to write {name}: {no_room.strerror}; free space and retry") from error
        raise


def _no_room(error: BaseException) -> OSError | None:
    """What says that there is no room, among an error and those it came from (writers wrap the system's errors)."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM_CODES:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
