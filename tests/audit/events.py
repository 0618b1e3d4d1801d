"""One event of every kind, as the rooms of the node record them."""

from __future__ import annotations

from typing import Any

from dicom_node.audit.messages import Patient, Source
from dicom_node.ledger import audit_facts
from dicom_node.ledger.audit_events import AuditEvent, RecordedEvent
from dicom_node.settings import DicomwebDestinationTable
from tests.peers import destination

CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
SOURCE = Source("node-1", "General Hospital", "DICOM_NODE")
PATIENT = Patient("4711", "Doe^Jane", "1.2.3")
PACS = destination("pacs", "PACS", 104, host="10.1.2.3")
ARCHIVE = DicomwebDestinationTable(name="archive", url="https://archive.example/dicom-web")
OF_A_STUDY: dict[str, Any] = {"study": "1.2.3", "classes": {CT: 40}, "path": "/spool/1.dcm"}
SENDER = {"ae_title": "SCANNER", "address": "10.1.0.7"}
KEYS = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.4"}

EVENTS = {
    "start": audit_facts.application("listener", started=True),
    "stop": audit_facts.application("worker", started=False),
    "recording starts": audit_facts.recording(started=True),
    "recording stops": audit_facts.recording(started=False),
    "received": AuditEvent("received", "association", {"sender": SENDER, **OF_A_STUDY}),
    "sending": audit_facts.sending(PACS, "case", [(SEG, "/case/seg.dcm"), (SEG, "/case/other.dcm")]),
    "sent": audit_facts.sent(PACS, "case", SEG, "/case/seg.dcm"),
    "not taken": audit_facts.sent(PACS, "case", SEG, "/case/seg.dcm", failure="not stored, C-STORE status A700"),
    "queried": audit_facts.queried(PACS, "1.2.840.10008.5.1.4.1.2.2.1", KEYS),
    "searched": audit_facts.searched(ARCHIVE, f"{ARCHIVE.url}/studies/1.2.3/instances?SOPInstanceUID=1.2.3.4"),
    "read": AuditEvent("accessed", "case", {"action": "R", **OF_A_STUDY}),
    "made": AuditEvent("accessed", "case", {"action": "C", **OF_A_STUDY, "classes": {SEG: 1}}),
    "removed": AuditEvent("removed", "series", OF_A_STUDY),
    "association refused": audit_facts.refused("association", "10.9.9.9", "unknown AE title", calling_ae="MALLORY"),
    "handshake failed": audit_facts.refused("TLS handshake", "fe80::1", "no certificate", times=57),
    "discarded": audit_facts.restricted("admin@console", "case 0815 is discarded"),
}


def recorded(event: AuditEvent, event_id: int = 1, **facts: Any) -> RecordedEvent:
    """An event as the ledger has it."""
    here = {"process": 4242, "host": "node-1.radiology"}
    return RecordedEvent(event.kind, event.subject, {**here, **event.facts, **facts}, event_id, 1_700_000_000.25)
