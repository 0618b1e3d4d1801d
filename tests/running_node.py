"""A real node as its user runs it, for tests, demonstration and bench: started, sent to, asked, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from dicom_node.deliver.echo import echo
from dicom_node.deliver.sender import SendOutcome, send
from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.settings import DestinationTable, Settings, load_settings
from tests.ports import free_port

READY_SECONDS = 90.0
SENDER = "SCANNER"


def write_config(folder: Path, *, extra: str = "", quiet_seconds: float = 1.0, database: str | None = None) -> Path:
    """A node.toml with a home and free ports of its own.

    Args:
        folder: Where file and home lie.
        extra: Further TOML tables.
        quiet_seconds: As in ``[node]``.
        database: As in ``[node]``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "node.toml"
    path.write_text(
        f'[node]\nhome = "{folder / "home"}"\nport = {free_port()}\nquiet_seconds = {quiet_seconds}\n'
        + (f'database = "{database}"\n' if database else "")
        + f"[archive]\nport = {free_port()}\n{extra}"
    )
    return path


@dataclass
class RunningNode:
    """``dicom-node serve`` in a process group of its own; a context manager.

    Attributes:
        config: Its node.toml; None for what ``load_settings`` finds by itself.
        module: What is started: the node, or the node with a stand-in for its network (``tests.quick.node``).
        messages: Where its log goes; to our own stderr where None.
    """

    config: Path | None
    environment: dict[str, str] = field(default_factory=dict)
    module: str = "dicom_node"
    messages: IO[bytes] | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        """The settings it runs with."""
        return load_settings(self.config)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervising process."""
        if self._process is None:
            raise RuntimeError("the node has not been started")
        return self._process

    @property
    def as_destination(self) -> DestinationTable:
        """The node as others send to it."""
        node = self.settings.node
        return DestinationTable(name="node", ae_title=node.ae_title, host=node.bind, port=node.port)

    def start(self) -> Self:
        """Start the node and wait until it answers C-ECHO."""
        self._process = subprocess.Popen(
            self._command("serve"), env={**os.environ, **self.environment}, stderr=self.messages
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the node did not start to listen: see its messages")
            time.sleep(0.2)
        return self

    def _answers(self) -> bool:
        node = self.settings.node
        with socket.socket() as probe:  # asked first: pynetdicom leaks a socket for every refused connection
            if probe.connect_ex((node.bind, node.port)) != 0:
                return False
        return echo(self.as_destination, calling_ae=SENDER).reachable

    def stop(self) -> None:
        """End it as an administrator would: SIGTERM, and wait."""
        self.process.terminate()
        self.process.wait(timeout=120)

    def kill(self) -> None:
        """Kill the supervisor with SIGKILL; the kernel then kills its processes."""
        pids = self.pids().values()
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)

    def pids(self) -> dict[str, int]:
        """Process ids by role: listen, work, archive, inference (as far as they run)."""
        found: dict[str, int] = {}
        for child in _children(self.process.pid):
            role = next((word for word in ("listen", "work", "archive") if word in _command_line(child)), None)
            if role:
                found[role] = child
        for child in _children(found["work"]) if "work" in found else []:
            if any("inference" in word for word in _command_line(child)):
                found["inference"] = child
        return found

    def kill_role(self, role: str) -> None:
        """Kill one of its processes with SIGKILL."""
        os.kill(self.pids()[role], signal.SIGKILL)

    def send(self, files: Sequence[Path]) -> tuple[SendOutcome, ...]:
        """C-STORE files to it over one association."""
        return send(self.as_destination, files, calling_ae=SENDER)

    def command(self, *arguments: str) -> Any:
        """The JSON document that one of its commands prints."""
        done = subprocess.run(
            [*self._command(*arguments), "--json"],
            capture_output=True,
            check=True,
            env={**os.environ, **self.environment},
        )
        return json.loads(done.stdout)

    def cases(self) -> list[dict[str, Any]]:
        """Every case on record, read from the ledger (a command for each look would slow down what is watched)."""
        database = open_database(self.settings.database_url)
        try:
            return [vars(case) for case in Cases(database).list()]
        finally:
            database.dispose()

    def wait_for_cases(self, series: Sequence[str], *, seconds: float) -> list[dict[str, Any]]:
        """The last case of each series, once all have ended.

        Raises:
            TimeoutError: They did not end in time; says how far they came.
        """
        deadline = time.monotonic() + seconds
        while True:
            cases = {case["series_instance_uid"]: case for case in self.cases() if case["state"] != "superseded"}
            if all(uid in cases and cases[uid]["finished_at"] is not None for uid in series):
                return [cases[uid] for uid in series]
            if time.monotonic() > deadline:
                reached = [(case["series_instance_uid"], case["state"], case["reason"]) for case in cases.values()]
                raise TimeoutError(f"the cases did not end within {seconds} s: {reached}")
            time.sleep(0.5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def _command(self, *arguments: str) -> list[str]:
        config = ["--config", str(self.config)] if self.config else []
        return [sys.executable, "-m", self.module, *config, *arguments]


def _children(pid: int) -> list[int]:
    """Processes that any thread of a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended meanwhile
    return found


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
