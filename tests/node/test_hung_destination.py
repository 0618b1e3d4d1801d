"""A destination that accepts the connection and never says a word: the one beside it gets its results all the same."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from dicom_node.ledger.database import open_database
from dicom_node.ledger.deliveries import Deliveries, Delivery
from tests.machines.site import series_uid, small_series
from tests.peers import storescp, wait_until
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SILENCE_SECONDS = 120.0
"""The hung destination's time limit: who waits for it cannot be done within half of this."""


def _table(name: str, ae_title: str, port: int) -> str:
    return (
        f'[[destination]]\nname = "{name}"\nae_title = "{ae_title}"\nhost = "127.0.0.1"\nport = {port}\n'
        f"timeout_seconds = {SILENCE_SECONDS}\n"
    )


def _deliveries(node: RunningNode, destination: str) -> list[Delivery]:
    database = open_database(node.settings.database_url)
    try:
        cases = [case["case_id"] for case in node.cases()]
        return [row for case_id in cases for row in Deliveries(database).of_case(case_id, destination)]
    finally:
        database.dispose()


def test_a_hung_destination_delays_no_other(tmp_path: Path) -> None:
    series = [small_series(tmp_path, seed) for seed in range(2)]
    with socket.create_server(("127.0.0.1", 0)) as hung, storescp(tmp_path / "peer") as good:
        tables = _table("hung", "HUNG", hung.getsockname()[1]) + _table("pacs", "STORE", good.destination.port)
        with RunningNode(write_config(tmp_path / "node", extra=tables), module=MODULE) as node:
            sent = time.monotonic()
            for files in series:
                assert all(outcome.ok for outcome in node.send(files))

            def arrived() -> bool:
                rows = _deliveries(node, "pacs")
                return len(rows) == 2 * len(series) and all(row.state == "confirmed" for row in rows)

            assert wait_until(arrived, SILENCE_SECONDS / 2)
            print(f"two cases arrived {time.monotonic() - sent:.1f} s after they were sent")
            # it is being tried, and hangs
            assert wait_until(lambda: any(row.attempts == 1 for row in _deliveries(node, "hung")))
            assert {row.state for row in _deliveries(node, "hung")} == {"waiting"}
            assert {case["state"] for case in node.cases()} == {"delivering"}
            assert {case["series_instance_uid"] for case in node.cases()} == {series_uid(files) for files in series}
            node.kill()  # a step that waits for the hung one would outlast the patience of a stop
    assert len(list(good.folder.iterdir())) == 2 * len(series)
