"""A short crash matrix on each back end: nothing acknowledged is lost, no result exists twice, nothing needs a hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.matrix import CrashRun, table

pytestmark = [pytest.mark.peer, pytest.mark.slow]
KILLS = 18
"""On each back end; every target and every transition comes up."""


def test_kills_at_every_transition_lose_nothing(database_setting: str | None, tmp_path: Path) -> None:
    outcome = CrashRun(tmp_path, database_setting, seed=random.randrange(1000)).run(KILLS, at_once=2)
    print("\n" + table(outcome))
    assert outcome.judgement is not None
    assert outcome.judgement.is_clean, table(outcome)
    assert sum(outcome.kills.values()) == KILLS
    assert outcome.series > 0
