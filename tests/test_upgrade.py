"""A node is upgraded, or rolled back, in the middle of its work: a home of the first released schema, and today's."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.ledger.intake import Intake
from dicom_node.ledger.retention import Retention
from dicom_node.receive.identity import read_identity
from dicom_node.receive.spool import Spool, spool_file
from dicom_node.settings import load_settings
from dicom_node.tidying import Tidying
from dicom_node.workflow import case_identity
from tests.monitoring.test_endpoint import FAST, SMALL
from tests.phantoms import write
from tests.quick.node import MODULE
from tests.receive.desk import arrival_of
from tests.running_node import RunningNode, write_config
from tests.test_tidying import LATE, Home

FIRST_SCHEMA = """
CREATE TABLE associations (id VARCHAR(36) NOT NULL, listener VARCHAR(64) NOT NULL, calling_ae VARCHAR(16) NOT NULL,
    address VARCHAR(64) NOT NULL, opened_at FLOAT NOT NULL, closed_at FLOAT, PRIMARY KEY (id));
CREATE TABLE instances (sop_instance_uid VARCHAR(64) NOT NULL, sop_class_uid VARCHAR(64) NOT NULL,
    study_instance_uid VARCHAR(64) NOT NULL, series_instance_uid VARCHAR(64) NOT NULL,
    transfer_syntax_uid VARCHAR(64) NOT NULL, path TEXT NOT NULL, sha256 VARCHAR(64) NOT NULL, size BIGINT NOT NULL,
    received_at FLOAT NOT NULL, association_id VARCHAR(36) NOT NULL, PRIMARY KEY (sop_instance_uid));
CREATE INDEX ix_instances_series_instance_uid ON instances (series_instance_uid);
CREATE INDEX ix_instances_received_at ON instances (received_at);
CREATE TABLE series (series_instance_uid VARCHAR(64) NOT NULL, study_instance_uid VARCHAR(64) NOT NULL,
    instances INTEGER NOT NULL, cased_instances INTEGER NOT NULL, last_received_at FLOAT NOT NULL,
    last_association_id VARCHAR(36) NOT NULL, PRIMARY KEY (series_instance_uid));
CREATE TABLE cases (case_id VARCHAR(64) NOT NULL, study_instance_uid VARCHAR(64) NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL, instances JSON NOT NULL, calling_ae VARCHAR(16) NOT NULL,
    address VARCHAR(64) NOT NULL, rule TEXT, card TEXT, destinations JSON NOT NULL, priority VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL, reason TEXT, attempt INTEGER NOT NULL, last_image_at FLOAT NOT NULL,
    created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL, finished_at FLOAT, timings JSON NOT NULL,
    outputs JSON NOT NULL, PRIMARY KEY (case_id));
CREATE INDEX ix_cases_series_instance_uid ON cases (series_instance_uid);
CREATE INDEX ix_cases_state ON cases (state);
CREATE TABLE deliveries (case_id VARCHAR(64) NOT NULL, destination VARCHAR(64) NOT NULL,
    sop_instance_uid VARCHAR(64) NOT NULL, sop_class_uid VARCHAR(64) NOT NULL, path TEXT NOT NULL,
    state VARCHAR(16) NOT NULL, status INTEGER, message TEXT, attempts INTEGER NOT NULL, updated_at FLOAT NOT NULL,
    PRIMARY KEY (case_id, destination, sop_instance_uid));
"""
_INSERTS = {  # as the first release wrote them: every column, by name
    "associations": ("id", "listener", "calling_ae", "address", "opened_at", "closed_at"),
    "instances": (
        *("sop_instance_uid", "sop_class_uid", "study_instance_uid", "series_instance_uid", "transfer_syntax_uid"),
        *("path", "sha256", "size", "received_at", "association_id"),
    ),
    "series": (
        *("series_instance_uid", "study_instance_uid", "instances", "cased_instances", "last_received_at"),
        "last_association_id",
    ),
    "cases": (
        *("case_id", "study_instance_uid", "series_instance_uid", "instances", "calling_ae", "address", "rule", "card"),
        *("destinations", "priority", "state", "reason", "attempt", "last_image_at", "created_at", "updated_at"),
        *("finished_at", "timings", "outputs"),
    ),
}


class FirstRelease:
    """The home of a node as the first release leaves it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home, self._spool = home, Spool(home / "spool")
        self._ledger = home / "node.sqlite"
        if not self._ledger.exists():
            with closing(sqlite3.connect(self._ledger)) as ledger:
                ledger.executescript("PRAGMA journal_mode=WAL;" + FIRST_SCHEMA)
            self._insert("associations", "old", "listener", "SCANNER", "127.0.0.1", 990.0, 1010.0)

    def _insert(self, table: str, *values: object) -> None:
        columns = _INSERTS[table]
        with closing(sqlite3.connect(self._ledger)) as ledger, ledger:
            places = ", ".join("?" * len(columns))
            ledger.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", values)

    def receive(self, files: list[Path], *, cased: int = 0) -> list[str]:
        """Files in the spool and on record; their SOP Instance UIDs."""
        uids = []
        for path in files:
            arrival = arrival_of(path)
            identity = read_identity(arrival.encoded, arrival.transfer_syntax_uid)
            file = spool_file(identity, arrival.transfer_syntax_uid, "SCANNER", arrival.encoded)
            stored = str(self._spool.write(identity, file))
            known = (identity.study_instance_uid, identity.series_instance_uid, arrival.transfer_syntax_uid)
            described = (identity.sop_instance_uid, identity.sop_class_uid, *known)
            self._insert("instances", *described, stored, file.sha256, file.size, 1000.0, "old")
            uids.append(identity.sop_instance_uid)
        self._insert("series", identity.series_instance_uid, known[0], len(files), cased, 1000.0, "old")
        return uids

    def open_case(self, files: list[Path], uids: list[str], state: str, reason: str | None = None) -> str:
        image, card = dcmread(files[0], stop_before_pixels=True), "torso:fast"
        case_id = case_identity(uids, card)
        of = (str(image.StudyInstanceUID), str(image.SeriesInstanceUID), json.dumps(sorted(uids)))
        by = ("SCANNER", "127.0.0.1", "fast", card, json.dumps(["archive"]), "routine")
        ended = None if reason is None else 1050.0
        self._insert("cases", case_id, *of, *by, state, reason, 1, 1000.0, 1030.0, 1030.0, ended, "{}", "{}")
        return case_id


