"""What every long-running process of the node does: one of a kind per home, private files, dies with its parent."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_node.errors import SettingsError, UsageError

_PR_SET_PDEATHSIG = 1
PRIVATE_UMASK = 0o077
NOTIFY_VARIABLE = "NOTIFY_SOCKET"
_LISTENING = "0A"
_NO_LOGIN = 0xFFFFFFFF
"""What the kernel says of a process that no login led to (``proc(5)``, loginuid)."""


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: whatever is killed, no orphan keeps a port or a lock.

    Nothing is lost by it: every process of the node may be killed at any moment (Linux ``prctl(2)``).

    Args:
        parent: Process id of the parent, as the parent itself knows it: it may be dead already.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def role_owner(home: Path, role: str, *, shared: bool = False, patience_seconds: float = 10.0) -> Iterator[None]:
    """Hold the lock ``<home>/<role>.lock`` while the block runs; the kernel lets go of it when the process dies.

    Args:
        home: The node's home; made, with mode 0700, where it is missing.
        role: ``listener``, ``worker`` or ``archive``.
        shared: Whether others may have this role in this home too: workers of several machines. The lock then tells
            only that somebody has it.
        patience_seconds: How long to wait for a predecessor that is still ending.

    Raises:
        UsageError: Another process has the role in this home.
        SettingsError: The home cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"[node] home {home} cannot be made: {error.strerror}") from error
    with (home / f"{role}.lock").open("a+b") as file:
        deadline = time.monotonic() + patience_seconds
        while not _try_lock(file.fileno(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise UsageError(f"another {role} already serves {home.absolute()}: one {role} per home")
            time.sleep(0.1)
        yield


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs (main thread only)."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def login_name() -> str:
    """Who works at this machine, as ``name@host``: whoever logged in, also behind sudo, as the kernel knows it."""
    noted = Path("/proc/self/loginuid")
    login = int(noted.read_text()) if noted.exists() else _NO_LOGIN
    user = os.getuid() if login == _NO_LOGIN else login
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    return f"{name}@{socket.gethostname()}"


def notify(message: str) -> None:
    """Tell the service manager that started us, if any: ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1`` (sd_notify(3))."""
    address = os.environ.get(NOTIFY_VARIABLE)
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager, suppress(OSError):
        manager.setblocking(False)  # one that does not read must not hold the node up
        manager.sendto(message.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)


def is_bound(port: int) -> bool:
    """Whether somebody on this machine listens on a TCP port; nothing connects to it (``proc(5)``)."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
