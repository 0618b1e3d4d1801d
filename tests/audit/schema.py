"""Audit messages as an independent reader sees them: judged by the schema of PS3.15 A.5.1, and taken apart."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from lxml import etree

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))


class Message:
    """One message that the schema accepts.

    Args:
        xml: The document.
    """

    def __init__(self, xml: bytes) -> None:
        self.document = etree.fromstring(xml)
        SCHEMA.assertValid(self.document)

    @property
    def event(self) -> str:
        """Meaning of the EventID, and of the EventTypeCode where there is one."""
        codes = self.document.findall("EventIdentification/EventID") + self.document.findall(
            "EventIdentification/EventTypeCode"
        )
        return ": ".join(str(code.get("originalText")) for code in codes)

    @property
    def action(self) -> str:
        return str(self.document.find("EventIdentification").get("EventActionCode"))

    @property
    def outcome(self) -> str:
        return str(self.document.find("EventIdentification").get("EventOutcomeIndicator"))

    @property
    def participants(self) -> dict[str, dict[str, str]]:
        """Attributes of each participant, by its role; a person has none."""
        found = {}
        for each in self.document.findall("ActiveParticipant"):
            role = each.find("RoleIDCode")
            found["" if role is None else str(role.get("originalText"))] = dict(each.attrib)
        return found

    @property
    def requestor(self) -> str:
        """UserID of the one participant that wanted it; empty where nobody is said to."""
        wanted = [each.get("UserID") for each in self.document.findall("ActiveParticipant[@UserIsRequestor='true']")]
        assert len(wanted) <= 1
        return wanted[0] if wanted else ""

    def object(self, kind: str) -> Any:
        """The object that is identified by a study, a patient ..., None where there is none."""
        found = [
            each
            for each in self.document.findall("ParticipantObjectIdentification")
            if each.find("ParticipantObjectIDTypeCode").get("originalText") == kind
        ]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def study(self) -> str:
        return str(self.object("Study Instance UID").get("ParticipantObjectID"))

    @property
    def classes(self) -> dict[str, int]:
        """How many instances of which SOP class."""
        found = self.object("Study Instance UID").findall("ParticipantObjectDescription/SOPClass")
        return {each.get("UID"): int(each.get("NumberOfInstances")) for each in found}

    @property
    def patient(self) -> tuple[str, str]:
        """PatientID and PatientName."""
        patient = self.object("Patient Number")
        return patient.get("ParticipantObjectID"), patient.findtext("ParticipantObjectName")

    def details(self, kind: str) -> dict[str, str]:
        """The details of an object, decoded."""
        found = self.object(kind).findall("ParticipantObjectDetail")
        return {each.get("type"): base64.b64decode(each.get("value")).decode() for each in found}


def messages_in(path: Path) -> list[Message]:
    """Every message of an audit file, each valid and on a line of its own."""
    content = path.read_bytes() if path.exists() else b""
    assert content == b"" or content.endswith(b"\n")
    return [Message(line) for line in content.splitlines()]
