"""A PostgreSQL of the tests' own: a cluster in a temporary folder, on a free port of 127.0.0.1, stopped by its PID.

The server refuses to run as root; there it runs as the user ``postgres`` that the Debian package makes.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.ports import free_port

BINARIES = Path("/usr/lib/postgresql")
START_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "log_min_messages": "warning",
}
_OWNER: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
"""What :class:`subprocess.Popen` is told so that the server does not run as root."""


@dataclass
class Cluster:
    """A running server.

    Attributes:
        folder: Its data and its log.
        port: Where it listens, on this machine at least.
    """

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None
    _emptied: str | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        """What ``[node] database`` says to use a database of this cluster."""
        return f"postgresql://node@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """URL of an empty database that the role ``node`` owns; the role has no other rights."""
        name = f"node{next(self._numbers)}"
        with psycopg.connect(self._administrator, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER node")
        return self.url(name)

    def emptied_database(self) -> str:
        """URL of one and the same database, emptied: dropping tables is much quicker than making a database."""
        if self._emptied is None:
            self._emptied = self.new_database()
        with psycopg.connect(self._emptied, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS dbos, public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return self._emptied

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_binary("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), "-p", str(self.port)],
                stdout=log,
                stderr=log,
                cwd="/",
                **_OWNER,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT disconnects everybody, SIGQUIT is its kill -9 with recovery at the next start."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def configure(self, **values: str) -> None:
        """Change settings that take effect without a restart."""
        with psycopg.connect(self._administrator, autocommit=True) as connection:
            for name, value in values.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + START_SECONDS
            while any(connection.execute(f"SHOW {name}").fetchone() != (value,) for name, value in values.items()):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"PostgreSQL does not take up {values}")
                time.sleep(0.05)

    @property
    def _administrator(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=administrator dbname=postgres connect_timeout=5"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._administrator).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def cluster(networks: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """A cluster from ``initdb`` to its end.

    Args:
        networks: Who may connect beside this machine (CIDR); the server listens on every address then.
    """
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        _initialise(folder / "data", networks)
        made = Cluster(folder, free_port())
        made.start()
        try:
            with psycopg.connect(made._administrator, autocommit=True) as connection:
                connection.execute("CREATE ROLE node LOGIN")
            yield made
        finally:
            made.stop(signal.SIGQUIT)  # its data are thrown away: no checkpoint, which takes long where disks are slow
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_installed() -> bool:
    """Whether Debian's package ``postgresql`` is there."""
    return any(BINARIES.glob("*/bin/initdb"))


def _initialise(folder: Path, networks: tuple[str, ...]) -> None:
    command = [_binary("initdb"), "-D", str(folder), "-U", "administrator", "--auth=trust", "-E", "UTF8", "--locale=C"]
    made = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **_OWNER)
    if made.returncode != 0:
        raise RuntimeError(f"initdb failed: {made.stderr}")
    chosen = {**_SETTINGS, **({"listen_addresses": "*"} if networks else {})}
    with (folder / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())
    with (folder / "pg_hba.conf").open("a") as file:
        file.writelines(f"host all node {network} trust\n" for network in networks)


def _binary(name: str) -> str:
    found = sorted(BINARIES.glob(f"*/bin/{name}"))
    if not found:
        raise RuntimeError(f"{name} is not installed (apt: postgresql)")
    return str(found[-1])
