"""The ledger's database: tables and connections, on SQLite or PostgreSQL.

SQLite runs with a write-ahead log and ``synchronous=FULL``: a commit returns only after the log is fsynced, so what is
on record survives power loss. A transaction that writes begins as a writer (``BEGIN IMMEDIATE``): two processes then
queue for the lock instead of failing in the middle. Readers (:func:`reading`) never wait for it.

PostgreSQL is asked for the same: commits that are flushed, and a server that does not run with ``fsync = off``. Its
sessions are bounded, so that a machine that froze or lost its network holds no lock for long, and a restarted server is
found again by the next statement.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.errors import LedgerUnreachable, SettingsError, UsageError
from dicom_node.sqlite_file import damage_of, damaged, require_sound

BUSY_MILLISECONDS = 30_000
IDLE_MILLISECONDS = 10_000
"""A PostgreSQL session that holds a transaction open this long without a word is ended by the server: it froze."""
SCHEMA_LOCK = 7_305_143_001
"""PostgreSQL advisory lock under which the tables are made."""
_READER = "dicom_node_reader"

metadata = sa.MetaData()

associations = sa.Table(
    "associations",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("listener", sa.String(64), nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("opened_at", sa.Float, nullable=False),
    sa.Column("closed_at", sa.Float),
)

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("series_instance_uid", sa.String(64), nullable=False, index=True),
    sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False, index=True),
    sa.Column("association_id", sa.String(36), nullable=False),
)

series = sa.Table(
    "series",
    metadata,
    sa.Column("series_instance_uid", sa.String(64), primary_key=True),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("cased_instances", sa.Integer, nullable=False, default=0),
    sa.Column("last_received_at", sa.Float, nullable=False),
    sa.Column("last_association_id", sa.String(36), nullable=False),
)

cases = sa.Table(
    "cases",
    metadata,
    sa.Column("case_id", sa.String(64), primary_key=True),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("series_instance_uid", sa.String(64), nullable=False, index=True),
    sa.Column("instances", sa.JSON, nullable=False),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("rule", sa.Text),
    sa.Column("card", sa.Text),
    sa.Column("destinations", sa.JSON, nullable=False),
    sa.Column("priority", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("last_image_at", sa.Float, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sa.Column("timings", sa.JSON, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("case_id", sa.String(64), primary_key=True),
    sa.Column("destination", sa.String(64), primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("sop_class_uid", sa.String(64), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("message", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("updated_at", sa.Float, nullable=False),
)

commitments = sa.Table(
    "commitments",  # what destinations were asked to commit to
    metadata,
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("case_id", sa.String(64), nullable=False, index=True),
    sa.Column("destination", sa.String(64), nullable=False),
    sa.Column("ae_title", sa.String(16), nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("reported_at", sa.Float),
    sa.Column("committed", sa.JSON, nullable=False),
    sa.Column("failed", sa.JSON, nullable=False),
    # empty in what earlier versions wrote
    sa.Column("host", sa.Text),
    sa.Column("instances", sa.JSON(none_as_null=True)),
    sa.Column("taken_at", sa.Float),
    sa.Column("refused_at", sa.Float),
)

commitment_requests = sa.Table(
    "commitment_requests",  # what senders asked this node to commit to
    metadata,
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("calling_ae", sa.String(16), primary_key=True),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("references", sa.JSON, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.Float),
    sa.Column("message", sa.Text),
)

leaving_images = sa.Table(
    "leaving_images",  # off the record already; their files are still to be removed
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)

removed_from_cases = sa.Table(
    "removed_from_cases",
    metadata,
    sa.Column("case_id", sa.String(64), primary_key=True),
    sa.Column("what", sa.String(16), primary_key=True),  # images or results
    sa.Column("removed_at", sa.Float, nullable=False),
)

resent_series = sa.Table(
    "resent_series",  # when images that are on record were last sent again
    metadata,
    sa.Column("series_instance_uid", sa.String(64), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)

expected_series = sa.Table(
    "expected_series",  # how many images of a series its sender said it would send
    metadata,
    sa.Column("series_instance_uid", sa.String(64), primary_key=True),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

counters = sa.Table(
    "counters",  # what only grows, for metrics
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("label", sa.String(80), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)

process_heartbeats = sa.Table(
    "process_heartbeats",
    metadata,
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("host", sa.String(64), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)

audit_events = sa.Table(
    "audit_events",  # what the audit trail still has to tell
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False, index=True),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("filed", sa.Boolean, nullable=False, default=False),
    sa.Column("sent", sa.Boolean, nullable=False, default=False),
)

restorations = sa.Table(
    "restorations",  # when the ledger was brought back from a backup
    metadata,
    sa.Column("at", sa.Float, primary_key=True),
)


workers = sa.Table(
    "workers",
    metadata,
    sa.Column("executor_id", sa.String(64), primary_key=True),
    sa.Column("incarnation", sa.String(36), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("process_id", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("beat_at", sa.Float, nullable=False),
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("work", sa.String(160), primary_key=True),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("holder", sa.String(64), nullable=False),
)

homes = sa.Table(
    "homes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("mark", sa.String(64), nullable=False),
)


def open_database(url: str) -> sa.Engine:
    """Connect to the ledger; tables, and columns of tables that an earlier version made, are added where missing.

    Several processes may do so at the same moment. An added column may be empty: earlier versions, which a rollback
    brings back, do not fill it.

    Args:
        url: SQLAlchemy URL; for SQLite the file is made with mode 0600.

    Raises:
        SettingsError: The file is there but is no database; or the server would lose what it said is committed, or the
            role may not make tables.
        LedgerUnreachable: The server does not answer.
    """
    if _is_sqlite(url):
        return _with_tables(_open_sqlite(url))
    engine = _open_postgresql(url)
    try:
        _prepare(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_existing_database(url: str) -> sa.Engine:
    """Connect to a ledger that a node has made.

    Raises:
        UsageError: No node has run with this home yet.
        SettingsError: The file is there but is no database.
    """
    if _is_sqlite(url) and not Path(str(sa.make_url(url).database)).is_file():
        raise UsageError(f"no node has run here yet: there is no {sa.make_url(url).database}")
    return open_database(url)


def open_sound_database(url: str) -> sa.Engine:
    """Connect to the ledger as :func:`open_database` does, once its file has been read through.

    For the processes that go on for days: a page that is damaged would be noticed by the first case that needs it.

    Raises:
        SettingsError: The file is damaged. LedgerUnreachable: As there.
    """
    if _is_sqlite(url):
        require_sound(Path(str(sa.make_url(url).database)))
    return open_database(url)


def reading(engine: sa.Engine) -> sa.Connection:
    """A connection for SELECT alone, as a context manager."""
    return engine.connect().execution_options(**{_READER: True})


def insert_or_nothing(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that does nothing where the key is on record already; ``rowcount`` tells which."""
    return one_or_nothing(connection.dialect.name, table)


