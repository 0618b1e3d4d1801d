"""A connection to the ledger that gives up soon: whoever asks whether it can be used must not wait until it can."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from dicom_node.errors import UsageError
from dicom_node.settings import Settings

PATIENCE_SECONDS = 2


def impatient_engine(settings: Settings) -> sa.Engine:
    """Connections are made anew for every question, never make a database, and end any wait after two seconds.

    Raises:
        UsageError: There is no database file.
    """
    url = sa.make_url(settings.database_url)
    if not url.drivername.startswith("sqlite"):
        options = f"-c statement_timeout={PATIENCE_SECONDS * 1000}"
        arguments = {"connect_timeout": PATIENCE_SECONDS, "options": options}
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    path = Path(str(url.database)).absolute()
    if not path.is_file():
        raise UsageError(f"there is no {path}: no node has run here, or its disk is gone")
    existing = f"sqlite:///file:{path}?mode=rw&uri=true"
    return sa.create_engine(existing, poolclass=sa.NullPool, connect_args={"timeout": PATIENCE_SECONDS})
