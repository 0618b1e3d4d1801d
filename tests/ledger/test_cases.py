"""Cases on record: opened once, never moved out of an end, superseded by later ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from dicom_node.errors import TakenOver, UsageError
from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.intake import Association, Intake
from tests.ledger.test_intake import INSTANCE

CASE = Case(
    case_id="ab" * 32,
    study_instance_uid="1.2",
    series_instance_uid="1.2.9",
    instances=["1.2.3"],
    calling_ae="SCANNER",
    address="127.0.0.1",
    rule="fallback",
    card="torso",
    destinations=["archive"],
    priority="routine",
    state="waiting",
    reason=None,
    last_image_at=1000.0,
    created_at=1020.0,
    updated_at=1020.0,
)
LATER = replace(CASE, case_id="cd" * 32, instances=["1.2.3", "1.2.4"], created_at=2000.0)


@pytest.fixture
def cases(ledger: sa.Engine) -> Cases:
    return Cases(ledger)


def test_a_case_is_opened_once(cases: Cases) -> None:
    assert cases.open(CASE)
    assert not cases.open(CASE)
    assert cases.list() == (CASE,)


def test_an_opened_case_takes_its_series_off_the_waiting_list(cases: Cases, ledger: sa.Engine) -> None:
    intake = Intake(ledger)
    intake.open_association(Association("a", "listener", "SCANNER", "127.0.0.1", 999.0))
    intake.record(INSTANCE)
    intake.close_association("a", 1001.0)
    assert len(intake.quiet_series(2000.0, 20)) == 1
    cases.open(CASE)
    assert intake.quiet_series(2000.0, 20) == ()


def test_late_slices_supersede_an_unfinished_case(cases: Cases) -> None:
    cases.open(CASE)
    cases.open(LATER)
    assert [(case.case_id, case.state) for case in cases.list()] == [
        (CASE.case_id, "superseded"),
        (LATER.case_id, "waiting"),
    ]


def test_a_done_case_stays_done_and_says_what_superseded_it(cases: Cases) -> None:
    cases.open(CASE)
    cases.advance(CASE.case_id, "done", 1500.0)
    cases.open(LATER)
    done = cases.get(CASE.case_id)
    assert done.state == "done"
    assert LATER.case_id[:12] in str(done.reason)


def test_a_superseded_case_does_not_move_any_more(cases: Cases) -> None:
    cases.open(CASE)
    cases.open(LATER)
    assert not cases.advance(CASE.case_id, "segmenting", 2001.0)
    assert cases.get(CASE.case_id).state == "superseded"


def test_urgent_cases_come_first(cases: Cases) -> None:
    cases.open(CASE)
    cases.open(replace(LATER, series_instance_uid="1.2.10", priority="urgent"))
    assert [case.priority for case in cases.unfinished()] == ["urgent", "routine"]


def test_a_case_is_found_by_the_beginning_of_its_identity(cases: Cases) -> None:
    cases.open(CASE)
    assert cases.get("abab") == CASE


@pytest.mark.parametrize("prefix", ["", "zz", "%"])
def test_what_names_no_single_case_is_refused(cases: Cases, prefix: str) -> None:
    cases.open(CASE)
    cases.open(replace(LATER, series_instance_uid="1.2.10"))
    with pytest.raises(UsageError):
        cases.get(prefix)


def test_a_held_case_retries_as_a_new_attempt(cases: Cases) -> None:
    cases.open(CASE)
    cases.advance(CASE.case_id, "held", 1100.0, "gap")
    retried = cases.retry(CASE.case_id, 1200.0)
    assert (retried.state, retried.attempt, retried.finished_at) == ("waiting", 2, None)


def test_a_running_case_cannot_be_retried(cases: Cases) -> None:
    cases.open(CASE)
    with pytest.raises(UsageError, match="waiting"):
        cases.retry(CASE.case_id, 1200.0)


def test_a_done_case_cannot_be_discarded(cases: Cases) -> None:
    cases.open(CASE)
    cases.advance(CASE.case_id, "done", 1500.0)
    with pytest.raises(UsageError, match="done"):
        cases.discard(CASE.case_id, 1600.0)


def test_a_case_that_no_card_took_is_routed_again(cases: Cases, ledger: sa.Engine) -> None:
    intake = Intake(ledger)
    intake.open_association(Association("a", "listener", "SCANNER", "127.0.0.1", 999.0))
    intake.record(INSTANCE)
    intake.close_association("a", 1001.0)
    cases.open(replace(CASE, card=None, rule=None, state="held", reason="no rule matches"))
    assert cases.retry(CASE.case_id, 3000.0).state == "waiting"
    assert [item.series_instance_uid for item in intake.quiet_series(3000.0, 20)] == [CASE.series_instance_uid]
    assert cases.list() == ()


def test_a_case_that_no_card_took_gives_way_to_a_later_one(cases: Cases) -> None:
    cases.open(replace(CASE, card=None, state="held"))
    cases.open(LATER)
    with pytest.raises(UsageError, match="later case"):
        cases.retry(CASE.case_id, 3000.0)


def test_starts_that_a_stop_interrupted_are_forgiven(cases: Cases) -> None:
    cases.open(CASE)
    cases.count_start(CASE.case_id, "segment")
    cases.forgive_starts(CASE.case_id)
    assert cases.count_start(CASE.case_id, "segment") == 1


def test_step_starts_and_seconds_are_kept(cases: Cases) -> None:
    cases.open(CASE)
    assert [cases.count_start(CASE.case_id, "segment") for _ in range(2)] == [1, 2]
    cases.note_seconds(CASE.case_id, "segment", 1.5)
    assert cases.get(CASE.case_id).timings == {"segment.starts": 2, "segment": 1.5}


def _received(ledger: sa.Engine, *sop_instances: str) -> None:
    intake = Intake(ledger)
    if intake.find("1.2.3") is None:
        intake.open_association(Association("a", "listener", "SCANNER", "127.0.0.1", 999.0))
    for uid in sop_instances:
        intake.record(replace(INSTANCE, sop_instance_uid=uid))


def test_a_case_that_a_late_image_overtook_is_not_opened(cases: Cases, ledger: sa.Engine) -> None:
    _received(ledger, "1.2.3", "1.2.4")
    assert not cases.open(CASE)  # made of the one image that a slow worker saw
    assert cases.open(LATER)
    assert [case.state for case in cases.list()] == ["waiting"]


def test_of_two_workers_with_different_weights_one_opens_the_case(cases: Cases, ledger: sa.Engine) -> None:
    _received(ledger, "1.2.3")
    assert cases.open(CASE)
    assert not cases.open(replace(CASE, case_id="ef" * 32))
    assert cases.list() == (CASE,)


def test_what_an_older_attempt_writes_is_refused(cases: Cases) -> None:
    cases.open(CASE)
    assert cases.next_attempt(CASE.case_id, 1500.0, "its worker fell silent", attempt=1)
    now = cases.get(CASE.case_id)
    assert not cases.next_attempt(CASE.case_id, 1501.0, "said twice", attempt=1)
    assert not cases.advance(CASE.case_id, "done", 1502.0, attempt=1)
    with pytest.raises(TakenOver):
        cases.note_outputs(CASE.case_id, {"results": []}, 1.0, attempt=1)
    with pytest.raises(TakenOver):
        cases.note_seconds(CASE.case_id, "segment", 1.0, attempt=1)
    with pytest.raises(TakenOver):
        cases.count_start(CASE.case_id, "segment", attempt=1)
    assert cases.get(CASE.case_id) == now
    cases.note_outputs(CASE.case_id, {"slices": 3}, 1.0, attempt=2)
    assert cases.get(CASE.case_id).outputs == {"slices": 3}