def one_or_nothing(dialect: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """The statement of :func:`insert_or_nothing` for a dialect, to be built once and used often."""
    counting = {"preserve_rowcount": True}  # without it SQLAlchemy answers -1 on PostgreSQL, as if always inserted
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing().execution_options(**counting)
    return postgresql.insert(table).on_conflict_do_nothing().execution_options(**counting)


def committed_nothing(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether an error proves that its transaction is not on record and never will be.

    On SQLite, which one listener alone writes to: no room, no lock, no right to write. Where writing or syncing itself
    failed, or a connection broke, the commit may be found after a restart all the same.
    """
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else None
    name = str(getattr(cause, "sqlite_errorname", ""))
    return name.startswith(("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_READONLY"))


def database_now(connection: sa.Connection) -> sa.ColumnElement[float]:
    """The database's own clock, seconds since the epoch: the one clock that all machines share."""
    if connection.dialect.name == "sqlite":
        return sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Float)
    return sa.literal_column("extract(epoch from clock_timestamp())::float8", sa.Float)


def _open_sqlite(url: str) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_MILLISECONDS / 1000})
    _make_private(Path(str(engine.url.database)))
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _open_postgresql(url: str) -> sa.Engine:
    """Connections that notice a restarted server (``pool_pre_ping``) and a dead one (keep-alive probes)."""
    session = {
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": IDLE_MILLISECONDS,
        "lock_timeout": BUSY_MILLISECONDS,
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
    }
    connect_args = {
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": BUSY_MILLISECONDS,
        "application_name": "dicom-node",
        "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
    }
    return sa.create_engine(url, pool_pre_ping=True, connect_args=connect_args)


def _prepare(engine: sa.Engine) -> None:
    try:
        _require_durable(engine)
        _with_tables(engine)
    except sa.exc.OperationalError as error:
        raise LedgerUnreachable(f"the database {_place(engine)} does not answer: {error.orig}") from error
    except sa.exc.ProgrammingError as error:
        raise SettingsError(f"the database {_place(engine)} cannot be used: {error.orig}") from error


def _require_durable(engine: sa.Engine) -> None:
    """Refuse a server that forgets commits in a power cut: what is acknowledged would not be safe."""
    with reading(engine) as connection:
        if connection.scalar(sa.text("SHOW fsync")) != "on":
            raise SettingsError(f"the database {_place(engine)} runs with fsync = off: a power cut would lose images")


def _with_tables(engine: sa.Engine) -> sa.Engine:
    try:
        with reading(engine) as connection:
            is_complete = not _missing_columns(connection)
        if not is_complete:
            with engine.begin() as connection:
                if connection.dialect.name == "postgresql":  # two that make tables at once would trip over each other
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
                metadata.create_all(connection)
                for column in _missing_columns(connection):
                    kind = column.type.compile(connection.dialect)
                    connection.execute(sa.text(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}"))
    except sa.exc.DatabaseError as error:
        if damage_of(error) is None:
            raise
        raise SettingsError(damaged(str(engine.url.database), str(error.orig))) from error
    return engine


def _missing_columns(connection: sa.Connection) -> list[sa.Column[Any]]:
    """Columns of ours that the database lacks, those of whole tables included."""
    found = sa.inspect(connection).get_multi_columns()
    there = {(table, column["name"]) for (_, table), columns in found.items() for column in columns}
    return [
        column
        for table in metadata.tables.values()
        for column in table.columns
        if (table.name, column.name) not in there
    ]


def _place(engine: sa.Engine) -> str:
    return engine.url.set(query={}).render_as_string(hide_password=True)


def _is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    is_reader = connection.get_execution_options().get(_READER, False)
    connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")
