"""A ledger on a full disk: what was not put on record is asked for first, so nothing is lost and nothing sent twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger.audit_events import audited
from dicom_node.ledger.database import open_database
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.settings import parse_settings
from tests.deliver.scripted_peer import ScriptedPeer, scripted_peer
from tests.deliver.test_delivery import attempt, plan, states
from tests.full_disk import small_disk


class Ledger:
    """Deliveries on a small disk of their own, with an audit trail to be told."""

    def __init__(self, disk: Path) -> None:
        tables = {"node": {"home": str(disk)}, "audit": {"file": str(disk / "trail")}}
        settings = parse_settings(tables, origin="test")
        self.engine = audited(open_database(settings.database_url), settings)
        self.deliveries = Deliveries(self.engine)
        self._disk = disk

    def fill(self) -> None:
        (self._disk / "filler").write_bytes(bytes(shutil.disk_usage(self._disk).free))

    def make_room(self) -> None:
        (self._disk / "filler").unlink()


@pytest.fixture
def ledger_on_disk(tmp_path: Path) -> Iterator[Ledger]:
    with small_disk(tmp_path / "disk", "4m") as disk:
        ledger = Ledger(disk)
        yield ledger
        ledger.engine.dispose()


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with scripted_peer() as running:
        yield running


def test_without_room_nothing_is_sent_and_with_room_everything_once(
    ledger_on_disk: Ledger, peer: ScriptedPeer, objects: list[Path]
) -> None:
    uids = plan(ledger_on_disk.deliveries, "scripted", objects)
    ledger_on_disk.fill()
    with pytest.raises(sa.exc.OperationalError, match="full"):
        attempt(peer, ledger_on_disk.deliveries)
    assert peer.received == []
    ledger_on_disk.make_room()
    assert attempt(peer, ledger_on_disk.deliveries).outcome == "confirmed"
    assert sorted(peer.received) == sorted(uids)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_disk_that_fills_between_two_results_has_none_sent_twice(
    ledger_on_disk: Ledger, peer: ScriptedPeer, objects: list[Path], after: int
) -> None:
    """The destination has some of them, and the ledger does not say so."""
    uids = plan(ledger_on_disk.deliveries, "scripted", objects)

    class Filling(set[str]):
        def add(self, uid: str) -> None:
            super().add(uid)
            if len(self) == after:
                ledger_on_disk.fill()

    peer.kept = Filling(peer.kept)
    with pytest.raises(sa.exc.OperationalError, match="full"):
        attempt(peer, ledger_on_disk.deliveries)
    ledger_on_disk.make_room()
    assert attempt(peer, ledger_on_disk.deliveries).outcome == "confirmed"
    assert states(ledger_on_disk.deliveries) == ["confirmed"] * 3
    assert sorted(peer.received) == sorted(uids)
