"""The ledger's database: made once by whoever comes first, durable or refused, found again after a restart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from dicom_node.errors import LedgerUnreachable, SettingsError
from dicom_node.ledger.commitments import Commitments
from dicom_node.ledger.database import open_database
from dicom_node.settings import parse_settings
from tests import postgres
from tests.ports import free_port

RACERS = 6
RACE = """
import sys, time
from dicom_node.ledger.database import open_database
from dicom_node.engine import Engine
from dicom_node.settings import parse_settings

home, number, database = sys.argv[1:]
settings = parse_settings({"node": {"home": home, "name": f"host{number}", "database": database}}, origin="test")
print("ready", flush=True)
sys.stdin.readline()
open_database(settings.database_url).dispose()
engine = Engine(settings)
engine.launch()
engine.stop(patience_seconds=1)
"""


def url_of(setting: str) -> str:
    return parse_settings({"node": {"database": setting}}, origin="test").database_url


def test_a_plain_url_means_psycopg_3() -> None:
    assert url_of("postgresql://node:secret@db/node") == "postgresql+psycopg://node:secret@db/node"


@pytest.mark.parametrize("setting", ["mysql://db/node", "node"])
def test_another_database_is_refused(setting: str) -> None:
    with pytest.raises(SettingsError, match="expected postgresql://"):
        url_of(setting)


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnreachable, match="does not answer") as caught:
        open_database(url_of(f"postgresql://node:secret@127.0.0.1:{free_port()}/node"))
    assert "secret" not in caught.value.message
    assert caught.value.retryable


def test_columns_that_an_earlier_version_lacks_are_added_and_its_rows_stay(
    database_setting: str | None, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'node.sqlite'}" if database_setting is None else url_of(database_setting)
    earlier = open_database(url)
    with earlier.begin() as connection:
        for name in ("host", "instances", "taken_at", "refused_at"):
            connection.execute(sa.text(f"ALTER TABLE commitments DROP COLUMN {name}"))
        connection.execute(
            sa.text(
                "INSERT INTO commitments (transaction_uid, case_id, destination, ae_title, asked_at, committed, failed)"
                " VALUES ('1.2.3', 'case', 'pacs', 'PACS', 1000.0, '[]', '{}')"
            )
        )
    earlier.dispose()
    for _ in range(2):
        today = open_database(url)
        commitments = Commitments(today)
        (known,) = commitments.of_case("case", "pacs")
        assert (known.host, known.instances, known.taken_at, known.concerns("1.2.9")) == (None, None, None, True)
        today.dispose()


@pytest.mark.peer
def test_commits_are_flushed_whatever_the_role_says(postgresql: postgres.Cluster) -> None:
    setting = postgresql.new_database()
    with psycopg.connect(setting, autocommit=True) as connection:
        connection.execute("ALTER ROLE node SET synchronous_commit = off")
    engine = open_database(url_of(setting))
    try:
        with engine.connect() as opened:
            assert opened.scalar(sa.text("SHOW synchronous_commit")) == "on"
    finally:
        engine.dispose()
        with psycopg.connect(setting, autocommit=True) as connection:
            connection.execute("ALTER ROLE node RESET synchronous_commit")


@pytest.mark.peer
def test_a_server_that_forgets_commits_is_refused(postgresql: postgres.Cluster) -> None:
    setting = postgresql.new_database()
    try:
        postgresql.configure(fsync="off")
        with pytest.raises(SettingsError, match="fsync = off"):
            open_database(url_of(setting))
    finally:
        postgresql.configure(fsync="on")


@pytest.mark.peer
def test_a_restarted_server_is_found_again(postgresql: postgres.Cluster) -> None:
    engine = open_database(url_of(postgresql.new_database()))
    try:
        postgresql.stop()
        with pytest.raises(sa.exc.OperationalError), engine.connect():
            pass
        postgresql.start()
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM cases")) == 0
    finally:
        engine.dispose()


@pytest.mark.peer
def test_processes_that_make_the_tables_at_the_same_moment_all_succeed(
    postgresql: postgres.Cluster, tmp_path: Path
) -> None:
    setting = postgresql.new_database()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), str(number), setting],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(RACERS)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    outcomes = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        _, said = racer.communicate(timeout=180)
        outcomes.append((racer.returncode, said[-500:] if racer.returncode else ""))
    assert outcomes == [(0, "")] * RACERS
