"""The embedded archive: a small storage, query and retrieve SCP for installations without a PACS at hand.

It takes every storage SOP class, keeps files durably under ``<home>/archive/<study>/<series>/<sop>.dcm``, answers
C-FIND (Study Root: STUDY, SERIES, IMAGE; keys match by value, by list of UIDs, or are empty; no ranges and wildcards)
and gives files back by C-GET (PS3.4 C.4.3).
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node.durable_file import make_directory_durably, write_durably
from dicom_node.errors import InputRefused, SettingsError, StorageFull, UsageError
from dicom_node.logs import get_logger
from dicom_node.settings import Settings
from dicom_node.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    STUDY_ROOT_FIND,
    VERIFICATION,
    instance_path,
)

log = get_logger("archive")

STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
_LEVELS: Final = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_KEYWORDS: Final = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality", "PatientID", "PatientName"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription", "SpecificCharacterSet"),
    *("SeriesNumber", "SeriesDescription", "InstanceNumber"),
)
ARCHIVED_CLASSES: Final = tuple(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
"""Every storage SOP class."""
ARCHIVED_SYNTAXES: Final = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"),
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.5"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"),
)
_SUCCESS, _PENDING, _CANCELLED = 0x0000, 0xFF00, 0xFE00
_DUPLICATE, _OUT_OF_RESOURCES, _DOES_NOT_MATCH, _CANNOT_UNDERSTAND = 0x0111, 0xA700, 0xA900, 0xC000


class Archive:
    """Stores, lists and gives back.

    Args:
        settings: ``[archive]``, ``[node] home``, and the peers that may call beside this machine itself.
        port: Port to bind instead of ``[archive] port``; 0 for any free one.
    """

    def __init__(self, settings: Settings, *, port: int | None = None) -> None:
        self._settings = settings
        self._root = settings.node.home / "archive"
        self._wanted_port = settings.archive.port if port is None else port
        self._index: dict[str, Dataset] = {}
        self._writing = threading.Lock()
        self._server: Any = None

    @property
    def port(self) -> int:
        """The bound port."""
        if self._server is None:
            raise UsageError("the archive is not started; call start() first")
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Index what is there, and listen; returns once the port is bound.

        Raises:
            SettingsError: The address and port cannot be bound.
        """
        make_directory_durably(self._root)
        self._root.chmod(0o700)
        for path in sorted(self._root.rglob("*.dcm")):
            self._add_to_index(path)
        table = self._settings.archive
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, _without_delay),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_ECHO, lambda _: _SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_C_GET, self._on_get),
        ]
        try:
            self._server = _application_entity(table.ae_title).start_server(
                (table.bind, self._wanted_port), block=False, evt_handlers=handlers
            )
        except OSError as error:
            raise SettingsError(f"cannot listen on {table.bind} port {self._wanted_port}: {error.strerror}") from error
        log.info("archive listening", ae_title=table.ae_title, port=self.port, instances=len(self._index))

    def stop(self) -> None:
        """Stop listening and end the associations that are open."""
        if self._server is None:
            return
        self._server.shutdown()
        with self._writing:
            associations = self._server.active_associations
        for association in associations:
            association.abort()
        self._server = None

    def _on_requested(self, event: evt.Event) -> None:
        address = event.assoc.requestor.address
        called = cast(A_ASSOCIATE, event.assoc.requestor.primitive).called_ae_title
        reason = 7 if called != self._settings.archive.ae_title else 3 if not self._may_call(address) else None
        if reason is not None:
            log.warning("association rejected", called_ae=called, address=address)
            event.assoc.acse.send_reject(1, 1, reason)
            event.assoc.kill()

    def _may_call(self, address: str) -> bool:
        try:
            host = ipaddress.ip_address(address)
        except ValueError:  # raised out of a handler it would let the caller in
            return False
        networks = [ipaddress.ip_network(peer.address, strict=False) for peer in self._settings.peers]
        return host.is_loopback or any(host in network for network in networks)

    def _on_store(self, event: evt.Event) -> int:
        try:
            identity, affected = event.dataset, str(cast(C_STORE, event.request).AffectedSOPInstanceUID)
            if str(identity.get("SOPInstanceUID", "")) != affected:
                return _DOES_NOT_MATCH
            study, series = (str(identity.get(key, "")) for key in ("StudyInstanceUID", "SeriesInstanceUID"))
            path = instance_path(self._root, study, series, affected)
            with self._writing:
                return self._keep(path, event.encoded_dataset())
        except InputRefused as error:
            log.warning("instance refused", reason=error.message)
            return _CANNOT_UNDERSTAND
        except (StorageFull, OSError) as error:
            log.warning("instance not written", reason=str(error))
            return _OUT_OF_RESOURCES

    def _keep(self, path: Path, content: bytes) -> int:
        """Write a file once; another object under a UID that is there already is refused."""
        if path.stem in self._index:
            if path.is_file() and pydicom.dcmread(path) == pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)):
                return _SUCCESS
            log.warning("instance refused", reason="another object has this UID", SOPInstanceUID=path.stem)
            return _DUPLICATE
        write_durably(path, [content])
        self._add_to_index(path)
        return _SUCCESS

    def _add_to_index(self, path: Path) -> None:
        try:
            entry = pydicom.dcmread(path, specific_tags=list(_KEYWORDS), stop_before_pixels=True)
        except (InvalidDicomError, EOFError) as error:
            log.warning("file left out of the archive's index", path=str(path), reason=str(error))
            return
        self._index[path.stem] = entry

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        level = _LEVELS.get(str(query.get("QueryRetrieveLevel", "")))
        if level is None:
            yield _DOES_NOT_MATCH, None
            return
        listed: set[str] = set()
        for entry in list(self._index.values()):
            if event.is_cancelled:
                yield _CANCELLED, None
                return
            if str(entry.get(level)) not in listed and _matches(entry, query):
                listed.add(str(entry.get(level)))
                yield _PENDING, self._response(entry, query)

    def _response(self, entry: Dataset, query: Dataset) -> Dataset:
        response = Dataset()
        for element in query:
            if element.keyword in _KEYWORDS:
                setattr(response, element.keyword, entry.get(element.keyword))
        if "SpecificCharacterSet" in entry:
            response.SpecificCharacterSet = entry.SpecificCharacterSet
        response.QueryRetrieveLevel = query.QueryRetrieveLevel
        response.RetrieveAETitle = self._settings.archive.ae_title
        return response

    def _on_get(self, event: evt.Event) -> Iterator[int | tuple[int, Dataset | None]]:
        chosen = [entry for entry in list(self._index.values()) if _matches(entry, event.identifier)]
        yield len(chosen)
        for entry in chosen:
            if event.is_cancelled:
                yield _CANCELLED, None
                return
            yield _PENDING, pydicom.dcmread(cast(str, entry.filename))


def _matches(entry: Dataset, query: Dataset) -> bool:
    """Single value, list of UID and universal matching (PS3.4 C.2.2.2)."""
    for element in query:
        if element.keyword not in _KEYWORDS or element.keyword == "SpecificCharacterSet" or element.is_empty:
            continue
        wanted = list(element.value) if element.VM > 1 else [element.value]
        if str(entry.get(element.keyword, "")) not in {str(value) for value in wanted} and "*" not in map(str, wanted):
            return False
    return True


def _application_entity(ae_title: str) -> AE:
    entity = AE(ae_title=ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = 1 << 20
    entity.add_supported_context(VERIFICATION)
    entity.add_supported_context(STUDY_ROOT_FIND)
    entity.add_supported_context(STUDY_ROOT_GET)
    for sop_class in ARCHIVED_CLASSES:
        # Both roles: who asks by C-GET receives over the same association.
        entity.add_supported_context(sop_class, list(ARCHIVED_SYNTAXES), scu_role=True, scp_role=True)
    return entity


def _without_delay(event: evt.Event) -> None:
    connection = cast(socket.socket, event.assoc.dul.socket.socket)  # type: ignore[union-attr] # the event says it is open
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
