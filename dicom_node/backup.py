"""Backup and restore of a node on SQLite.

The ledger alone is copied: it says what was received and how far each case has come. The workflows that carry cases out
are not: after a restore unfinished cases begin anew from the ledger, so no two files have to be of one moment.
Images are copied where that is asked for; otherwise the spool has to outlive what the database did not.

A restored ledger is older than the world. Images that were acknowledged since the backup, and lie in the spool, are put
on record again; and before a result is sent, its destination is asked whether it has it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pydicom
import sqlalchemy as sa
from pydicom.errors import InvalidDicomError

from dicom_node import __version__
from dicom_node.durable_file import file_sha256, fsync_directory, make_directory_durably, write_durably
from dicom_node.errors import InputRefused, SettingsError, UsageError
from dicom_node.ledger import database as db
from dicom_node.ledger.database import open_database, reading
from dicom_node.ledger.intake import Association, Instance, Intake
from dicom_node.ledger.restorations import Restorations
from dicom_node.ledger.retention import Retention
from dicom_node.logs import get_logger
from dicom_node.process import role_owner
from dicom_node.settings import Settings

_log = get_logger("backup")
LEDGER = "node.sqlite"
MANIFEST = "backup.json"
_PIECE = 1 << 20
_MOST = 1_000_000_000
_PATIENCE_SECONDS = 2.0
_MOVED_ASIDE = (LEDGER, "workflows.sqlite")


def back_up(settings: Settings, target: Path, now: float, *, images: bool) -> dict[str, object]:
    """Copy the ledger as it is at one moment, beside a running node too; the manifest is written last.

    Args:
        settings: Of the node.
        target: Folder to make.
        now: Seconds since the epoch.
        images: Whether every image on record is copied, and compared with what is on record.

    Returns:
        The manifest.

    Raises:
        UsageError: No node has run with this home yet, or there is something at the target.
        SettingsError: The database is PostgreSQL.
        InputRefused: An image is missing or not what is on record.
    """
    home = _sqlite_home(settings)
    if not (home / LEDGER).is_file():
        raise UsageError(f"no node has run here yet: there is no {home / LEDGER}")
    if target.exists():
        raise UsageError(f"{target} is there already: name a folder that is not")
    make_directory_durably(target)
    target.chmod(0o700)
    _copy_ledger(home / LEDGER, target / LEDGER)
    manifest: dict[str, object] = {
        "version": __version__,
        "made_at": now,
        "home": str(home),
        "ledger_sha256": file_sha256(target / LEDGER),
        "images": _copy_images(home, target) if images else None,
    }
    write_durably(target / MANIFEST, [json.dumps(manifest, indent=2).encode()])
    return manifest


def restore(settings: Settings, source: Path | None, now: float) -> dict[str, object]:
    """Bring a ledger back, and make it agree with the spool. What it replaces is moved aside in the home.

    Args:
        settings: Of the node, which must not run.
        source: What :func:`back_up` made; None where the database has been brought back already (``pg_restore``).
        now: Seconds since the epoch.

    Returns:
        What was done, in numbers.

    Raises:
        UsageError: A node runs with this home, or the source is no backup of it.
        InputRefused: The backup is damaged.
    """
    home = settings.node.home.absolute()
    with ExitStack() as stopped:
        for role in ("node", "listener", "worker"):
            stopped.enter_context(role_owner(home, role, patience_seconds=_PATIENCE_SECONDS))
        copied = 0
        if source is not None:
            _require_whole(source, _sqlite_home(settings))
            copied = _bring_back(source, home, now)
        database = open_database(settings.database_url)
        unfinished = Restorations(database).note(now, begin_anew=source is not None)
        found = _record_unknown(home / "spool", database, now)
        missing = sum(not Path(path).is_file() for path in _paths_on_record(database))
        database.dispose()
    return {
        "unfinished_cases": unfinished,
        "images_copied": copied,
        "images_found_in_the_spool": found,
        "images_missing": missing,
    }


def _sqlite_home(settings: Settings) -> Path:
    if settings.node.database is not None:
        raise SettingsError("[node] database is a server's: back it up with pg_dump, bring it back with pg_restore")
    return settings.node.home.absolute()


def _copy_ledger(ledger: Path, target: Path) -> None:
    """Copy a database in use by SQLite's own online backup, as one file without a log beside it."""
    write_durably(target, [])
    with (
        closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise InputRefused(f"{ledger} is damaged ({verdict}): this is no backup")
    fsync_directory(target.parent)


def _copy_images(home: Path, target: Path) -> int:
    """Copy what the copied ledger has on record; returns how many."""
    with closing(sqlite3.connect(target / LEDGER)) as ledger:
        rows = ledger.execute("SELECT path, sha256 FROM instances").fetchall()
    for path, sha256 in rows:
        copy = target / Path(path).relative_to(home)
        try:
            write_durably(copy, _pieces(Path(path)))
        except FileNotFoundError as error:
            raise InputRefused(f"{path} is on record, but not there: back up again, or without --images") from error
        if file_sha256(copy) != sha256:
            raise InputRefused(f"{path} is not the file that is on record")
    return len(rows)


def _require_whole(source: Path, home: Path) -> None:
    try:
        manifest = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{source} is no whole backup: its {MANIFEST} cannot be read") from error
    if manifest["home"] != str(home):
        raise UsageError(f"{source} is a backup of {manifest['home']}, where its images lie: restore it with that home")
    if file_sha256(source / LEDGER) != manifest["ledger_sha256"]:
        raise InputRefused(f"{source / LEDGER} is not the file that was backed up")


def _bring_back(source: Path, home: Path, now: float) -> int:
    """Put ledger and images in place; returns how many images. Safe to repeat after a kill."""
    images = 0
    for path in sorted((source / "spool").rglob("*.dcm")):
        place = home / path.relative_to(source)
        if not place.is_file():
            write_durably(place, _pieces(path))
            images += 1
    aside = home / f"before-restore-{now:.0f}"
    make_directory_durably(aside)
    for name in _MOVED_ASIDE:
        for old in (home / f"{name}{suffix}" for suffix in ("-shm", "-wal", "")):
            if old.exists():  # a log that stayed would be taken for the restored file's own
                old.rename(aside / old.name)
    fsync_directory(home)
    write_durably(home / LEDGER, _pieces(source / LEDGER))
    return images


def _record_unknown(spool: Path, database: sa.Engine, now: float) -> int:
    """Put images that lie in the spool, but are not on record, on record; returns how many."""
    intake = Intake(database)
    leaving = set(Retention(database).leaving(_MOST))
    unknown = (path for path in sorted(spool.rglob("*.dcm")) if path.stem not in leaving)
    found = [item for path in unknown if intake.find(path.stem) is None for item in _described(path, now)]
    for calling_ae in sorted({sender for sender, _ in found}):
        association = Association(str(uuid4()), "restore", calling_ae, "127.0.0.1", now)
        intake.open_association(association)
        for sender, instance in found:
            if sender == calling_ae:
                intake.record(replace(instance, association_id=association.association_id))
        intake.close_association(association.association_id, now)
    return len(found)


def _described(path: Path, now: float) -> Iterator[tuple[str, Instance]]:
    """Who sent a file of the spool, and how it goes on record; nothing where it cannot be read."""
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        sender = str(dataset.file_meta.get("SourceApplicationEntityTitle", ""))[:16]
        yield (
            sender,
            Instance(
                sop_instance_uid=str(dataset.SOPInstanceUID),
                sop_class_uid=str(dataset.SOPClassUID),
                study_instance_uid=str(dataset.StudyInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
                path=str(path),
                sha256=file_sha256(path),
                size=path.stat().st_size,
                received_at=min(path.stat().st_mtime, now),
                association_id="",
            ),
        )
    except (InvalidDicomError, AttributeError, OSError) as error:
        _log.warning("file of the spool left alone", path=str(path), error=type(error).__name__)


def _paths_on_record(database: sa.Engine) -> list[str]:
    with reading(database) as connection:
        return list(connection.execute(sa.select(db.instances.c.path)).scalars())


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
