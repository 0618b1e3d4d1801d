"""Deliveries of a case: each destination on its own chain; the case ends when all have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from dicom_node.engine import Engine
from dicom_node.errors import DeliveryRefused
from dicom_node.ledger.cases import Cases
from dicom_node.ledger.deliveries import NO_OBJECT, Deliveries, Delivery
from dicom_node.settings import SENDER, Settings, parse_settings
from dicom_node.worker.delivery_run import BUSY_SECONDS, DeliveryRun, queue_of, sender_destination
from tests.ledger.test_cases import CASE
from tests.ports import free_port


class RecordingEngine:
    """An engine that runs steps at once and records what is enqueued."""

    def __init__(self) -> None:
        self.enqueued: list[tuple[str, str, float]] = []

    def step(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def enqueue(self, queue: str, workflow: str, identity: str, *arguments: Any, delay: float = 0) -> None:
        self.enqueued.append((queue, identity, delay))


def settings_with(*names: str) -> Settings:
    rows = [
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": free_port(), "retry_seconds": [7.0]}
        for name in names
    ]
    return parse_settings({"destination": rows, "archive": {"enabled": False}}, origin="test")


class Bench:
    """A ledger with one case, and deliveries to run over it."""

    def __init__(self, database: sa.Engine, settings: Settings) -> None:
        self.cases = Cases(database)
        self.deliveries = Deliveries(database)
        self.engine = RecordingEngine()
        engine = cast(Engine, self.engine)
        self.run = DeliveryRun(engine, self.cases, self.deliveries, settings, lambda: 2000.0)

    def begin(self, home: Path, *destinations: str) -> None:
        """Open a case for destinations and plan its one result for each of them."""
        self.cases.open(replace(CASE, destinations=list(destinations)))
        result = home / "result.dcm"
        result.write_bytes(b"")
        plan = [
            Delivery(CASE.case_id, name, "1.2.3.9", "1.2.840.10008.5.1.4.1.1.66.4", str(result))
            for name in destinations
        ]
        self.run.begin(CASE.case_id, 1, plan)


@pytest.fixture
def bench(ledger: sa.Engine) -> Bench:
    return Bench(ledger, settings_with("pacs", "tps"))


def test_each_destination_gets_a_chain_of_its_own(bench: Bench, tmp_path: Path) -> None:
    bench.begin(tmp_path, "pacs", "tps")
    assert bench.engine.enqueued == [
        ("deliver pacs", f"{CASE.case_id}.1.pacs.1", 0),
        ("deliver tps", f"{CASE.case_id}.1.tps.1", 0),
    ]
    assert bench.cases.get(CASE.case_id).state == "delivering"


def test_a_sender_that_hangs_does_not_keep_results_from_another(bench: Bench) -> None:
    at_once = bench.run.queues
    assert {name: at_once[queue_of(name)] for name in ("pacs", "tps")} == {"pacs": 1, "tps": 1}
    assert at_once[queue_of(SENDER)] > 1


def test_a_sender_gets_the_results_of_one_case_at_a_time(bench: Bench, tmp_path: Path) -> None:
    bench.begin(tmp_path, "sender")
    case = bench.cases.get(CASE.case_id)
    with bench.run._turn_at(bench.run.table_of(case, "sender")):
        bench.run.run(CASE.case_id, 1, "sender", 1)
    assert bench.engine.enqueued[-1] == ("deliver sender", f"{CASE.case_id}.1.sender.2", BUSY_SECONDS)
    (waiting,) = bench.deliveries.of_case(CASE.case_id)
    assert (waiting.state, waiting.attempts) == ("waiting", 0)


def test_a_case_without_destinations_is_done_at_once(bench: Bench, tmp_path: Path) -> None:
    bench.begin(tmp_path)
    assert bench.cases.get(CASE.case_id).state == "done"


def test_a_destination_that_no_longer_exists_holds_the_case(bench: Bench, tmp_path: Path) -> None:
    bench.begin(tmp_path, "gone")
    bench.run.run(CASE.case_id, 1, "gone", 1)
    held = bench.cases.get(CASE.case_id)
    assert held.state == "held"
    assert 'no longer name a destination "gone"' in str(held.reason)


def test_a_case_without_a_result_for_a_destination_runs_again_and_is_held_in_the_end(bench: Bench) -> None:
    bench.cases.open(replace(CASE, destinations=["pacs", "tps"]))
    planned = [Delivery(CASE.case_id, "pacs", "1.2.3.9", "1.2.840.10008.5.1.4.1.1.66.4", "result.dcm")]
    for attempt, state in ((1, "waiting"), (2, "waiting"), (3, "held")):
        bench.run.begin(CASE.case_id, attempt, planned)
        case = bench.cases.get(CASE.case_id)
        assert (case.state, "no results for tps" in str(case.reason)) == (state, True)
    assert (bench.engine.enqueued, bench.deliveries.of_case(CASE.case_id)) == ([], ())


def test_a_destination_that_no_object_could_be_made_for_holds_the_case_with_the_reason(bench: Bench) -> None:
    bench.cases.open(replace(CASE, destinations=["pacs"]))
    refused = Delivery(CASE.case_id, "pacs", NO_OBJECT, "", "", state="refused", message="tilted")
    bench.run.begin(CASE.case_id, 1, [refused])
    bench.run.run(CASE.case_id, 1, "pacs", 1)
    held = bench.cases.get(CASE.case_id)
    assert (held.state, held.reason) == ("held", "not delivered: pacs: tilted")


def test_the_case_waits_for_its_slowest_destination(bench: Bench, tmp_path: Path) -> None:
    bench.begin(tmp_path, "gone", "pacs")
    bench.run.run(CASE.case_id, 1, "gone", 1)
    assert bench.cases.get(CASE.case_id).state == "delivering"


def test_a_superseded_case_is_not_delivered(bench: Bench, tmp_path: Path) -> None:
    bench.begin(tmp_path, "pacs")
    bench.cases.advance(CASE.case_id, "superseded", 2000.0)
    bench.engine.enqueued.clear()
    bench.run.run(CASE.case_id, 1, "pacs", 1)
    assert bench.engine.enqueued == []
    assert bench.deliveries.of_case(CASE.case_id)[0].attempts == 0


def test_a_plan_of_an_older_attempt_is_not_carried_out(bench: Bench, tmp_path: Path) -> None:
    bench.cases.open(replace(CASE, attempt=2))
    bench.begin(tmp_path, "pacs")
    assert bench.engine.enqueued == []
    assert bench.cases.get(CASE.case_id).state == "waiting"


def test_the_sender_is_reached_where_it_sent_from_at_the_port_of_its_own_entry() -> None:
    peers = [
        {"ae_title": "*", "address": "10.0.0.0/8"},
        {"ae_title": "SCANNER", "address": "10.1.0.0/16", "port": 11198},
        {"ae_title": "SCANNER", "address": "10.0.0.0/16", "port": 11199},
    ]
    settings = parse_settings({"peer": peers}, origin="test")
    destination = sender_destination(settings, CASE.calling_ae, "10.0.0.7")
    assert (destination.ae_title, destination.host, destination.port) == ("SCANNER", "10.0.0.7", 11199)


def test_a_sender_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(DeliveryRefused, match="cannot be called"):
        sender_destination(parse_settings({}, origin="test"), "A\\B", CASE.address)
