"""The node when its databases are locked for long, or damaged: it waits, or says what is wrong; it forgets nothing."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.settings import load_settings
from tests.machines.site import series_uid, small_series
from tests.peers import wait_until
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config
from tests.test_sqlite_file import PAGE, middle, overwrite

pytestmark = pytest.mark.peer
LOCK_SECONDS = 6.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a stopped node with one finished case."""
    folder = tmp_path_factory.mktemp("finished")
    files = small_series(folder, 1)
    config = write_config(folder / "node")
    with RunningNode(config, module=MODULE) as node:
        node.send(files)
        assert node.wait_for_cases([series_uid(files)], seconds=120)[0]["state"] == "done"
    for path in node.settings.node.home.glob("*.sqlite"):  # what the log holds would stand in for what is overwritten
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return config


@pytest.fixture
def stopped(finished: Path, tmp_path: Path) -> Path:
    """The configuration of a copy of that node."""
    home = load_settings(finished).node.home
    shutil.copytree(home, tmp_path / "home")
    config = tmp_path / "node.toml"
    config.write_text(finished.read_text().replace(str(home), str(tmp_path / "home")))
    return config


def command(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicom_node", "--config", str(config), *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.slow
def test_a_database_that_is_locked_for_long_delays_cases_and_no_more(tmp_path: Path) -> None:
    files, later = small_series(tmp_path, 1), small_series(tmp_path, 2)
    config = write_config(tmp_path / "node")
    environment = {"QUICK_BUSY_MILLISECONDS": "1000", "QUICK_SECONDS": "3"}
    with RunningNode(config, environment, module=MODULE) as node:
        node.send(files)
        assert wait_until(lambda: "segmenting" in [case["state"] for case in node.cases()], 60)
        with closing(sqlite3.connect(node.settings.node.home / "node.sqlite")) as holder:
            holder.execute("BEGIN IMMEDIATE")
            assert [outcome.status for outcome in node.send(later[:1])] == [0xA700]
            time.sleep(LOCK_SECONDS)
            holder.rollback()
        assert all(outcome.ok for outcome in node.send(later))
        cases = node.wait_for_cases([series_uid(files), series_uid(later)], seconds=120)
    assert [case["state"] for case in cases] == ["done", "done"]


@pytest.mark.parametrize("where", ["header", "middle"])
@pytest.mark.parametrize(("role", "name"), [("listen", "node"), ("work", "node"), ("work", "workflows")])
def test_a_process_refuses_a_damaged_database(stopped: Path, role: str, name: str, where: str) -> None:
    path = stopped.parent / "home" / f"{name}.sqlite"
    overwrite(path, 0, 100) if where == "header" else overwrite(path, middle(path))
    content = path.read_bytes()
    ended = command(stopped, role)
    assert ended.returncode == 2, ended.stderr
    assert f"{name}.sqlite is damaged" in ended.stderr
    assert "restore it from a backup" in ended.stderr
    assert path.read_bytes() == content


def test_commands_say_that_the_database_is_damaged(stopped: Path) -> None:
    path = stopped.parent / "home" / "node.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'cases'").fetchone()[0]
        assert connection.execute("PRAGMA page_size").fetchone()[0] == PAGE
    overwrite(path, root - 1)
    ended = command(stopped, "cases", "list")
    assert ended.returncode == 2
    assert ended.stderr.startswith("dicom-node: the database of the node is damaged")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_database_that_is_damaged_under_a_running_node_ends_it(stopped: Path, tmp_path: Path) -> None:
    path = stopped.parent / "home" / "node.sqlite"
    with (tmp_path / "log").open("wb") as log, RunningNode(stopped, module=MODULE, messages=log) as node:
        overwrite(path, 0, 100)
        for number in range(1, middle(path) * 2):
            overwrite(path, number)
        assert node.process.wait(timeout=120) == 2
    assert "is damaged" in (tmp_path / "log").read_text()
