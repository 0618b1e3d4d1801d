"""Statements given to the database's driver itself, for the few that every received image needs.

SQLAlchemy takes ten times as long to carry a statement of a known form to SQLite as SQLite to carry it out. Here it
still writes the statement, for whichever database it is, gives the connection and names the errors; between BEGIN and
COMMIT the driver's own cursor is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa


class Prepared:
    """A statement in the words of one database.

    Args:
        statement: With a ``bindparam`` for each value.
        engine: Of the database.
    """

    def __init__(self, statement: sa.sql.expression.ClauseElement, engine: sa.Engine) -> None:
        compiled: Any = statement.compile(dialect=engine.dialect)
        self._text = str(compiled)
        self._order: list[str] | None = compiled.positiontup if compiled.positional else None

    def run(self, cursor: Any, values: Mapping[str, object]) -> Any:
        """Carry it out; returns the cursor, which knows ``rowcount`` and gives the rows."""
        cursor.execute(self._text, [values[name] for name in self._order] if self._order is not None else values)
        return cursor


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[Any]:
    """A transaction that writes, as ``engine.begin()`` opens it: a cursor, and a commit that has returned at the end.

    Raises:
        SQLAlchemyError: As SQLAlchemy would raise it; nothing is on record where its cause says so.
    """
    with _cursor(engine) as (connection, cursor):
        if engine.dialect.name == "sqlite":
            cursor.execute("BEGIN IMMEDIATE")  # psycopg begins by itself
        yield cursor
        connection.commit()


@contextmanager
def lookup(engine: sa.Engine) -> Iterator[Any]:
    """A cursor for one SELECT, which is a transaction in itself.

    Raises:
        SQLAlchemyError: As SQLAlchemy would raise it.
    """
    with _cursor(engine) as (_, cursor):
        yield cursor


@contextmanager
def _cursor(engine: sa.Engine) -> Iterator[tuple[Any, Any]]:
    dbapi: Any = engine.dialect.loaded_dbapi
    connection: Any = None
    try:
        connection = engine.raw_connection()
        cursor = connection.cursor()
        try:
            yield connection, cursor
        finally:
            cursor.close()
    except dbapi.Error as error:
        if connection is not None and engine.dialect.is_disconnect(error, connection.dbapi_connection, None):
            connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(None, None, error, dbapi.Error, dialect=engine.dialect) from error
    finally:
        if connection is not None:
            connection.close()  # back to the pool, which rolls back what was not committed
