"""The process group of a node on one machine: listener, worker and embedded archive, each restarted when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
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
    children = {name: _start(command, config) for name, command in commands.items()}
    refusals = dict.fromkeys(commands, 0)
    ports = settings.dicom_ports if "listen" in commands else ()
    is_ready, told = False, float("-inf")
    try:
        while not stop.wait(RESTART_SECONDS / 4):
            for name, command in commands.items():
                code = children[name].poll()
                if code is None:
                    continue
                refusals[name] = refusals[name] + 1 if code == SettingsError.exit_code else 0
                if refusals[name] == REFUSALS:
                    raise SettingsError(f'"dicom-node {name}" cannot start: its messages above say why')
                _log.error("process ended and is restarted", role=name, exit_code=code)
                stop.wait(RESTART_SECONDS)
                children[name] = _start(command, config)
            if not is_ready and all(map(is_bound, ports)):
                is_ready = True
                notify("READY=1")
            if time.monotonic() - told > WATCHDOG_SECONDS:
                told = time.monotonic()
                notify("WATCHDOG=1")
    finally:
        notify("STOPPING=1")
        last = children.pop("audit", None)  # what the others say as they end is still to be written
        _stop_all(list(children.values()))
        _stop_all([last] if last else [])


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
