"""Statements given to the driver itself keep the promises of those that SQLAlchemy carries out, on each back end."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from dicom_node.ledger import database as db
from dicom_node.ledger.driver import Prepared, lookup, transaction

MARK = "1.2.3"


def prepared(engine: sa.Engine) -> tuple[Prepared, Prepared]:
    """One that writes a row, and one that reads it."""
    table = db.leaving_images
    find = sa.select(table.c.path, table.c.size).where(table.c.sop_instance_uid == sa.bindparam("uid"))
    return Prepared(sa.insert(table), engine), Prepared(find, engine)


def row(size: int = 7) -> dict[str, object]:
    return {"sop_instance_uid": MARK, "series_instance_uid": "1.2", "path": "file", "size": size}


def found(engine: sa.Engine) -> object:
    with lookup(engine) as cursor:
        return prepared(engine)[1].run(cursor, {"uid": MARK}).fetchone()


def test_what_was_written_is_there_after_the_transaction_alone(ledger: sa.Engine) -> None:
    write, _ = prepared(ledger)
    with transaction(ledger) as cursor:
        assert write.run(cursor, row()).rowcount == 1
        assert found(ledger) is None
    assert found(ledger) == ("file", 7)


def test_nothing_of_a_transaction_that_fails_is_there(ledger: sa.Engine) -> None:
    def write_and_fail() -> None:
        with transaction(ledger) as cursor:
            prepared(ledger)[0].run(cursor, row())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_and_fail()
    assert found(ledger) is None


def test_an_error_of_the_driver_is_named_as_sqlalchemy_names_it(ledger: sa.Engine) -> None:
    write, _ = prepared(ledger)
    with transaction(ledger) as cursor:
        write.run(cursor, row())
    with pytest.raises(sa.exc.IntegrityError) as caught, transaction(ledger) as cursor:
        write.run(cursor, row(size=8))
    assert caught.value.orig is not None
    assert found(ledger) == ("file", 7)


def test_a_session_that_the_server_ended_is_not_used_again(ledger: sa.Engine) -> None:
    if ledger.dialect.name == "sqlite":
        pytest.skip("SQLite has no server")
    with pytest.raises(OperationalError), transaction(ledger) as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert found(ledger) is None


def test_a_database_that_cannot_be_reached_is_an_error_of_sqlalchemy() -> None:
    nowhere = sa.create_engine("sqlite:////nowhere/at/all.sqlite")
    with pytest.raises(SQLAlchemyError), lookup(nowhere):
        pass
