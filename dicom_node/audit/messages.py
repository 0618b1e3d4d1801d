"""Audit messages, as PS3.15 A.5 has them: pure, from an event and the patient it is about.

An XML document in one line, by the schema of PS3.15 A.5.1. Codes are those of PS3.16 CID 400 to 403 and annex D.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.ledger.audit_events import RecordedEvent

SUCCESS, SERIOUS_FAILURE = "0", "8"
_DCM, _RFC_3881 = "DCM", "RFC-3881"
_MACHINE_NAME, _IP_ADDRESS = "1", "2"
_APPLICATION_SERVER = "4"
_PERSON, _SYSTEM_OBJECT = "1", "2"
_ROLE_PATIENT, _ROLE_REPORT, _ROLE_SECURITY_RESOURCE = "1", "3", "13"
_ERASED = "15"
# What XML 1.0 has no place for, and line ends: a message is one line.
_LONGEST: Final = 1024
"""Characters of one text: a name in an image may be as long as its sender likes, and a datagram takes 64 kB."""
_UNFIT: Final = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Source:
    """Who tells (PS3.15 A.5.2, Audit Source).

    Attributes:
        source_id: AuditSourceID.
        enterprise_site: AuditEnterpriseSiteID; None where there is none.
        ae_title: Of this node.
    """

    source_id: str
    enterprise_site: str | None
    ae_title: str


@dataclass(frozen=True)
class Patient:
    """Whose images an event is about.

    Attributes:
        patient_id: PatientID; empty where it is not known.
        name: PatientName, likewise.
        study_instance_uid: The study of the image that the two were read from.
    """

    patient_id: str = ""
    name: str = ""
    study_instance_uid: str = ""


@dataclass(frozen=True)
class AuditMessage:
    """A message that is ready to be written.

    Attributes:
        xml: In UTF-8, without a line end.
        outcome: EventOutcomeIndicator.
        at: When it happened, seconds since the epoch.
        host: Machine on which it happened, and the number of the ``process``.
    """

    xml: bytes
    outcome: str
    at: float
    host: str
    process: int


@dataclass(frozen=True)
class _Code:
    value: str
    meaning: str
    system: str = _DCM


_APPLICATION_ACTIVITY = _Code("110100", "Application Activity")
_BEGIN_TRANSFERRING = _Code("110102", "Begin Transferring DICOM Instances")
_ACCESSED = _Code("110103", "DICOM Instances Accessed")
_TRANSFERRED = _Code("110104", "DICOM Instances Transferred")
_STUDY_DELETED = _Code("110105", "DICOM Study Deleted")
_QUERY = _Code("110112", "Query")
_SECURITY_ALERT = _Code("110113", "Security Alert")
_STARTED, _STOPPED = _Code("110120", "Application Start"), _Code("110121", "Application Stop")
_NODE_AUTHENTICATION = _Code("110126", "Node Authentication")
_RESTRICTED_FUNCTION = _Code("110132", "Use of Restricted Function")
_RECORDING_STOPPED, _RECORDING_STARTED = (
    _Code("110133", "Audit Recording Stopped"),
    _Code("110134", "Audit Recording Started"),
)
_APPLICATION = _Code("110150", "Application")
_DESTINATION_ROLE, _SOURCE_ROLE = _Code("110152", "Destination Role ID"), _Code("110153", "Source Role ID")
_STUDY_UID, _CLASS_UID = _Code("110180", "Study Instance UID"), _Code("110181", "SOP Class UID")
_NODE_ID = _Code("110182", "Node ID")
_PATIENT_NUMBER, _URI = _Code("2", "Patient Number", _RFC_3881), _Code("12", "URI", _RFC_3881)


def message_of(event: RecordedEvent, source: Source, patient: Patient) -> AuditMessage:
    """The message that tells of an event.

    Args:
        event: As it is on record.
        source: Who tells.
        patient: Whose images it is about; a default one for events about none.
    """
    draft = _Draft(event, source, patient)
    outcome = _WRITERS[event.kind](draft)
    return AuditMessage(
        xml=tostring(draft.finished(), encoding="utf-8", xml_declaration=False),
        outcome=outcome,
        at=event.at,
        host=str(event.facts["host"]),
        process=int(event.facts["process"]),
    )


class _Draft:
    """A message as it is written, part by part, in the order of the schema."""

    def __init__(self, event: RecordedEvent, source: Source, patient: Patient) -> None:
        self.facts: Mapping[str, Any] = event.facts
        self.patient = patient
        self._at = event.at
        self._source = source
        self._message = Element("AuditMessage")
        self._objects: list[Element] = []

    def event(self, code: _Code, action: str, outcome: str, *, kind: _Code | None = None, why: str = "") -> str:
        at = datetime.fromtimestamp(self._at, UTC).isoformat(timespec="milliseconds")
        identification = SubElement(
            self._message, "EventIdentification",
            EventActionCode=action, EventDateTime=at, EventOutcomeIndicator=outcome,
        )  # fmt: skip
        _coded(identification, "EventID", code)
        if kind is not None:
            _coded(identification, "EventTypeCode", kind)
        if why:
            SubElement(identification, "EventOutcomeDescription").text = _fit(why)
        return outcome

    def this_node(self, role: _Code, *, is_requestor: bool, name: str = "dicom-node") -> None:
        """This node takes part: the process that put the event on record."""
        self._participant(
            str(self.facts["process"]), role, str(self.facts["host"]), is_requestor=is_requestor,
            ae_title=self._source.ae_title, name=name,
        )  # fmt: skip

    def peer(self, node: Mapping[str, str], role: _Code, *, is_requestor: bool) -> None:
        """Another application entity takes part."""
        title, address = node["ae_title"], node["address"]
        self._participant(title or address, role, address, is_requestor=is_requestor, ae_title=title)

    def person(self, login: str, host: str) -> None:
        """A person takes part, as the one who wanted it."""
        self._participant(login, None, host, is_requestor=True)

    def study(self, study_instance_uid: str, classes: Mapping[str, int], *, life_cycle: str = "") -> None:
        """A study, and how many instances of which SOP class are concerned."""
        described = self._object(study_instance_uid, _STUDY_UID, _SYSTEM_OBJECT, _ROLE_REPORT)
        if life_cycle:
            described.set("ParticipantObjectDataLifeCycle", life_cycle)
        SubElement(described, "ParticipantObjectName").text = _fit(study_instance_uid)
        description = SubElement(described, "ParticipantObjectDescription")
        for uid, count in sorted(classes.items()):
            SubElement(description, "SOPClass", UID=uid, NumberOfInstances=str(count))

    def the_patient(self) -> None:
        """The patient (the one place where the node writes who that is)."""
        described = self._object(self.patient.patient_id, _PATIENT_NUMBER, _PERSON, _ROLE_PATIENT)
        SubElement(described, "ParticipantObjectName").text = _fit(self.patient.name)

    def query(self, sop_class_uid: str, keys: Mapping[str, str]) -> None:
        """A query with its identifier, encoded in Implicit VR Little Endian."""
        described = self._object(sop_class_uid, _CLASS_UID, _SYSTEM_OBJECT, _ROLE_REPORT)
        SubElement(described, "ParticipantObjectQuery").text = _base64(_encoded(keys))
        _detail(described, "TransferSyntax", str(ImplicitVRLittleEndian))

    def search(self, uri: str) -> None:
        """A QIDO-RS request: PS3.15 has no place for one, so it is the resource that was searched, by its URI."""
        described = self._object(uri.partition("?")[0], _URI, _SYSTEM_OBJECT, _ROLE_REPORT)
        SubElement(described, "ParticipantObjectQuery").text = _base64(uri.encode("utf-8"))

    def alert(self, subject: str, description: str) -> None:
        """What an alert is about, in words."""
        described = self._object(subject, _NODE_ID, _SYSTEM_OBJECT, _ROLE_SECURITY_RESOURCE)
        SubElement(described, "ParticipantObjectName").text = _fit(subject)
        _detail(described, "Alert Description", _fit(description))

    def finished(self) -> Element:
        source = SubElement(self._message, "AuditSourceIdentification", AuditSourceID=_fit(self._source.source_id))
        if self._source.enterprise_site:
            source.set("AuditEnterpriseSiteID", _fit(self._source.enterprise_site))
        SubElement(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
        self._message.extend(self._objects)
        return self._message

    def _participant(
        self, user: str, role: _Code | None, host: str, *, is_requestor: bool, ae_title: str = "", name: str = ""
    ) -> None:
        participant = SubElement(
            self._message, "ActiveParticipant",
            UserID=_fit(user), UserIsRequestor="true" if is_requestor else "false",
            NetworkAccessPointID=_fit(host), NetworkAccessPointTypeCode=_access_point(host),
        )  # fmt: skip
        if ae_title:
            participant.set("AlternativeUserID", _fit(f"AETITLES={ae_title}"))
        if name:
            participant.set("UserName", _fit(name))
        if role is not None:
            _coded(participant, "RoleIDCode", role)

    def _object(self, identity: str, kind: _Code, what: str, role: str) -> Element:
        described = Element(
            "ParticipantObjectIdentification",
            ParticipantObjectID=_fit(identity), ParticipantObjectTypeCode=what, ParticipantObjectTypeCodeRole=role,
        )  # fmt: skip
        _coded(described, "ParticipantObjectIDTypeCode", kind)
        self._objects.append(described)
        return described


def _application(draft: _Draft) -> str:
    """PS3.15 A.5.3.1."""
    started = bool(draft.facts["started"])
    outcome = draft.event(_APPLICATION_ACTIVITY, "E", SUCCESS, kind=_STARTED if started else _STOPPED)
    draft.this_node(_APPLICATION, is_requestor=False, name=f"dicom-node {draft.facts['role']}")
    return outcome


def _recording(draft: _Draft) -> str:
    """PS3.15 A.5.3.11: the audit trail itself."""
    kind = _RECORDING_STARTED if draft.facts["started"] else _RECORDING_STOPPED
    outcome = draft.event(_SECURITY_ALERT, "E", SUCCESS, kind=kind)
    draft.this_node(_APPLICATION, is_requestor=True, name="dicom-node audit")
    draft.alert("audit trail", kind.meaning)
    return outcome


def _received(draft: _Draft) -> str:
    """PS3.15 A.5.3.7: this node did not have them."""
    outcome = draft.event(_TRANSFERRED, "C", SUCCESS)
    draft.peer(draft.facts["sender"], _SOURCE_ROLE, is_requestor=True)
    draft.this_node(_DESTINATION_ROLE, is_requestor=False)
    draft.study(draft.facts["study"], draft.facts["classes"])
    draft.the_patient()
    return outcome


def _sending(draft: _Draft) -> str:
    """PS3.15 A.5.3.3."""
    outcome = draft.event(_BEGIN_TRANSFERRING, "E", SUCCESS)
    _to_destination(draft)
    return outcome


def _sent(draft: _Draft) -> str:
    """PS3.15 A.5.3.7."""
    failure = draft.facts["failure"]
    outcome = draft.event(_TRANSFERRED, "C", SERIOUS_FAILURE if failure else SUCCESS, why=failure)
    _to_destination(draft)
    return outcome


def _to_destination(draft: _Draft) -> None:
    draft.this_node(_SOURCE_ROLE, is_requestor=True)
    draft.peer(draft.facts["destination"], _DESTINATION_ROLE, is_requestor=False)
    draft.study(draft.patient.study_instance_uid, draft.facts["classes"])
    draft.the_patient()


def _queried(draft: _Draft) -> str:
    """PS3.15 A.5.3.10."""
    outcome = draft.event(_QUERY, "E", SUCCESS)
    draft.this_node(_SOURCE_ROLE, is_requestor=True)
    draft.peer(draft.facts["destination"], _DESTINATION_ROLE, is_requestor=False)
    if "uri" in draft.facts:
        draft.search(draft.facts["uri"])
    else:
        draft.query(draft.facts["sop_class"], draft.facts["keys"])
    return outcome


def _accessed(draft: _Draft) -> str:
    """PS3.15 A.5.3.6."""
    outcome = draft.event(_ACCESSED, draft.facts["action"], SUCCESS)
    draft.this_node(_APPLICATION, is_requestor=True)
    draft.study(draft.facts["study"], draft.facts["classes"])
    draft.the_patient()
    return outcome


def _removed(draft: _Draft) -> str:
    """PS3.15 A.5.3.8."""
    outcome = draft.event(_STUDY_DELETED, "D", SUCCESS)
    draft.this_node(_APPLICATION, is_requestor=True)
    draft.study(draft.facts["study"], draft.facts["classes"], life_cycle=_ERASED)
    draft.the_patient()
    return outcome


def _refused(draft: _Draft) -> str:
    """PS3.15 A.5.3.11: somebody is not who may come in."""
    facts = draft.facts
    outcome = draft.event(_SECURITY_ALERT, "E", SERIOUS_FAILURE, kind=_NODE_AUTHENTICATION, why=facts["reason"])
    draft.this_node(_APPLICATION, is_requestor=False)
    draft.peer({"ae_title": facts["calling_ae"], "address": facts["address"]}, _SOURCE_ROLE, is_requestor=True)
    times = f", {facts['times']} times" if facts["times"] > 1 else ""
    draft.alert(facts["address"], f"{facts['what']} refused{times}: {facts['reason']}")
    return outcome


def _restricted(draft: _Draft) -> str:
    """PS3.15 A.5.3.11."""
    outcome = draft.event(_SECURITY_ALERT, "E", SUCCESS, kind=_RESTRICTED_FUNCTION)
    draft.this_node(_APPLICATION, is_requestor=False)
    draft.person(draft.facts["person"] or "unknown", str(draft.facts["host"]))
    draft.alert(str(draft.facts["host"]), draft.facts["what"])
    return outcome


_WRITERS: Final[Mapping[str, Callable[[_Draft], str]]] = {
    "application": _application,
    "recording": _recording,
    "received": _received,
    "sending": _sending,
    "sent": _sent,
    "queried": _queried,
    "accessed": _accessed,
    "removed": _removed,
    "refused": _refused,
    "restricted": _restricted,
}


def together(events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    """The same events, with results that arrived one after the other at one destination as one transfer."""
    merged: list[RecordedEvent] = []
    for event in events:
        last = merged[-1] if merged else None
        if last is not None and _is_one_transfer(last, event):
            classes = dict(last.facts["classes"])
            for uid, count in event.facts["classes"].items():
                classes[uid] = classes.get(uid, 0) + count
            merged[-1] = RecordedEvent(
                last.kind, last.subject, {**last.facts, "classes": classes}, last.event_id, event.at
            )
        else:
            merged.append(event)
    return merged


def _is_one_transfer(one: RecordedEvent, other: RecordedEvent) -> bool:
    same = (one.kind, one.subject, one.facts.get("failure")) == (other.kind, other.subject, other.facts.get("failure"))
    return same and one.kind == "sent"


def _coded(parent: Element, name: str, code: _Code) -> None:
    meaning = {"displayName": code.meaning, "originalText": code.meaning}
    SubElement(parent, name, {"csd-code": code.value, "codeSystemName": code.system, **meaning})


def _detail(described: Element, kind: str, value: str) -> None:
    SubElement(described, "ParticipantObjectDetail", type=kind, value=_base64(value.encode("utf-8")))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _encoded(keys: Mapping[str, str]) -> bytes:
    identifier, buffer = Dataset(), io.BytesIO()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    dcmwrite(buffer, identifier, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def _access_point(host: str) -> str:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _MACHINE_NAME
    return _IP_ADDRESS


def _fit(text: str) -> str:
    return _UNFIT.sub(" ", text[:_LONGEST]).strip()
