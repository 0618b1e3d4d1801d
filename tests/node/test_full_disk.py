"""A disk that fills in the middle of a case: the case waits and says so, and goes on in the same attempt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.ledger.cases import Case
from dicom_node.uids import RT_STRUCTURE_SET, SEGMENTATION
from tests.deliver.scripted_peer import ScriptedPeer, scripted_peer
from tests.full_disk import small_disk
from tests.machines.site import Record, series_uid, small_series
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]
FULL_SECONDS = 8.0
PAGE = 4096


def settings_for(peer: ScriptedPeer) -> str:
    """A disk with less than a megabyte free is full."""
    return (
        "enabled = false\n"
        "[limits]\nfree_bytes = 1000000\n"
        '[[destination]]\nname = "pacs"\nae_title = "SCRIPTED"\nhost = "127.0.0.1"\n'
        f"port = {peer.destination.port}\n"
        '[[rule]]\nname = "all"\nwhen = { Modality = "CT" }\ncard = "torso"\nto = ["pacs"]\n'
    )


def fill(disk: Path, pages_left: int) -> None:
    """Leave room for so many pages."""
    os.posix_fallocate(fd := os.open(disk / "ballast", os.O_CREAT | os.O_WRONLY), 0, room_for(disk, pages_left))
    os.close(fd)


def room_for(disk: Path, pages_left: int) -> int:
    """Bytes of a file that leaves so many pages."""
    return (os.statvfs(disk).f_bavail - pages_left) * PAGE


@pytest.mark.parametrize(("state", "left"), [("segmenting", 0), ("segmenting", 3), ("encoding", 6), ("encoding", 24)])
def test_a_case_waits_for_room_and_ends_in_its_first_attempt(tmp_path: Path, state: str, left: int) -> None:
    """What pages are left decides what finds no room first: the ledger, the engine's checkpoint, or a result."""
    files = small_series(tmp_path, 1)
    with (
        small_disk(tmp_path / "disk", "24m") as disk,
        scripted_peer(sop_classes=[SEGMENTATION, RT_STRUCTURE_SET]) as peer,
        (tmp_path / "log").open("wb") as log,
    ):
        config = write_config(disk / "node", extra=settings_for(peer))
        with RunningNode(config, {"QUICK_SECONDS": "1"}, MODULE, log) as node:
            assert all(outcome.ok for outcome in node.send(files))
            record = Record(config)
            case_of: Callable[[], Case | None] = lambda: record.case_of(series_uid(files))  # noqa: E731
            record.wait_for(lambda: (case := case_of()) and case.state == state, 60, f"the case is {state}")
            fill(disk, left)
            time.sleep(FULL_SECONDS)
            waiting = case_of()
            said = (tmp_path / "log").read_text()
            (disk / "ballast").unlink()
            case = node.wait_for_cases([series_uid(files)], seconds=90)[0]
            record.engine.dispose()
        assert waiting is not None
        assert waiting.finished_at is None
        assert '"event": "waiting"' in said or "Database connection failed" in said
        assert (case["state"], case["attempt"], case["reason"]) == ("done", 1, None)
        assert sorted(peer.received) == sorted(peer.kept)
        assert len(peer.received) == 2
