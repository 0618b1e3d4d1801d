"""kill -9 of any process at any moment of a case: every acknowledged series ends done, each result exists once.

The real network where it is at work when the kill falls, a stand-in for it elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.ledger.cases import FINAL_STATES, Cases
from dicom_node.ledger.database import open_database
from dicom_node.ledger.intake import Intake
from tests.phantoms import PhantomSpec, write
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

pytestmark = pytest.mark.peer

ORDER = ("waiting", "assembling", "segmenting", "encoding", "verifying", "delivering", "done")
CASE_SECONDS = 240.0


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    spec = PhantomSpec(
        modality="CT", anatomy="torso", slices=40, rows=64, columns=80,
        row_spacing=5.0, column_spacing=5.0, slice_spacing=10.0,
    )  # fmt: skip
    return write(spec, tmp_path_factory.mktemp("series"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    with RunningNode(write_config(tmp_path)) as node:
        yield node


@pytest.fixture
def quick_node(tmp_path: Path) -> Iterator[RunningNode]:
    with RunningNode(write_config(tmp_path), module=MODULE) as node:
        yield node


def _series_uid(files: list[Path]) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)


def _wait_for_state(node: RunningNode, state: str) -> str:
    """The state of the only case once it is ``state`` or beyond it."""
    cases = Cases(open_database(node.settings.database_url))
    deadline = time.monotonic() + CASE_SECONDS
    while time.monotonic() < deadline:
        for case in cases.list():
            if case.state in FINAL_STATES or ORDER.index(case.state) >= ORDER.index(state):
                return case.state
        time.sleep(0.005)
    raise TimeoutError(f"no case became {state}")


def _assert_done_once(node: RunningNode, files: list[Path]) -> None:
    (case,) = node.wait_for_cases([_series_uid(files)], seconds=CASE_SECONDS)
    assert (case["state"], case["reason"]) == ("done", None)
    assert len(node.cases()) == 1
    stored = sorted(path.stem for path in (node.settings.node.home / "archive").rglob("*.dcm"))
    results = sorted(result["sop_instance_uid"] for result in case["outputs"]["results"])
    assert stored == results
    assert len(results) == 2


@pytest.mark.parametrize("role", ["work", "inference", "listen"])
def test_a_process_killed_while_the_network_works_costs_nothing(
    node: RunningNode, series: list[Path], role: str
) -> None:
    assert all(outcome.ok for outcome in node.send(series))
    _wait_for_state(node, "segmenting")
    _wait_for_role(node, "inference")
    node.kill_role(role)
    _assert_done_once(node, series)


@pytest.mark.parametrize(
    ("role", "state"),
    [("work", "waiting"), ("work", "encoding"), ("work", "delivering"), ("archive", "delivering")],
)
def test_a_killed_process_costs_nothing(quick_node: RunningNode, series: list[Path], role: str, state: str) -> None:
    assert all(outcome.ok for outcome in quick_node.send(series))
    _wait_for_state(quick_node, state)
    quick_node.kill_role(role)
    _assert_done_once(quick_node, series)


def test_a_node_killed_while_the_network_works_does_the_case_again(node: RunningNode, series: list[Path]) -> None:
    _assert_goes_on_after_a_kill(node, series, "segmenting")


@pytest.mark.parametrize("state", ["waiting", "assembling", "verifying", "delivering"])
def test_a_killed_node_goes_on_where_it_was(quick_node: RunningNode, series: list[Path], state: str) -> None:
    _assert_goes_on_after_a_kill(quick_node, series, state)


def _assert_goes_on_after_a_kill(node: RunningNode, files: list[Path], state: str) -> None:
    assert all(outcome.ok for outcome in node.send(files))
    _wait_for_state(node, state)
    node.kill()
    node.start()
    _assert_done_once(node, files)


def test_a_listener_killed_while_receiving_keeps_what_it_acknowledged(
    quick_node: RunningNode, series: list[Path]
) -> None:
    node = quick_node
    half = len(series) // 2
    acknowledged = [outcome.sop_instance_uid for outcome in node.send(series[:half]) if outcome.ok]
    node.kill_role("listen")
    node.kill()
    node.start()
    intake = Intake(open_database(node.settings.database_url))
    assert all(intake.find(uid) is not None for uid in acknowledged)
    assert all(outcome.ok for outcome in node.send(series))
    _assert_whole_series_done(node, series)


def _assert_whole_series_done(node: RunningNode, files: list[Path]) -> None:
    """The case of all images is done; one of the first half, where it was opened in between, gave way to it."""
    node.wait_for_cases([_series_uid(files)], seconds=CASE_SECONDS)
    whole = [case for case in node.cases() if len(case["instances"]) == len(files)]
    assert [case["state"] for case in whole] == ["done"]


def _wait_for_role(node: RunningNode, role: str) -> None:
    deadline = time.monotonic() + 60
    while role not in node.pids() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_stop_in_the_middle_of_a_case_costs_no_attempt(node: RunningNode, series: list[Path]) -> None:
    assert all(outcome.ok for outcome in node.send(series))
    _wait_for_state(node, "segmenting")
    node.stop()
    node.start()
    (case,) = node.wait_for_cases([_series_uid(series)], seconds=CASE_SECONDS)
    assert (case["state"], case["attempt"]) == ("done", 1)
