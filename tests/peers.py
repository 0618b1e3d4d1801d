"""Real DICOM peers for the tests: dcmtk's tools and Orthanc, each on a free port, stopped by its PID.

dcmtk's servers and Orthanc 1.10 offer no way to bind one address alone; what they accept is limited to this machine by
their own access rules where they have any.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_node.ledger.database import open_database
from dicom_node.ledger.intake import Intake
from dicom_node.receive.listener import Listener
from dicom_node.settings import DestinationTable, Settings
from tests.installed import missing, orthanc_dicomweb
from tests.ports import free_port

ORTHANC = "/usr/sbin/Orthanc"
CALLING_AE = "DICOM_NODE"
QUICK = {**os.environ, "TCP_NODELAY": "1"}
NOBODY_LISTENS = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""pynetdicom 3.0 shuts a socket that never connected down, fails at that, and leaves closing it to the collector."""


def tool(name: str) -> str:
    """Path of a program that the test needs; without it the test is left."""
    # pynetdicom brings commands of the same names into our own environment: those are no independent peers
    folders = [folder for folder in os.get_exec_path() if Path(folder) != Path(sys.prefix) / "bin"]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        missing(f"{name} is not installed (apt: dcmtk, orthanc)")
    return path


def run_tool(*command: str | Path, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run a client to its end; stdout and stderr together."""
    return subprocess.run(
        [tool(str(command[0])), *map(str, command[1:])],
        env=QUICK,
        timeout=timeout,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


@contextmanager
def running(command: Sequence[str], port: int, *, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, from when it listens until it is stopped by its PID."""
    with (folder / f"{Path(command[0]).name}-{port}.log").open("wb") as output:
        process = subprocess.Popen(command, env=QUICK, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        try:
            await_port(port, process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Wait until somebody listens on a port; fails when the process ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port} after {seconds} s")


def wait_until(condition: object, seconds: float = 10.0) -> bool:
    """Whether a condition (called without arguments) comes true in time."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


@dataclass(frozen=True)
class Peer:
    """A running server, as a destination of the node.

    Attributes:
        destination: Where it listens.
        folder: Where it keeps its files.
        http_port: Port of its REST API, Orthanc alone.
        process_id: Of the server, Orthanc alone.
    """

    destination: DestinationTable
    folder: Path
    http_port: int = 0
    process_id: int = 0

    def rest(self, method: str, path: str, body: object = None) -> Any:
        """Call Orthanc's REST API; the decoded JSON answer."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def upload(self, path: Path) -> None:
        """Put a DICOM file into Orthanc."""
        url = f"http://127.0.0.1:{self.http_port}/instances"
        with urllib.request.urlopen(urllib.request.Request(url, path.read_bytes(), method="POST"), timeout=30):
            pass


def destination(name: str, ae_title: str, port: int, **changes: object) -> DestinationTable:
    """A destination on this machine with short timeouts."""
    return DestinationTable.model_validate(
        {"name": name, "ae_title": ae_title, "host": "127.0.0.1", "port": port, "timeout_seconds": 10.0, **changes}
    )


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Peer]:
    """dcmtk's plain receiver: no queries; files lie in ``folder/stored``."""
    port, stored = free_port(), folder / "stored"
    stored.mkdir(parents=True)
    with running([tool("storescp"), "-aet", "STORE", "-od", str(stored), *options, str(port)], port, folder=folder):
        yield Peer(destination("store", "STORE", port), stored)


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[Peer]:
    """dcmtk's archive: storage and Study Root queries, from this machine alone."""
    port, stored = free_port(), folder / "stored"
    stored.mkdir(parents=True)
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nnode = ({CALLING_AE}, localhost, 11112)\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {stored} RW (50, 1024mb) node\nAETable END\n"
    )
    with running([tool("dcmqrscp"), "-c", str(configuration), str(port)], port, folder=folder):
        yield Peer(destination("pacs", "QR", port), stored)


def orthanc_with_dicomweb(folder: Path, **options: object) -> AbstractContextManager[Peer]:
    """Orthanc that speaks DICOMweb too, under ``/dicom-web`` of its REST API."""
    service = {"Enable": True, "Root": "/dicom-web/"}
    return orthanc(folder, further={"Plugins": [str(orthanc_dicomweb())], "DicomWeb": service, **options})


@contextmanager
def orthanc(
    folder: Path, modalities: dict[str, int] | None = None, further: Mapping[str, object] | None = None
) -> Iterator[Peer]:
    """Orthanc: lets in the AE titles it knows from this machine; its REST API answers this machine alone.

    Args:
        folder: Storage and configuration.
        modalities: Ports of further AE titles on this machine, beside ``DICOM_NODE``.
        further: Settings beside these, or in place of them.
    """
    tool("Orthanc")
    port, http_port = free_port(), free_port()
    storage = folder / "storage"
    storage.mkdir(parents=True)
    known = {CALLING_AE: 11112, **(modalities or {})}
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": "test",
                "StorageDirectory": str(storage),
                "IndexDirectory": str(storage),
                "Plugins": [],
                "HttpPort": http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "DicomCheckCalledAet": True,
                "DicomCheckModalityHost": True,
                "DicomAlwaysAllowEcho": False,
                "DicomAlwaysAllowStore": False,
                "DicomAlwaysAllowFind": False,
                "DicomModalities": {
                    title: {"AET": title, "Host": "127.0.0.1", "Port": peer_port, "Manufacturer": "Generic"}
                    for title, peer_port in known.items()
                },
                **(further or {}),
            }
        )
    )
    with running([ORTHANC, str(configuration)], port, folder=folder) as process:
        await_port(http_port, process)  # opened after that of DICOM, a plugin later still
        yield Peer(destination("orthanc", "ORTHANC", port, timeout_seconds=30.0), storage, http_port, process.pid)


@dataclass(frozen=True)
class Receiver:
    """A listener of the node in this process, its ledger and its spool."""

    listener: Listener
    intake: Intake
    settings: Settings

    @property
    def spooled(self) -> list[Path]:
        """Every file in the spool, finished or not."""
        return sorted(path for path in (self.settings.node.home / "spool").rglob("*") if path.is_file())

    def storescu(self, *arguments: str | Path, calling_ae: str = "STORESCU") -> subprocess.CompletedProcess[str]:
        """Send with dcmtk's storescu."""
        port = str(self.listener.port)
        return run_tool("storescu", "-v", "-aet", calling_ae, "-aec", CALLING_AE, "127.0.0.1", port, *arguments)


@contextmanager
def receiver(home: Path, **tables: object) -> Iterator[Receiver]:
    """A listener on a free port of 127.0.0.1; ``tables`` are those of node.toml."""
    node = {"home": str(home), **dict(tables.pop("node", {}))}  # type: ignore[call-overload]
    settings = Settings.model_validate({"node": node, **tables})
    engine = open_database(settings.database_url)
    intake = Intake(engine)
    listener = Listener(settings, intake, port=0)
    listener.start()
    try:
        yield Receiver(listener, intake, settings)
    finally:
        listener.stop(grace_seconds=0.2)
        engine.dispose()
