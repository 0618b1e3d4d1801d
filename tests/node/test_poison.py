"""A case that kills whoever touches it: three times, then it is held; the others are done meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machines.site import series_uid, small_series
from tests.quick.node import DEADLY, MODULE
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def test_a_case_that_takes_its_process_down_is_held_and_the_others_are_done(tmp_path: Path) -> None:
    deadly, *others = (small_series(tmp_path, seed) for seed in range(3))
    environment = {DEADLY: series_uid(deadly)}
    with (
        (tmp_path / "log").open("wb") as log,
        RunningNode(write_config(tmp_path / "node"), environment, MODULE, log) as node,
    ):
        for files in (deadly, *others):
            assert all(outcome.ok for outcome in node.send(files))
        held, *done = node.wait_for_cases([series_uid(files) for files in (deadly, *others)], seconds=240)
    assert (held["state"], held["attempt"]) == ("held", 1)
    assert held["reason"] == "assemble began 3 times and took its process down each time"
    assert [case["state"] for case in done] == ["done", "done"]
    assert (tmp_path / "log").read_text().count('"exit_code": -9') == 3
