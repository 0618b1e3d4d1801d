"""Scanners that do not give up: each sends series after series with storescu, and again what was not acknowledged."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines.site import series_uid, small_series
from tests.peers import QUICK, tool
from tests.receive.test_kill import acknowledged

PAUSE_SECONDS = 0.3


@dataclass
class Sent:
    """What one scanner has sent so far.

    Attributes:
        acknowledged: Files that were answered with Success at least once.
        series: Series of which every image was acknowledged in one association.
    """

    acknowledged: set[Path] = field(default_factory=set)
    series: list[str] = field(default_factory=list)


class Sender(threading.Thread):
    """One scanner.

    Args:
        number: Tells its series from those of others.
        port: Of the node's listener.
        folder: For its series and logs.
        may_begin: Whether the node has room for another series; a scanner waits for it.
    """

    def __init__(self, number: int, port: int, folder: Path, may_begin: Callable[[], bool]) -> None:
        super().__init__(name=f"sender {number}", daemon=True)
        self.sent = Sent()
        self.broke: Exception | None = None
        self._number = number
        self._port = port
        self._folder = folder
        self._may_begin = may_begin
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None

    def run(self) -> None:
        """Send series after series until told to end; the series at hand is brought to its end."""
        try:
            self._send_series()
        except Exception as error:
            self.broke = error  # whoever judges looks at it
            raise

    def _send_series(self) -> None:
        seed = self._number * 1000
        while not self._ended.is_set():
            if not self._may_begin():
                time.sleep(PAUSE_SECONDS)
                continue
            seed += 1
            files = small_series(self._folder, seed)
            attempt = 0
            while not self._store(files, attempt):
                attempt += 1
                time.sleep(PAUSE_SECONDS + random.random())
            self.sent.series.append(series_uid(files))

    def end(self) -> None:
        """Begin no further series."""
        self._ended.set()

    def kill(self) -> bool:
        """Kill the association that is open now; whether there was one."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        return True

    def progress(self) -> int:
        """Grows with everything that is sent or answered."""
        log = self._log
        return log.stat().st_size if log is not None and log.exists() else 0

    def _store(self, files: list[Path], attempt: int) -> bool:
        log = files[0].parent.with_suffix(f".{attempt}.log")
        command = [tool("storescu"), "-v", "-to", "20", "-ta", "20", "-td", "30", "-aec", "DICOM_NODE"]
        with log.open("wb") as output:
            self._log = log
            self._process = subprocess.Popen(
                [*command, "127.0.0.1", str(self._port), *map(str, files)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=QUICK,
            )
            code = self._process.wait()
        answered = acknowledged(log)
        self.sent.acknowledged.update(answered)
        return code == 0 and set(answered) == set(files)
