"""A run of a case: whatever a step does, the case ends in a state a person can see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from dicom_node.engine import Engine
from dicom_node.errors import SegmentationFailed, SeriesRefused, StorageFull
from dicom_node.ledger.cases import Case, Cases
from dicom_node.worker.case_run import STARTS_PER_STEP, CaseRun, CaseStep
from tests.ledger.test_cases import CASE, LATER
from tests.test_outages import of_sqlite


class DirectEngine:
    """An engine that runs steps at once, without checkpoints."""

    def step(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


@pytest.fixture
def cases(ledger: sa.Engine) -> Cases:
    cases = Cases(ledger)
    cases.open(CASE)
    return cases


def runner(cases: Cases, *performs: Callable[[Case], dict[str, Any]], full: bool = False) -> CaseRun:
    states = ("assembling", "segmenting", "encoding")
    steps = tuple(CaseStep(state, state, perform) for state, perform in zip(states, performs, strict=False))
    engine = cast(Engine, DirectEngine())
    return CaseRun(engine, cases, steps, attempts=3, clock=lambda: 2000.0, is_disk_full=lambda: full)


def run_once(cases: Cases, *performs: Callable[[Case], dict[str, Any]], attempt: int = 1) -> bool:
    return runner(cases, *performs).run(CASE.case_id, attempt)


def failing(error: Exception) -> Callable[[Case], dict[str, Any]]:
    def perform(_case: Case) -> dict[str, Any]:
        raise error

    return perform


def test_steps_run_in_order_and_their_outputs_are_noted(cases: Cases) -> None:
    assert run_once(cases, lambda _: {"slices": 3}, lambda case: {"seen": case.outputs["slices"]})
    assert cases.get(CASE.case_id).outputs == {"slices": 3, "seen": 3}


def test_refused_input_holds_the_case_with_its_reason(cases: Cases) -> None:
    assert not run_once(cases, failing(SeriesRefused("a slice is missing", kind="gap")))
    held = cases.get(CASE.case_id)
    assert (held.state, held.reason) == ("held", "a slice is missing")


def test_an_error_that_may_pass_makes_a_further_attempt(cases: Cases) -> None:
    assert not run_once(cases, failing(SegmentationFailed("the process died")))
    waiting = cases.get(CASE.case_id)
    assert (waiting.state, waiting.attempt) == ("waiting", 2)


def test_the_last_attempt_holds_the_case(cases: Cases) -> None:
    for attempt in (1, 2, 3):
        run_once(cases, failing(SegmentationFailed("the process died")), attempt=attempt)
    held = cases.get(CASE.case_id)
    assert (held.state, held.attempt, held.reason) == ("held", 3, "the process died")


def test_an_unexpected_error_is_named_and_the_node_stays_up(cases: Cases) -> None:
    assert not run_once(cases, failing(ZeroDivisionError("division by zero")))
    assert "ZeroDivisionError" in str(cases.get(CASE.case_id).reason)


def test_a_step_that_kills_its_process_is_held_in_the_end(cases: Cases) -> None:
    for _ in range(STARTS_PER_STEP):
        cases.count_start(CASE.case_id, "assembling")
    assert not run_once(cases, lambda _: {})
    assert cases.get(CASE.case_id).state == "held"


def test_an_outage_is_left_to_the_engine_and_costs_neither_a_start_nor_the_attempt(cases: Cases) -> None:
    outages = iter([of_sqlite("SQLITE_FULL")] * 2 * STARTS_PER_STEP)

    def perform(_case: Case) -> dict[str, Any]:
        for outage in outages:
            raise outage
        return {"slices": 3}

    run = runner(cases, perform)
    for _ in range(2 * STARTS_PER_STEP):
        with pytest.raises(sa.exc.OperationalError):
            run.run(CASE.case_id, 1)
        assert str(cases.get(CASE.case_id).reason).startswith("waits: there is no room")
    assert run.run(CASE.case_id, 1)
    case = cases.get(CASE.case_id)
    assert (case.attempt, case.outputs, case.timings["assembling.starts"]) == (1, {"slices": 3}, 1)


def test_a_step_waits_for_room_on_a_full_disk(cases: Cases) -> None:
    run = runner(cases, failing(StorageFull("no room to write labels.npy")), full=True)
    with pytest.raises(StorageFull):
        run.run(CASE.case_id, 1)
    case = cases.get(CASE.case_id)
    assert (case.state, case.attempt, case.reason) == ("assembling", 1, "waits: no room to write labels.npy")


def test_a_case_too_large_for_what_is_free_keeps_no_other_from_its_turn(cases: Cases) -> None:
    assert not run_once(cases, failing(StorageFull("no room to write labels.npy")))
    waiting = cases.get(CASE.case_id)
    assert (waiting.state, waiting.attempt) == ("waiting", 2)


def test_a_superseded_case_stops(cases: Cases) -> None:
    cases.open(LATER)
    assert not run_once(cases, failing(AssertionError("must not run")))
    assert cases.get(CASE.case_id).state == "superseded"


def test_an_older_attempt_stops_when_a_newer_one_has_begun(cases: Cases) -> None:
    cases.next_attempt(CASE.case_id, 1500.0, "first failed")
    assert not run_once(cases, failing(AssertionError("must not run")), attempt=1)
    assert cases.get(CASE.case_id).state == "waiting"


def test_a_discarded_case_stops_before_its_next_step(cases: Cases) -> None:
    def discard(case: Case) -> dict[str, Any]:
        cases.discard(case.case_id, 1500.0)
        return {}

    assert not run_once(cases, discard, failing(AssertionError("must not run")))
    assert cases.get(CASE.case_id).state == "discarded"


def test_another_case_is_untouched(cases: Cases) -> None:
    other = replace(LATER, series_instance_uid="1.2.10")
    cases.open(other)
    run_once(cases, failing(SeriesRefused("gap", kind="gap")))
    assert cases.get(other.case_id) == other


def test_a_frozen_worker_that_wakes_up_changes_nothing(cases: Cases) -> None:
    def freeze(case: Case) -> dict[str, Any]:
        cases.next_attempt(case.case_id, 1500.0, "its worker fell silent", attempt=case.attempt)
        cases.advance(case.case_id, "segmenting", 1600.0, attempt=case.attempt + 1)
        return {"slices": 3}

    assert not run_once(cases, freeze, failing(AssertionError("must not run")))
    case = cases.get(CASE.case_id)
    assert (case.state, case.attempt, case.outputs, case.timings) == ("segmenting", 2, {}, {})


def test_an_error_after_a_freeze_costs_the_new_attempt_nothing(cases: Cases) -> None:
    def freeze(case: Case) -> dict[str, Any]:
        cases.next_attempt(case.case_id, 1500.0, "its worker fell silent", attempt=case.attempt)
        raise SegmentationFailed("the process died")

    assert not run_once(cases, freeze)
    case = cases.get(CASE.case_id)
    assert (case.state, case.attempt, case.reason) == ("waiting", 2, "its worker fell silent")
