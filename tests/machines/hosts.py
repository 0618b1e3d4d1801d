"""Machines of a site: network namespaces joined to this machine by veth pairs, each with processes of its own.

Every machine sees the same files, as machines that mount one share at the same path do. Needs root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NETWORK = "10.207"
"""First half of the addresses: machine n has 10.207.n.2, and reaches this machine at 10.207.n.1."""


@dataclass
class Host:
    """One machine.

    Attributes:
        namespace: Its network namespace.
        address: Its own address.
        gateway: This machine's address, as it sees it.
        config: Its node.toml.
    """

    namespace: str
    address: str
    gateway: str
    config: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, role: str, *, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """``dicom-node listen`` or ``work`` on this machine, in a process group of its own."""
        command = [sys.executable, "-m", "tests.quick.node", "--config", str(self.config), role]
        with (self.config.parent / f"{self.namespace}-{role}.log").open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command],
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


@contextmanager
def hosts(folder: Path, count: int, *, tag: str, tables: dict[str, Any]) -> Iterator[list[Host]]:
    """Machines that share a home and a database.

    Args:
        folder: For their configuration, their logs and the shared home.
        count: How many.
        tag: At most six letters that no other test uses: names of namespaces and links begin with it.
        tables: ``database`` and ``destination`` (port of a receiver on this machine), and ``port`` of the listener.
    """
    made: list[Host] = []
    try:
        made += [_host(folder, number, tag, tables) for number in range(1, count + 1)]
        yield made
    finally:
        for host in made:
            for process in host.processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        for number in range(1, count + 1):
            subprocess.run(["ip", "link", "del", f"{tag}{number}o"], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", f"{tag}{number}"], check=False, capture_output=True)


def _host(folder: Path, number: int, tag: str, tables: dict[str, Any]) -> Host:
    namespace, outside, inside = f"{tag}{number}", f"{tag}{number}o", f"{tag}{number}i"
    address, gateway = f"{NETWORK}.{number}.2", f"{NETWORK}.{number}.1"
    _ip("netns", "add", namespace)
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace)
    _ip("addr", "add", f"{gateway}/30", "dev", outside)
    _ip("link", "set", outside, "up")
    _ip("-n", namespace, "addr", "add", f"{address}/30", "dev", inside)
    _ip("-n", namespace, "link", "set", inside, "up")
    _ip("-n", namespace, "link", "set", "lo", "up")
    config = folder / f"{namespace}.toml"
    config.write_text(
        f'[node]\nname = "{namespace}"\nhome = "{folder / "home"}"\nbind = "{address}"\nport = {tables["port"]}\n'
        f'quiet_seconds = 0.5\ndatabase = "{str(tables["database"]).replace("127.0.0.1", gateway)}"\n'
        "[archive]\nenabled = false\n"
        f'[[peer]]\nae_title = "*"\naddress = "{NETWORK}.0.0/16"\n'
        f'[[destination]]\nname = "pacs"\nae_title = "STORE"\nhost = "{gateway}"\nport = {tables["destination"]}\n'
        "retry_seconds = [1, 1, 2, 2, 5, 5, 10, 10, 30, 30]\ntimeout_seconds = 20\n"
    )
    return Host(namespace, address, gateway, config)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def await_end(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Exit code of a process; None where it goes on running."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return process.poll()
