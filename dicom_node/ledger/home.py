"""One database, one home: machines that share a PostgreSQL have to share the folder too, under the same path.

Paths are on record as they are. A machine that mounted the share elsewhere, or not at all, would look for images where
none are, and write results where nobody finds them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from dicom_node.durable_file import make_directory_durably, write_durably
from dicom_node.errors import SettingsError
from dicom_node.ledger import database as db
from dicom_node.ledger.database import insert_or_nothing

MARK = "home.id"


def require_same_home(engine: sa.Engine, home: Path) -> None:
    """Make sure that this machine sees the home that the database belongs to; the first machine decides which.

    Args:
        engine: The ledger.
        home: ``[node] home``.

    Raises:
        SettingsError: The database belongs to a home at another path, or to another folder at this path.
    """
    path, mark = str(home.absolute()), _mark_of(home)
    with engine.begin() as connection:
        connection.execute(insert_or_nothing(connection, db.homes).values(id=1, path=path, mark=mark))
        recorded = connection.execute(sa.select(db.homes.c.path, db.homes.c.mark)).one()
    if recorded.path != path:
        raise SettingsError(
            f"[node] home is {path} here, but the machine that began with this database has {recorded.path}: "
            "mount the shared folder at the same path on every machine"
        )
    if recorded.mark != mark:
        raise SettingsError(
            f"[node] home {path} is not the folder that belongs to this database: mount the shared folder there"
        )


def _mark_of(home: Path) -> str:
    """What tells this home from any other; made by whoever comes first."""
    mark = home / MARK
    make_directory_durably(home)
    if not mark.exists():
        candidate = home / f".{uuid4().hex}.part"
        write_durably(candidate, [uuid4().hex.encode()])
        with suppress(FileExistsError):  # another machine was quicker; its mark counts then
            os.link(candidate, mark)
        candidate.unlink()
    return mark.read_text(encoding="ascii").strip()
