"""Damaged databases: refused by name, and left as they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.sqlite_file import damage_of, require_sound

PAGE = 4096


def database(path: Path, rows: int = 2000) -> Path:
    """A database with a table of many pages, closed and without a log."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE images (uid TEXT PRIMARY KEY, path TEXT)")
        connection.executemany("INSERT INTO images VALUES (?, ?)", ((f"1.2.{row}", "x" * 100) for row in range(rows)))
    return path


def overwrite(path: Path, page: int, size: int = PAGE) -> None:
    """Garbage in the place of a page, counted from 0, or of its beginning."""
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xa5" * size)


def middle(path: Path) -> int:
    """The page in the middle of a file."""
    return path.stat().st_size // PAGE // 2


def test_a_sound_database_and_one_that_is_not_there_yet_pass(tmp_path: Path) -> None:
    require_sound(database(tmp_path / "sound.sqlite"))
    require_sound(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize("where", ["header", "middle"])
def test_a_damaged_database_is_refused_and_left_as_it_is(tmp_path: Path, where: str) -> None:
    path = database(tmp_path / "node.sqlite")
    overwrite(path, 0, 100) if where == "header" else overwrite(path, middle(path))
    content = path.read_bytes()
    with pytest.raises(SettingsError, match=r"node.sqlite is damaged .*restore it from a backup") as caught:
        require_sound(path)
    assert caught.value.exit_code == 2
    assert path.read_bytes() == content


def test_damage_is_told_from_what_passes(tmp_path: Path) -> None:
    path = database(tmp_path / "node.sqlite")
    with closing(sqlite3.connect(path)) as holder, closing(sqlite3.connect(path, timeout=0)) as other:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked") as locked:
            other.execute("BEGIN IMMEDIATE")
    assert damage_of(locked.value) is None
    overwrite(path, 0, 100)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError) as damaged:
        connection.execute("SELECT * FROM images")
    assert damage_of(RuntimeError("wrapped")) is None
    assert damage_of(damaged.value) == "file is not a database"
