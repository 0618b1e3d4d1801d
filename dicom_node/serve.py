"""The process group of a node on one machine: listener, worker and embedded archive, each restarted when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.process import is_bound, notify
from dicom_node.settings import Settings

_log = get_logger("serve")
RESTART_SECONDS = 1.0
STOP_SECONDS = 45.0
WATCHDOG_SECONDS = 10.0
"""How often the service manager is told that the supervisor lives."""
REFUSALS = 5
"""Refusals to start in a row before the node gives up; a predecessor that is still ending causes one or two."""


def supervise(settings: Settings, config: Path | None, stop: threading.Event) -> None:
    """Start the node's processes and keep them running until told to stop.

    Args:
        settings: Decides whether the embedded archive is part of the group.
        config: The configuration file the processes read, as given on the command line.
        stop: Set to end all of them: they get SIGTERM, then time to finish the step at hand.

    Raises:
        SettingsError: A process keeps refusing its settings, its port or its home.
    """
    roles = ["listen", "work", *(["archive"] if settings.archive.enabled else [])]
    roles += ["monitor"] if settings.monitoring.port else []
    roles += ["audit"] if settings.audit else []
    children = {role: _start(role, config) for role in roles}
    refusals = dict.fromkeys(roles, 0)
    is_ready, told = False, float("-inf")
    try:
        while not stop.wait(RESTART_SECONDS / 4):
            for role in roles:
                code = children[role].poll()
                if code is None:
                    continue
                refusals[role] = refusals[role] + 1 if code == SettingsError.exit_code else 0
                if refusals[role] == REFUSALS:
                    raise SettingsError(f'"dicom-node {role}" cannot start: its messages above say why')
                _log.error("process ended and is restarted", role=role, exit_code=code)
                stop.wait(RESTART_SECONDS)
                children[role] = _start(role, config)
            if not is_ready and is_bound(settings.node.port):
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


def _start(role: str, config: Path | None) -> subprocess.Popen[bytes]:
    configured = ["--config", str(config)] if config else []
    command = [sys.executable, "-m", "dicom_node", *configured, role, "--supervised-by", str(os.getpid())]
    return subprocess.Popen(command)


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
