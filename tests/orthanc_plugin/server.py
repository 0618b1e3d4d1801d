"""An Orthanc with the plugin, as its administrator would set it up: shipped script, shipped configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.peers import ORTHANC, QUICK, await_port
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "orthanc" / "orthanc.json"
SCRIPT = ROOT / "orthanc" / "segmentation_plugin.py"
TOKEN = "a-token-for-the-tests"
STABLE_SECONDS = 2


def example_configuration() -> dict[str, Any]:
    """The shipped configuration; Orthanc takes comments, the json module does not."""
    lines = EXAMPLE.read_text().splitlines()
    document: dict[str, Any] = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    return document


@dataclass
class PluginServer:
    """Orthanc with the plugin; a context manager that can be killed and started again on the same storage and ports.

    Attributes:
        folder: Storage, configuration, log.
        node_port: Where the node listens.
        monitoring_port: Where the node's [monitoring] answers; 0 for none.
        bridge: Changes to the section ``DicomNode``.
        command: What is started; another release of Orthanc, perhaps.
        environment: Beside our own.
    """

    folder: Path
    node_port: int
    monitoring_port: int = 0
    bridge: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = (ORTHANC,)
    environment: dict[str, str] = field(default_factory=dict)
    dicom_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """Everything it wrote."""
        return (self.folder / "orthanc.log").read_text(errors="replace")

    def configuration(self) -> dict[str, Any]:
        """The shipped configuration with our ports, folders and pauses."""
        shipped = example_configuration()
        storage = str(self.folder / "storage")
        section = {**shipped["DicomNode"], "Token": TOKEN, "ReconcileSeconds": 5, "RetrySeconds": [1, 2]}
        section["NodeUrl"] = f"http://127.0.0.1:{self.monitoring_port}"
        if not self.monitoring_port:
            section = {key: value for key, value in section.items() if key not in {"Token", "NodeUrl"}}
        node = {**shipped["DicomModalities"]["dicom-node"], "Port": self.node_port}
        return {
            **shipped,
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "PythonScript": str(SCRIPT),
            "StableAge": STABLE_SECONDS,
            # Orthanc 1.10 listens on every address: nobody but this machine is let in
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomModalities": {"dicom-node": node, "scanner": ["SCANNER", "127.0.0.1", 104]},
            "DicomNode": {**section, **self.bridge},
        }

    def start(self) -> Self:
        """Start it and wait until it answers."""
        (self.folder / "storage").mkdir(parents=True, exist_ok=True)
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self.configuration()))
        with (self.folder / "orthanc.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*self.command, str(path)], env={**QUICK, **self.environment}, stdout=output, stderr=subprocess.STDOUT
            )
        await_port(self.dicom_port, self._process)
        await_port(self.http_port, self._process)
        return self

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as its administrator would; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=60)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def rest(self, method: str, path: str, body: object = None) -> Any:
        """Call its REST API: the decoded answer, or the status where that is an error."""
        content = json.dumps(body).encode() if body is not None else b"" if method == "POST" else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", content, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            return error.code
        return json.loads(text) if text else None

    def send(self, folder: Path) -> int:
        """Send a folder to it with dcmtk's storescu, as a scanner would; the exit code."""
        command = ["/usr/bin/storescu", "-aet", "SCANNER", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port)]
        sent = subprocess.run(
            [*command, "+sd", "+r", str(folder)],
            env=QUICK,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return sent.returncode

    def series(self, series_instance_uid: str) -> str:
        """Orthanc's identifier of a series."""
        found = self.rest(
            "POST", "/tools/find", {"Level": "Series", "Query": {"SeriesInstanceUID": series_instance_uid}}
        )
        (identifier,) = found
        return str(identifier)

    def standing(self, series_instance_uid: str) -> dict[str, Any]:
        """What the plugin's route says of a series."""
        answer: dict[str, Any] = self.rest("GET", f"/dicom-node/series/{self.series(series_instance_uid)}")
        return answer

    def modalities_of_study(self, series_instance_uid: str) -> list[str]:
        """The modalities of all series in the study of a series, sorted."""
        study = self.rest("GET", f"/series/{self.series(series_instance_uid)}")["ParentStudy"]
        return sorted(each["MainDicomTags"]["Modality"] for each in self.rest("GET", f"/studies/{study}/series"))


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
