"""Damaged SQLite files: told apart from everything that passes, and never written to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dicom_node.errors import SettingsError

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def require_sound(path: Path) -> None:
    """Read a database through before anything is written to it; about a second for a gigabyte.

    Args:
        path: The file; one that is not there, or is empty, is made by whoever opens it.

    Raises:
        SettingsError: It is damaged, or no database.
    """
    if not path.is_file():
        return
    try:
        with closing(
            sqlite3.connect(path, timeout=30.0)
        ) as connection:  # not read-only: a write-ahead log has to be taken in
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if damage_of(error) is None:
            raise
        raise SettingsError(damaged(str(path), str(error))) from error
    if found != "ok":
        raise SettingsError(damaged(str(path), " ".join(found.split())))


def damage_of(error: BaseException) -> str | None:
    """What SQLite says of a damaged file, among an error and those it came from; None where it says nothing such."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, sqlite3.Error) and str(getattr(cause, "sqlite_errorname", "")).startswith(_DAMAGE):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def damaged(what: str, reason: str) -> str:
    """The message for a damaged database."""
    return f"{what} is damaged ({reason}): restore it from a backup (dicom-node restore), or move it away"
