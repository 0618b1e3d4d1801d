"""PostgreSQL is restarted under a node at work: senders are told to come again, and no case pays for it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests import postgres
from tests.machines.site import Record, series_uid, small_series
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]
OUTAGE_SECONDS = 8.0


def test_a_node_outlives_its_database_server(postgresql: postgres.Cluster, tmp_path: Path) -> None:
    config = write_config(tmp_path / "node", database=postgresql.new_database())
    first, second = small_series(tmp_path, 1), small_series(tmp_path, 2)
    with RunningNode(config, {"QUICK_SECONDS": "4"}, MODULE) as node:
        assert all(outcome.ok for outcome in node.send(first))
        record = Record(config)
        segmenting = lambda: (case := record.case_of(series_uid(first))) and case.state == "segmenting"  # noqa: E731
        record.wait_for(segmenting, 60, "the case is being segmented")
        record.engine.dispose()
        pids = node.pids()
        postgresql.stop(signal.SIGQUIT)
        refused = node.send(second[:1])
        time.sleep(OUTAGE_SECONDS)
        postgresql.start()
        assert [outcome.status for outcome in refused] == [0xA700]
        assert all(outcome.ok for outcome in node.send(second))
        cases = node.wait_for_cases([series_uid(first), series_uid(second)], seconds=180)
        assert [(case["state"], case["attempt"]) for case in cases] == [("done", 1)] * 2
        assert {role: node.pids().get(role) for role in ("listen", "work")} == {
            role: pids[role] for role in ("listen", "work")
        }
        record.engine.dispose()
