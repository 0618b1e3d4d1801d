"""A stand-in for the module ``orthanc``: series, metadata and jobs in memory, as Orthanc answers over its REST API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from dicom_node.orthanc_bridge.node import NodeQuestions
from dicom_node.orthanc_bridge.settings import BridgeSettings
from dicom_node.uids import IMAGE_CLASSES

CT = IMAGE_CLASSES[0]
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


class FakeOrthancError(Exception):
    """Raised with Orthanc's error code, as its own exception is."""


@dataclass
class FakeSeries:
    """One series: its instances with their SOP classes."""

    instances: dict[str, str]
    modality: str = "CT"
    manufacturer: str = "Scanner"
    last_update: float = 0.0
    is_stable: bool = True
    metadata: dict[int, str] = field(default_factory=dict)


class FakeOrthanc:
    """What the bridge uses of Orthanc. Jobs end when the test says how."""

    ChangeType = SimpleNamespace(
        ORTHANC_STARTED=10, ORTHANC_STOPPED=11, STABLE_SERIES=8, JOB_SUCCESS=17, JOB_FAILURE=18, NEW_INSTANCE=2
    )
    OrthancException = FakeOrthancError

    def __init__(self, configuration: dict[str, Any] | None = None) -> None:
        self.configuration = configuration or {}
        self.content: dict[str, FakeSeries] = {}
        self.undated: set[str] = set()
        self.properties: dict[int, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.sent: list[list[str]] = []
        self.lines: list[str] = []
        self.routes: dict[str, Callable[..., None]] = {}
        self.explorer = ""
        self.change: Callable[[int, int, str], None] = lambda *_: None

    def end_job(self, state: str, reason: str = "") -> None:
        """End the last job."""
        list(self.jobs.values())[-1].update(State=state, ErrorDetails=reason)

    def RestApiGet(self, uri: str) -> bytes:
        return json.dumps(self._document(uri)).encode() if "/metadata/" not in uri else self._metadata(uri).encode()

    def RestApiPost(self, uri: str, body: str) -> bytes:
        assert uri == "/modalities/dicom-node/store"
        self.sent.append(json.loads(body)["Resources"])
        job = f"job-{len(self.sent)}"
        self.jobs[job] = {"ID": job, "State": "Running"}
        return json.dumps({"ID": job}).encode()

    def RestApiPut(self, uri: str, body: str) -> bytes:
        _, _, orthanc_id, _, number = uri.split("/")
        if orthanc_id not in self.content:
            raise FakeOrthancError(17, "Unknown resource")
        self.content[orthanc_id].metadata[int(number)] = body
        return b""

    def GetGlobalProperty(self, number: int, default: str) -> str:
        return self.properties.get(number, default)

    def SetGlobalProperty(self, number: int, value: str) -> None:
        self.properties[number] = value

    def GetConfiguration(self) -> str:
        return json.dumps(self.configuration)

    def RegisterOnChangeCallback(self, callback: Callable[[int, int, str], None]) -> None:
        self.change = callback

    def RegisterRestCallback(self, pattern: str, callback: Callable[..., None]) -> None:
        self.routes[pattern] = callback

    def ExtendOrthancExplorer(self, script: str) -> None:
        self.explorer = script

    def LogInfo(self, message: str) -> None:
        self.lines.append(message)

    LogWarning = LogError = LogInfo

    def _document(self, uri: str) -> Any:
        if uri == "/modalities?expand":
            return {"dicom-node": {"AET": "DICOM_NODE", "Host": "node", "Port": 11112}}
        if page := re.fullmatch(r"/series\?expand&since=(\d+)&limit=(\d+)", uri):
            first, count = int(page[1]), int(page[2])
            return [self._series(each) for each in list(self.content)[first : first + count]]
        kind, _, name = uri[1:].partition("/")
        if kind == "series" and name in self.content:
            return self._series(name)
        if kind == "jobs" and name in self.jobs:
            return self.jobs[name]
        raise FakeOrthancError(17, "Unknown resource")

    def _metadata(self, uri: str) -> str:
        _, kind, name, _, key = uri.split("/")
        if kind == "instances":
            return next(series.instances[name] for series in self.content.values() if name in series.instances)
        if name not in self.content or int(key) not in self.content[name].metadata:
            raise FakeOrthancError(17, "Unknown resource")
        return self.content[name].metadata[int(key)]

    def _series(self, orthanc_id: str) -> dict[str, Any]:
        series = self.content[orthanc_id]
        updated = datetime.fromtimestamp(series.last_update, UTC)
        return {
            "ID": orthanc_id,
            "Instances": list(series.instances),
            "IsStable": series.is_stable,
            **({} if orthanc_id in self.undated else {"LastUpdate": updated.strftime("%Y%m%dT%H%M%S")}),
            "MainDicomTags": {
                "Modality": series.modality,
                "Manufacturer": series.manufacturer,
                "SeriesInstanceUID": "1.2." + orthanc_id.replace("-", "."),
            },
        }


class FakeNode(NodeQuestions):
    """A node that says what the test wants."""

    def __init__(self, settings: BridgeSettings) -> None:
        super().__init__(settings, lambda _: self.listens)
        self.listens = True
        self.unfinished_series: int | None = None
        self.state: dict[str, Any] | None = None
        self.rerun_series: list[str] = []
        self.expected: list[int] = []

    def unfinished(self) -> int | None:
        return self.unfinished_series

    def series(self, series_instance_uid: str) -> dict[str, Any] | None:
        return self.state

    def expect(self, series_instance_uid: str, images: int) -> None:
        self.expected.append(images)

    def rerun(self, series_instance_uid: str) -> dict[str, Any] | None:
        self.rerun_series.append(series_instance_uid)
        return {"rerun": True}
