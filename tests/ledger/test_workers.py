"""Workers on record, and claims on work: the later one counts, by the database's clock alone."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from dicom_node.errors import TakenOver
from dicom_node.ledger.claims import claim
from dicom_node.ledger.workers import Workers


@pytest.fixture
def workers(ledger: sa.Engine) -> Workers:
    workers = Workers(ledger)
    workers.enter("alpha", "first", host="a", process_id=1)
    return workers


def test_a_worker_that_beats_is_alive(workers: Workers) -> None:
    assert workers.beat("alpha", "first")
    assert workers.strike_silent(5.0) == ()
    assert workers.on_record() == {"alpha"}


def test_a_silent_worker_is_struck_and_learns_of_it(workers: Workers) -> None:
    time.sleep(0.3)
    workers.enter("beta", "second", host="b", process_id=2)
    assert workers.strike_silent(0.2) == ("alpha",)
    assert workers.on_record() == {"beta"}
    assert not workers.beat("alpha", "first")
    assert workers.strike_silent(5.0) == ()


def test_a_restarted_worker_takes_the_place_of_its_predecessor(workers: Workers) -> None:
    workers.enter("alpha", "second", host="a", process_id=3)
    assert not workers.beat("alpha", "first")
    assert workers.beat("alpha", "second")
    workers.leave("alpha", "first")
    assert workers.on_record() == {"alpha"}
    workers.leave("alpha", "second")
    assert workers.on_record() == frozenset()


def test_the_later_claim_counts(ledger: sa.Engine) -> None:
    first = claim(ledger, "case to pacs", "alpha")
    first.require()
    other = claim(ledger, "case to tps", "alpha")
    second = claim(ledger, "case to pacs", "beta")
    second.require()
    other.require()
    with pytest.raises(TakenOver, match="case to pacs"):
        first.require()
