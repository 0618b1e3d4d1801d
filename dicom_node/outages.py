"""What stops work for a while and is no fault of what is worked on: no database server, no room on the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError, OperationalError

from dicom_node.errors import StorageFull

FIRST_PAUSE_SECONDS: Final = 1.0
GROWTH: Final = 1.5
LONGEST_PAUSE_SECONDS: Final = 30.0
LOOK_AGAIN_SECONDS: Final = 5.0
"""Before a loop that looks for work does so again."""
_OF_SQLITE: Final = {
    "SQLITE_FULL": "there is no room on the disk of the database",
    # a full disk where a file is begun, grown or synced: the log, its index, the journal (sqlite.org/rescode.html)
    "SQLITE_CANTOPEN": "the database cannot be opened, perhaps for want of room",
    **dict.fromkeys(
        ["SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_IOERR_TRUNCATE",
         "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMMAP"],
        "the database cannot be written, perhaps for want of room",
    ),
    "SQLITE_BUSY": "another process has held the database for too long",
}  # fmt: skip


def outage_of(error: BaseException) -> str | None:
    """In words, what is away, where an error says that it may come back by itself or by a person; None for others.

    Rather than that it refuses us: PostgreSQL's classes 08 (connection), 53 (resources) and 57 (operator) count
    (PostgreSQL appendix A), and SQLite's answers to a disk without room.
    """
    if isinstance(error, StorageFull):
        return error.message
    if not isinstance(error, DBAPIError):
        return None
    if isinstance(error.orig, sqlite3.Error):
        return outage_of_sqlite(error.orig)
    state = getattr(error.orig, "sqlstate", None) or ""
    is_away = error.connection_invalidated or (
        isinstance(error, OperationalError) and state[:2] in {"", "08", "53", "57"}
    )
    return "the database server does not answer" if is_away else None


def outage_of_sqlite(error: sqlite3.Error) -> str | None:
    """As :func:`outage_of`, of what SQLite itself says."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return next((words for code, words in _OF_SQLITE.items() if name.startswith(code)), None)


def pauses() -> Iterator[float]:
    """Seconds before each further try, without end: growing, and never so long that a person would wait for it."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * GROWTH, LONGEST_PAUSE_SECONDS)
