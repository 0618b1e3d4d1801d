"""What a silent worker left is taken over: a new attempt for a case, the same attempt for a delivery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
import sqlalchemy as sa

from dicom_node.engine import Engine
from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.database import open_database
from dicom_node.ledger.workers import Workers
from dicom_node.settings import parse_settings
from dicom_node.worker.takeover import Takeover
from tests import postgres
from tests.ledger.test_cases import CASE

pytestmark = pytest.mark.peer
RUN = f"{CASE.case_id}.1"


class OthersWork:
    """An engine in which executor ``dead`` holds workflows as running."""

    def __init__(self, *running: str) -> None:
        self.running = running
        self.done: list[tuple[str, str]] = []

    def executors_with_work(self) -> frozenset[str]:
        return frozenset({"dead"}) if self.running else frozenset()

    def running_at(self, executor_id: str) -> tuple[str, ...]:
        return self.running if executor_id == "dead" else ()

    def resume(self, workflow_id: str, queue: str) -> None:
        self.done.append((f"resume in {queue}", workflow_id))

    def cancel(self, workflow_id: str) -> None:
        self.done.append(("cancel", workflow_id))


class Bench:
    """A ledger with one case, and a supervisor."""

    def __init__(self, database: sa.Engine, *running: str) -> None:
        self.cases = Cases(database)
        self.cases.open(CASE)
        self.engine = OthersWork(*running)
        self.given_up: list[str] = []
        self.takeover = Takeover(
            database,
            cast(Engine, self.engine),
            self.cases,
            give_up=self._give_up,
            queue_of=lambda identity: "deliveries" if identity.count(".") > 1 else "cases",
        )

    def _give_up(self, _case: Case, reason: str) -> None:
        self.given_up.append(reason)


@pytest.fixture
def database(postgresql: postgres.Cluster) -> Iterator[sa.Engine]:
    settings = parse_settings({"node": {"database": postgresql.emptied_database()}}, origin="test")
    opened = open_database(settings.database_url)
    yield opened
    opened.dispose()


def test_a_case_under_way_begins_a_new_attempt(database: sa.Engine) -> None:
    bench = Bench(database, RUN)
    bench.cases.advance(CASE.case_id, "segmenting", 2000.0)
    assert bench.takeover.look(15.0) == 1
    assert bench.engine.done == [("cancel", RUN)]
    assert bench.given_up == ['worker "dead" fell silent while the case was segmenting']


def test_deliveries_go_on(database: sa.Engine) -> None:
    bench = Bench(database, RUN, f"{RUN}.pacs.1")
    bench.cases.advance(CASE.case_id, "delivering", 2000.0)
    assert bench.takeover.look(15.0) == 2
    assert bench.engine.done == [("resume in cases", RUN), ("resume in deliveries", f"{RUN}.pacs.1")]
    assert bench.given_up == []


def test_what_no_longer_counts_is_cancelled(database: sa.Engine) -> None:
    bench = Bench(database, RUN, f"{'99' * 32}.1")
    bench.cases.next_attempt(CASE.case_id, 2000.0, "failed")
    assert bench.takeover.look(15.0) == 2
    assert [what for what, _ in bench.engine.done] == ["cancel", "cancel"]
    assert bench.given_up == []


def test_a_worker_that_is_heard_keeps_its_work(database: sa.Engine) -> None:
    bench = Bench(database, RUN)
    Workers(database).enter("dead", "not at all", host="a", process_id=1)
    assert bench.takeover.look(15.0) == 0
    assert bench.engine.done == []


def test_of_two_supervisors_one_acts(database: sa.Engine) -> None:
    bench, other = Bench(database, RUN), Bench(database, RUN)
    with bench.takeover._alone() as is_alone:
        assert is_alone
        assert other.takeover.look(15.0) == 0
    assert other.engine.done == []
    assert other.takeover.look(15.0) == 1