def _columns(ledger: Path) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Type, necessity, default and place in the key of every column, by table."""
    with closing(sqlite3.connect(ledger)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: {row[1]: tuple(row[2:6]) for row in connection.execute(f"PRAGMA table_info({table})")}
            for table in tables
        }


@pytest.mark.peer
@pytest.mark.slow
def test_pending_work_of_the_first_release_is_finished_by_today_s(tmp_path: Path) -> None:
    """A series that is in no case yet, a case that waits and then gets late slices, and one that is held."""
    uncased = write(SMALL, tmp_path / "uncased")
    late = write(replace(SMALL, slices=41), tmp_path / "late")
    held = write(replace(SMALL, slices=3), tmp_path / "held")
    config = write_config(tmp_path / "node", extra=FAST)
    old = FirstRelease(load_settings(config).node.home)
    old.receive(uncased)
    first_part = old.receive(late[:35], cased=35)
    waiting = old.open_case(late, first_part, "waiting")
    still_held = old.open_case(held, old.receive(held, cased=3), "held", "three slices are no volume")
    series = [str(dcmread(files[0]).SeriesInstanceUID) for files in (uncased, late)]
    with RunningNode(config, module=MODULE) as node:
        assert all(outcome.ok for outcome in node.send(late[35:]))
        ended = node.wait_for_cases(series, seconds=300)
        cases = {case["case_id"]: case for case in node.cases()}
    assert cases[still_held]["state"] == "held"
    whole = [case for case in cases.values() if len(case["instances"]) == 41]
    assert [(case["state"], case["attempt"]) for case in whole] == [("done", 1)]
    assert whole[0]["case_id"][:12] in str(cases[waiting]["reason"])
    assert {case["state"] for case in ended} == {"done"}


def test_what_the_first_release_wrote_is_read_as_it_was(tmp_path: Path) -> None:
    old = FirstRelease(tmp_path / "home")
    files = write(replace(SMALL, slices=3), tmp_path / "files")
    uids = old.receive(files, cased=3)
    case_id = old.open_case(files, uids, "held", "a gap")
    database = open_database(f"sqlite:///{tmp_path / 'home' / 'node.sqlite'}")
    case = Cases(database).get(case_id)
    assert (case.state, case.reason, case.instances) == ("held", "a gap", sorted(uids))
    assert len(Intake(database).instances_of(case.series_instance_uid)) == 3
    assert Cases(database).retry(case_id, 2000.0).state == "waiting"


def test_the_first_release_can_write_into_today_s_ledger(tmp_path: Path) -> None:
    """Rolled back: its statements name its columns, so these have to be there as they were, further ones optional."""
    FirstRelease(tmp_path / "old")
    open_database(f"sqlite:///{tmp_path / 'today.sqlite'}").dispose()
    today = _columns(tmp_path / "today.sqlite")
    for table, columns in _columns(tmp_path / "old" / "node.sqlite").items():
        assert {name: today[table].get(name) for name in columns} == columns, table
        further = {name: fact for name, fact in today[table].items() if name not in columns}
        assert all(not needed or default is not None for _, needed, default, _ in further.values()), further


def test_a_case_opened_while_rolled_back_is_there_after_the_next_upgrade(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'node.sqlite'}")
    rolled_back = FirstRelease(tmp_path)
    rolled_back._insert("associations", "old", "listener", "SCANNER", "127.0.0.1", 990.0, 1010.0)
    files = write(replace(SMALL, slices=3), tmp_path / "files")
    case_id = rolled_back.open_case(files, rolled_back.receive(files, cased=3), "waiting")
    assert [case.case_id for case in Cases(database).unfinished()] == [case_id]


def test_an_image_that_was_leaving_and_came_again_while_rolled_back_is_kept(tmp_path: Path) -> None:
    """The first release knows no list of what is leaving and strikes nothing from it."""
    home = Home(tmp_path / "home")
    home.receive()
    home.case()
    assert Retention(home.database).let_go(home.series, 3000.0, LATE)
    FirstRelease(home.root).receive(home.files)
    Tidying(home.database, home.settings).run(LATE)
    assert [Path(item.path).is_file() for item in home.desk.intake.instances_of(home.series)] == [True] * 6
