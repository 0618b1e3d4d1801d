"""The process group of a node on one machine: listener, worker and embedded archive, each restarted when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.process import is_bound, notify
from dicom_node.settings import Settings

_log = get_logger("serve")
COMMANDS: Final = {"listener": "listen", "worker": "work", "archive": "archive", "audit": "audit"}
"""The command that runs each role."""
RESTART_SECONDS = 1.0
STOP_SECONDS = 45.0
WATCHDOG_SECONDS = 10.0
"""How often the service manager is told that the supervisor lives."""
REFUSALS = 5
"""Refusals to start in a row before the node gives up; a predecessor that is still ending causes one or two."""
REST_SECONDS = 60.0
"""How long an audit trail that keeps refusing to start is left alone before each further attempt."""


def supervise(settings: Settings, config: Path | None, stop: threading.Event, *, roles: Sequence[str] = ()) -> None:
    """Start the node's processes and keep them running until told to stop.

    Args:
        settings: Decides whether the embedded archive is part of the group.
        config: The configuration file the processes read, as given on the command line.
        stop: Set to end all of them: they get SIGTERM, then time to finish the step at hand.
        roles: The roles of this group, where the others run elsewhere; all where empty.

    Raises:
        SettingsError: A process keeps refusing its settings, its port or its home.
    """
    commands = _commands(settings, roles)
    group = _Group(commands, config)
    ports = settings.dicom_ports if "listen" in commands else ()
    is_ready, told = False, float("-inf")
    try:
        while not stop.wait(RESTART_SECONDS / 4):
            group.restart_ended(stop)
            if not is_ready and all(map(is_bound, ports)):
                is_ready = True
                notify("READY=1")
            if time.monotonic() - told > WATCHDOG_SECONDS:
                told = time.monotonic()
                notify("WATCHDOG=1")
    finally:
        notify("STOPPING=1")
        group.stop()


class _Group:
    """The processes, each restarted when it ends.

    Args:
        commands: The arguments of each by its name.
        config: What they read.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], config: Path | None) -> None:
        self._commands, self._config = commands, config
        self._children = {name: _start(command, config) for name, command in commands.items()}
        self._refusals = dict.fromkeys(commands, 0)
        self._resting: dict[str, float] = {}

    def restart_ended(self, stop: threading.Event) -> None:
        """Restart whichever has ended.

        Raises:
            SettingsError: One keeps refusing to start. An audit trail beside a listener or worker is tried again later
                instead: a certificate of its own that has expired holds no reception up.
        """
        for name, child in self._children.items():
            code = child.poll()
            if code is None or time.monotonic() < self._resting.get(name, 0.0):
                continue
            if name not in self._resting:
                self._note_end(name, code)
                stop.wait(RESTART_SECONDS)
            if self._refusals[name] >= REFUSALS and self._resting.pop(name, None) is None:
                self._resting[name] = time.monotonic() + REST_SECONDS
            else:
                self._children[name] = _start(self._commands[name], self._config)

    def stop(self) -> None:
        """End all of them; the audit trail last, for what the others say as they end is still to be written."""
        last = self._children.pop("audit", None)
        _stop_all(list(self._children.values()))
        _stop_all([last] if last else [])

    def _note_end(self, name: str, code: int) -> None:
        self._refusals[name] = self._refusals[name] + 1 if code == SettingsError.exit_code else 0
        is_spared = name == "audit" and {"listen", "work"} & set(self._commands)
        if self._refusals[name] >= REFUSALS and not is_spared:
            raise SettingsError(f'"dicom-node {name}" cannot start: its messages above say why')
        _log.error("process ended and is restarted", role=name, exit_code=code)


def _commands(settings: Settings, roles: Sequence[str]) -> dict[str, list[str]]:
    """What runs in this group: the arguments of each command by its name."""
    everything = ["listener", "worker", *(["archive"] if settings.archive.enabled else [])]
    everything += ["audit"] if settings.audit else []
    commands = {COMMANDS[role]: [COMMANDS[role]] for role in everything if role in (roles or everything)}
    if settings.monitoring.port:
        commands["monitor"] = ["monitor", *(f"--role={role}" for role in roles)]
    return commands


def _start(command: Sequence[str], config: Path | None) -> subprocess.Popen[bytes]:
    configured = ["--config", str(config)] if config else []
    supervised = ["--supervised-by", str(os.getpid())]
    return subprocess.Popen([sys.executable, "-m", "dicom_node", *configured, *command, *supervised])


def _stop_all(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
