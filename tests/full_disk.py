"""Full disks: one that is full from its n-th operation on, for this process alone; and a real one that is small."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own; the test is skipped where mounting one is not permitted.

    Args:
        folder: Where; made.
        size: As tmpfs takes it: "64k", "4m".
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class FullDisk:
    """Counts what needs room on a disk, and refuses it with ENOSPC once the room is used up.

    What is counted: files that are made, blocks that are written, fsyncs, folders that are made, and names that are
    given. Only files that are made anew (mode ``x``) are looked at: the node writes no others.

    Args:
        monkeypatch: Takes the place of the system's functions.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.used: list[str] = []
        path_open = Path.open

        def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if "x" not in mode:
                return path_open(path, mode, *arguments, **options)
            self._use("make a file")
            return io.BufferedWriter(_Blocks(path, self))

        monkeypatch.setattr(Path, "open", opened)
        for name in ("fsync", "mkdir", "replace"):
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def empty(self, room: int | None = None) -> None:
        """Make room for so many operations; for any number where None."""
        self.room, self.used = room, []

    def write(self) -> None:
        """Count a block."""
        self._use("write")

    def _counted(self, name: str, function: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            self._use(name)
            return function(*arguments, **options)

        return counted

    def _use(self, what: str) -> None:
        if self.room is not None and len(self.used) >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.used.append(what)


class _Blocks(io.FileIO):
    def __init__(self, path: Path, disk: FullDisk) -> None:
        super().__init__(path, "x")
        self._disk = disk

    def write(self, content: Any) -> int:
        self._disk.write()
        return int(super().write(content))
