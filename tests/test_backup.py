"""Backup and restore: what was acknowledged is processed, what arrived is not sent again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.backup import back_up, restore
from dicom_node.errors import InputRefused, SettingsError, UsageError
from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.ledger.retention import Retention
from dicom_node.process import role_owner
from dicom_node.settings import Settings, parse_settings
from tests.deliver.scripted_peer import ScriptedPeer, scripted_peer
from tests.monitoring.test_endpoint import FAST, SMALL
from tests.peers import wait_until
from tests.phantoms import PhantomSpec, write
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config
from tests.test_tidying import Home

SEG, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
NOW = 5000.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.receive()
    return home


def lose_databases(settings: Settings) -> None:
    for path in settings.node.home.glob("*.sqlite*"):
        path.unlink()


def test_the_record_comes_back_as_it_was(home: Home, tmp_path: Path) -> None:
    case = home.case("held")
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    lose_databases(home.settings)
    assert restore(home.settings, tmp_path / "backup", NOW) == {
        "unfinished_cases": 0, "images_copied": 0, "images_found_in_the_spool": 0, "images_missing": 0,
    }  # fmt: skip
    database = open_database(home.settings.database_url)
    assert [item.state for item in Cases(database).list()] == ["held"]
    assert [item.state for item in Deliveries(database).of_case(case.case_id)] == ["confirmed"]


def test_images_acknowledged_since_are_put_on_record_again(home: Home, tmp_path: Path) -> None:
    home.case()
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    later = write(PhantomSpec(slices=4, rows=70), tmp_path / "later")
    home.receive(later)
    lose_databases(home.settings)
    assert restore(home.settings, tmp_path / "backup", NOW)["images_found_in_the_spool"] == 4
    desk = Home(home.root).desk.intake
    (series,) = desk.quiet_series(NOW + 100, 20)
    assert (series.series_instance_uid, series.calling_ae) == (str(dcmread(later[0]).SeriesInstanceUID), "SCANNER")
    found = desk.find(str(dcmread(later[0]).SOPInstanceUID))
    assert found is not None
    assert found.size == Path(found.path).stat().st_size


def test_images_that_were_leaving_are_not_taken_back(home: Home, tmp_path: Path) -> None:
    home.case()
    tidying = Home(home.root)
    assert Retention(tidying.database).let_go(home.series, 4000.0, NOW)
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    lose_databases(home.settings)
    assert restore(home.settings, tmp_path / "backup", NOW)["images_found_in_the_spool"] == 0


def test_a_backup_with_images_needs_no_spool(home: Home, tmp_path: Path) -> None:
    home.case("delivering")
    assert back_up(home.settings, tmp_path / "backup", NOW, images=True)["images"] == 6
    shutil.rmtree(home.root)
    done = restore(home.settings, tmp_path / "backup", NOW)
    assert (done["images_copied"], done["images_missing"], done["unfinished_cases"]) == (6, 0, 1)


def test_images_that_are_missing_are_counted(home: Home, tmp_path: Path) -> None:
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    shutil.rmtree(home.root)
    assert restore(home.settings, tmp_path / "backup", NOW)["images_missing"] == 6


def test_what_is_replaced_is_moved_aside(home: Home, tmp_path: Path) -> None:
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    restore(home.settings, tmp_path / "backup", NOW)
    assert (home.root / "before-restore-5000" / "node.sqlite").is_file()


def test_a_log_of_the_old_database_does_not_get_into_the_new_one(home: Home, tmp_path: Path) -> None:
    """The log of a killed node lies beside its database."""
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    home.case("held")
    assert (home.root / "node.sqlite-wal").stat().st_size > 0
    restore(home.settings, tmp_path / "backup", NOW)
    assert Cases(open_database(home.settings.database_url)).list() == ()


def test_a_copy_is_whole_and_private_beside_a_writer(home: Home, tmp_path: Path) -> None:
    writer = sqlite3.connect(home.root / "node.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    writer.execute("ROLLBACK")
    writer.close()
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["backup.json", "node.sqlite"]
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("role", ["node", "listener", "worker"])
def test_nothing_is_restored_under_a_running_node(home: Home, tmp_path: Path, role: str) -> None:
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    with role_owner(home.root, role), pytest.raises(UsageError, match=f"another {role}"):
        restore(home.settings, tmp_path / "backup", NOW)


def test_what_is_no_backup_of_this_home_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no whole backup"):
        restore(home.settings, tmp_path, NOW)
    back_up(home.settings, tmp_path / "backup", NOW, images=False)
    with pytest.raises(UsageError, match="is a backup of"):
        restore(Home(tmp_path / "elsewhere" / "home").settings, tmp_path / "backup", NOW)
    with (tmp_path / "backup" / "node.sqlite").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    with pytest.raises(InputRefused, match="not the file that was backed up"):
        restore(home.settings, tmp_path / "backup", NOW)


def test_an_image_that_is_not_what_is_on_record_is_no_backup(home: Home, tmp_path: Path) -> None:
    home.desk.files[0].write_bytes(b"damage")
    with pytest.raises(InputRefused, match="is not the file that is on record"):
        back_up(home.settings, tmp_path / "backup", NOW, images=True)
    assert not (tmp_path / "backup" / "backup.json").exists()


def test_a_server_is_backed_up_by_its_own_tools(tmp_path: Path) -> None:
    settings = parse_settings({"node": {"home": str(tmp_path), "database": "postgresql://x"}}, origin="test")
    with pytest.raises(SettingsError, match="pg_dump"):
        back_up(settings, tmp_path / "backup", NOW, images=False)


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with scripted_peer(sop_classes=(SEG, RTSTRUCT)) as peer:
        yield peer


@pytest.mark.peer
@pytest.mark.slow
def test_pending_cases_go_on_and_nothing_is_sent_twice(tmp_path: Path, peer: ScriptedPeer) -> None:
    """Backed up with the destination down and a second series not yet sent; lost after both had arrived."""
    first = write(SMALL, tmp_path / "first")
    second = write(SMALL.__class__(**{**vars(SMALL), "slices": 41}), tmp_path / "second")
    port = peer.destination.port
    destination = (
        f'[[destination]]\nname = "pacs"\nae_title = "SCRIPTED"\nhost = "127.0.0.1"\nport = {port}\n'
        f"retry_seconds = {[1] * 100}\n"
    )
    node = RunningNode(write_config(tmp_path / "node", extra=destination + FAST), module=MODULE)
    series = [str(dcmread(files[0]).SeriesInstanceUID) for files in (first, second)]
    peer.statuses = [0xA700]  # out of resources
    with node:
        node.send(first)
        assert wait_until(lambda: any(case["state"] == "delivering" for case in node.cases()), 240)
        backup = node.command("backup", str(tmp_path / "backup"))
        assert backup["images"] is None
        peer.statuses = [0]
        node.send(second)
        node.wait_for_cases(series, seconds=200)
    arrived = [uid for uid in peer.received if uid in peer.kept]
    assert len(peer.kept) == 4
    stored_before = len(peer.received)
    lose_databases(node.settings)
    assert arrived
    restored = node.command("restore", str(tmp_path / "backup"))
    assert (restored["unfinished_cases"], restored["images_found_in_the_spool"]) == (1, len(second))
    with node:
        done: list[dict[str, Any]] = node.wait_for_cases(series, seconds=240)
    assert [(case["state"], case["attempt"]) for case in done] == [("done", 1), ("done", 1)]
    assert len(peer.received) == stored_before
    assert len(peer.kept) == 4
    assert json.loads((tmp_path / "backup" / "backup.json").read_text()) == backup
