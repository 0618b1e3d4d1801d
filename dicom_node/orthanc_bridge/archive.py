"""Orthanc as the bridge sees it: its series, its metadata, its jobs, over its own REST API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from dicom_node.errors import SettingsError
from dicom_node.orthanc_bridge.note import Note, read_note
from dicom_node.orthanc_bridge.orthanc_module import OrthancModule
from dicom_node.orthanc_bridge.settings import BridgeSettings
from dicom_node.uids import IMAGE_CLASSES

_UNKNOWN_RESOURCE, _INEXISTENT_ITEM = 17, 7
"""Orthanc's error codes (OrthancPluginErrorCode) for what is not there."""
JobState = Literal["running", "done", "failed", "gone"]
_JOB_STATES: Final[dict[str, JobState]] = {"Success": "done", "Failure": "failed", "Paused": "failed"}


@dataclass(frozen=True)
class ArchivedSeries:
    """A series in Orthanc.

    Attributes:
        orthanc_id: Orthanc's identifier of it.
        instances: Orthanc's identifiers of its instances.
        last_update: When its last instance came, seconds since the epoch.
        is_stable: Whether it has been quiet for ``StableAge``; after a start of Orthanc, any series.
    """

    orthanc_id: str
    series_instance_uid: str
    modality: str
    manufacturer: str
    instances: tuple[str, ...]
    last_update: float
    is_stable: bool


@dataclass(frozen=True)
class Job:
    """A job of Orthanc: how it stands, and what went wrong."""

    state: JobState
    reason: str = ""


class OrthancArchive:
    """Reads and writes Orthanc; safe from any thread but callbacks that Orthanc waits for.

    Args:
        orthanc: The module.
        settings: Which modality, which metadata.
    """

    def __init__(self, orthanc: OrthancModule, settings: BridgeSettings) -> None:
        self._orthanc = orthanc
        self._settings = settings

    def series(self, orthanc_id: str) -> ArchivedSeries | None:
        """A series, or None where there is none (any more)."""
        document = self._get(f"/series/{orthanc_id}")
        return None if document is None else _series(document)

    def page(self, since: int, limit: int) -> list[ArchivedSeries]:
        """Some of all series, in Orthanc's order; empty at the end."""
        return [_series(document) for document in self._get(f"/series?expand&since={since}&limit={limit}") or []]

    def images_of(self, series: ArchivedSeries) -> list[str]:
        """Those instances of a series that are images of a kind which the node takes."""
        return [each for each in series.instances if self._text(f"/instances/{each}/metadata/SopClassUid") in _IMAGES]

    def note_of(self, orthanc_id: str) -> Note:
        """What the bridge remembers of a series.

        Raises:
            SettingsError: The metadata belongs to somebody else.
        """
        return read_note(self._text(self._note_path(orthanc_id)))

    def keep_note(self, orthanc_id: str, note: Note) -> None:
        """Remember something of a series."""
        self._orthanc.RestApiPut(self._note_path(orthanc_id), note.text)

    def send(self, instances: Sequence[str]) -> str:
        """Have Orthanc send instances to the node, as a job of Orthanc's; its identifier.

        The job fails at the first instance that the node does not acknowledge.
        """
        body = {"Resources": list(instances), "Synchronous": False, "Permissive": False}
        answer = self._orthanc.RestApiPost(f"/modalities/{self._settings.modality}/store", json.dumps(body))
        return str(json.loads(answer)["ID"])

    def job(self, job_id: str) -> Job:
        """How a job stands; "gone" where Orthanc has forgotten it (``JobsHistorySize``)."""
        document = self._get(f"/jobs/{job_id}")
        if document is None:
            return Job("gone")
        reason = document.get("ErrorDetails") or document.get("ErrorDescription") or document["State"]
        return Job(_JOB_STATES.get(document["State"], "running"), str(reason))

    def node_address(self) -> tuple[str, int]:
        """Host and port of the node, as Orthanc knows it.

        Raises:
            SettingsError: Orthanc does not know it.
        """
        known = self._get("/modalities?expand") or {}
        if self._settings.modality not in known:
            raise SettingsError(
                f'"{self._settings.modality}" is not in DicomModalities: the node is unknown to Orthanc'
            )
        modality = known[self._settings.modality]
        return str(modality["Host"]), int(modality["Port"])

    def first_start(self, now: float) -> float:
        """When the bridge first ran in this Orthanc, seconds since the epoch; now, where it never did."""
        text = self._orthanc.GetGlobalProperty(self._settings.metadata, "")
        if not text:
            begun = float(int(now))  # Orthanc dates by whole seconds: what came in this one counts
            self._orthanc.SetGlobalProperty(self._settings.metadata, str(begun))
            return begun
        try:
            return float(text)
        except ValueError as error:
            message = (
                f"global property {self._settings.metadata} belongs to somebody else; set another DicomNode.Metadata"
            )
            raise SettingsError(message) from error

    def _note_path(self, orthanc_id: str) -> str:
        return f"/series/{orthanc_id}/metadata/{self._settings.metadata}"

    def _get(self, path: str) -> Any:
        text = self._text(path)
        return None if text is None else json.loads(text)

    def _text(self, path: str) -> str | None:
        try:
            return self._orthanc.RestApiGet(path).decode()
        except self._orthanc.OrthancException as error:
            if error.args and error.args[0] in (_UNKNOWN_RESOURCE, _INEXISTENT_ITEM):
                return None
            raise


_IMAGES = frozenset(IMAGE_CLASSES)
_LONG_AGO: Final = "19700101T000000"
"""Of series that came before Orthanc noted when."""


def _series(document: dict[str, Any]) -> ArchivedSeries:
    tags = document["MainDicomTags"]
    return ArchivedSeries(
        orthanc_id=document["ID"],
        series_instance_uid=tags.get("SeriesInstanceUID", ""),
        modality=tags.get("Modality", "").strip().upper(),
        manufacturer=tags.get("Manufacturer", ""),
        instances=tuple(document["Instances"]),
        # not strptime: in CPython 3.11 it fails once Orthanc was reset, which starts Python a second time
        last_update=datetime.fromisoformat(document.get("LastUpdate") or _LONG_AGO).replace(tzinfo=UTC).timestamp(),
        is_stable=document["IsStable"],
    )
