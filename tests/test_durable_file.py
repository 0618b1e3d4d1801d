"""Files are whole under their final name, or not there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from dicom_node.durable_file import make_directory_durably, write_durably
from dicom_node.errors import StorageFull
from tests.full_disk import FullDisk, small_disk


def test_the_content_is_written_in_order(tmp_path: Path) -> None:
    write_durably(tmp_path / "a" / "b" / "file", [b"one", b"two"])
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"onetwo"


def test_nothing_else_is_left_behind(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", [b"x"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the source broke")

    with pytest.raises(OSError, match="source broke"):
        write_durably(tmp_path / "file", broken())
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_fsynced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))[1])
    write_durably(tmp_path / "file", [b"x"])
    assert calls == ["fsync", "rename", "fsync"]


@pytest.mark.peer
def test_a_full_disk_is_told_apart_and_keeps_what_it_has(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        write_durably(disk / "kept", [b"kept"])
        with pytest.raises(StorageFull, match="no room"):
            write_durably(disk / "large", [bytes(16384)] * 8)
        assert {path.name for path in disk.iterdir()} == {"kept"}


def test_a_name_that_could_not_be_made_durable_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    disk.empty()
    write_durably(tmp_path / "first", [b"x"])
    disk.empty(len(disk.used) - 1)
    with pytest.raises(StorageFull, match="no room to write"):
        write_durably(tmp_path / "second", [b"x"])
    assert {path.name for path in tmp_path.iterdir()} == {"first"}


def test_a_folder_that_could_not_be_recorded_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    disk.empty(1)
    with pytest.raises(StorageFull, match="no room to write"):
        make_directory_durably(tmp_path / "folder")
    disk.empty()
    make_directory_durably(tmp_path / "folder")
    assert disk.used == ["mkdir", "fsync"]


def test_a_folder_that_another_thread_is_making_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be seen before it is recorded, and a power cut would take all that was put into it."""
    is_made, may_go_on, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        is_made.set()
        assert may_go_on.wait(30)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(make_directory_durably, tmp_path / "folder")
        assert is_made.wait(30)
        second = pool.submit(make_directory_durably, tmp_path / "folder")
        is_early = bool(wait([second], timeout=0.2).done)
        may_go_on.set()
        first.result(30)
        second.result(30)
    assert not is_early
