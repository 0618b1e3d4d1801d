"""Machines of a site: network namespaces joined to this machine by veth pairs, each with processes of its own.

Every machine sees the same files, as machines that mount one share at the same path do. Where namespaces may not be
made (no root, a container without the right) they are process groups on addresses of 127.0.0.0/8 instead.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

NETWORK = f"10.{200 + os.getpid() % 50}"
"""First half of the addresses: machine n has 10.x.n.2, and reaches this machine at 10.x.n.1."""
TAG = f"dn{os.getpid() % 100_000}h"
"""Names of namespaces begin with it; short, since names of links derive from it and have 15 characters at most."""


@dataclass
class Host:
    """One machine.

    Attributes:
        name: Its name, and that of its network namespace.
        address: Its own address.
        gateway: This machine's address, as it sees it.
        config: Its node.toml.
    """

    name: str
    address: str
    gateway: str
    config: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def enter(self) -> list[str]:
        """What a command begins with so that it runs on this machine."""
        return ["ip", "netns", "exec", self.name] if is_isolated() else []

    def start(self, role: str, *, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """``dicom-node listen`` or ``work`` on this machine, in a process group of its own."""
        command = [sys.executable, "-m", "tests.quick.node", "--config", str(self.config), role]
        with (self.config.parent / f"{self.name}-{role}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.enter, *command],
                env={**os.environ, **(environment or {})},
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to a process and every child of it."""
        os.killpg(process.pid, number)
        if number == signal.SIGKILL:
            process.wait()


@cache
def is_isolated() -> bool:
    """Whether machines are network namespaces here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    return subprocess.run(["ip", "netns", "list"], capture_output=True, check=False).returncode == 0 and (
        subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    )


@contextmanager
def hosts(folder: Path, count: int, *, tables: dict[str, Any]) -> Iterator[list[Host]]:
    """Machines that share a home and a database.

    Args:
        folder: For their configuration, their logs and the shared home.
        count: How many.
        tables: ``database`` and ``destination`` (port of a receiver on this machine), and ``port`` of the listener.
    """
    made: list[Host] = []
    try:
        made += [_host(folder, number, tables) for number in range(1, count + 1)]
        yield made
    finally:
        for host in made:
            for process in host.processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        for number in range(1, count + 1) if is_isolated() else ():
            subprocess.run(["ip", "link", "del", f"{TAG}{number}o"], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", f"{TAG}{number}"], check=False, capture_output=True)


def _host(folder: Path, number: int, tables: dict[str, Any]) -> Host:
    name, address, gateway = f"{TAG}{number}", f"127.0.0.{number + 1}", "127.0.0.1"
    if is_isolated():
        address, gateway = f"{NETWORK}.{number}.2", f"{NETWORK}.{number}.1"
        _join(name, address, gateway)
    config = folder / f"{name}.toml"
    config.write_text(
        f'[node]\nname = "{name}"\nhome = "{folder / "home"}"\nbind = "{address}"\nport = {tables["port"]}\n'
        f'quiet_seconds = 0.5\ndatabase = "{str(tables["database"]).replace("127.0.0.1", gateway)}"\n'
        "[archive]\nenabled = false\n"
        f'[[peer]]\nae_title = "*"\naddress = "{NETWORK}.0.0/16"\n[[peer]]\nae_title = "*"\naddress = "127.0.0.0/8"\n'
        f'[[destination]]\nname = "pacs"\nae_title = "STORE"\nhost = "{gateway}"\nport = {tables["destination"]}\n'
        "retry_seconds = [1, 1, 2, 2, 5, 5, 10, 10, 30, 30]\ntimeout_seconds = 20\n"
    )
    return Host(name, address, gateway, config)


def _join(name: str, address: str, gateway: str) -> None:
    """Make a namespace and join it to this machine."""
    outside, inside = f"{name}o", f"{name}i"
    _ip("netns", "add", name)
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
    _ip("addr", "add", f"{gateway}/30", "dev", outside)
    _ip("link", "set", outside, "up")
    _ip("-n", name, "addr", "add", f"{address}/30", "dev", inside)
    _ip("-n", name, "link", "set", inside, "up")
    _ip("-n", name, "link", "set", "lo", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def await_end(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Exit code of a process; None where it goes on running."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return process.poll()
