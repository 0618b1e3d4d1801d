"""Every message is one that PS3.15 A.5 allows, and says who did what to whose images."""

from __future__ import annotations

import base64
import io

import pydicom
import pytest
from lxml import etree

from dicom_node.audit.messages import AuditMessage, Patient, message_of, together
from dicom_node.audit.syslog import syslog_message
from dicom_node.ledger import audit_facts
from tests.audit.events import CT, EVENTS, PACS, PATIENT, SEG, SOURCE, recorded
from tests.audit.schema import SCHEMA, Message


def told(name: str, patient: Patient = PATIENT) -> Message:
    return Message(message_of(recorded(EVENTS[name]), SOURCE, patient).xml)


@pytest.mark.parametrize("name", EVENTS)
def test_every_kind_of_message_is_valid_and_says_who_tells(name: str) -> None:
    message = told(name)
    source = message.document.find("AuditSourceIdentification")
    assert dict(source.attrib) == {"AuditSourceID": "node-1", "AuditEnterpriseSiteID": "General Hospital"}
    assert message.document.find("EventIdentification").get("EventDateTime") == "2023-11-14T22:13:20.250+00:00"


@pytest.mark.parametrize("part", ["EventIdentification", "AuditSourceIdentification", "ActiveParticipant"])
def test_the_schema_refuses_a_message_without_a_part(part: str) -> None:
    document = told("received").document
    for each in document.findall(part):
        document.remove(each)
    assert not SCHEMA.validate(document)


def test_the_schema_refuses_an_unknown_outcome() -> None:
    document = told("received").document
    document.find("EventIdentification").set("EventOutcomeIndicator", "5")
    assert not SCHEMA.validate(document)


@pytest.mark.parametrize(
    ("name", "event", "action", "outcome"),
    [
        ("start", "Application Activity: Application Start", "E", "0"),
        ("stop", "Application Activity: Application Stop", "E", "0"),
        ("recording starts", "Security Alert: Audit Recording Started", "E", "0"),
        ("recording stops", "Security Alert: Audit Recording Stopped", "E", "0"),
        ("received", "DICOM Instances Transferred", "C", "0"),
        ("sending", "Begin Transferring DICOM Instances", "E", "0"),
        ("sent", "DICOM Instances Transferred", "C", "0"),
        ("not taken", "DICOM Instances Transferred", "C", "8"),
        ("queried", "Query", "E", "0"),
        ("searched", "Query", "E", "0"),
        ("read", "DICOM Instances Accessed", "R", "0"),
        ("made", "DICOM Instances Accessed", "C", "0"),
        ("removed", "DICOM Study Deleted", "D", "0"),
        ("association refused", "Security Alert: Node Authentication", "E", "8"),
        ("handshake failed", "Security Alert: Node Authentication", "E", "8"),
        ("discarded", "Security Alert: Use of Restricted Function", "E", "0"),
    ],
)
def test_what_happened(name: str, event: str, action: str, outcome: str) -> None:
    message = told(name)
    assert (message.event, message.action, message.outcome) == (event, action, outcome)


def test_a_series_comes_from_its_sender() -> None:
    message = told("received")
    sender, node = message.participants["Source Role ID"], message.participants["Destination Role ID"]
    assert (sender["AlternativeUserID"], sender["NetworkAccessPointID"]) == ("AETITLES=SCANNER", "10.1.0.7")
    assert (sender["NetworkAccessPointTypeCode"], node["NetworkAccessPointTypeCode"]) == ("2", "1")
    assert (node["UserID"], node["AlternativeUserID"]) == ("4242", "AETITLES=DICOM_NODE")
    assert message.requestor == "SCANNER"
    assert (message.study, message.classes, message.patient) == ("1.2.3", {CT: 40}, ("4711", "Doe^Jane"))


@pytest.mark.parametrize("name", ["sending", "sent", "not taken"])
def test_results_go_from_the_node_to_their_destination(name: str) -> None:
    message = told(name)
    assert message.participants["Destination Role ID"]["AlternativeUserID"] == "AETITLES=PACS"
    assert message.participants["Destination Role ID"]["NetworkAccessPointID"] == "10.1.2.3"
    assert message.requestor == "4242"
    assert (message.study, message.patient) == ("1.2.3", ("4711", "Doe^Jane"))
    assert message.classes == {SEG: 2 if name == "sending" else 1}


def test_a_query_is_kept_as_it_was_sent() -> None:
    message = told("queried")
    described = message.object("SOP Class UID")
    query = base64.b64decode(described.findtext("ParticipantObjectQuery"))
    identifier = pydicom.dcmread(io.BytesIO(query), force=True)
    assert (identifier.QueryRetrieveLevel, identifier.SOPInstanceUID) == ("IMAGE", "1.2.3.4")
    assert described.get("ParticipantObjectID") == "1.2.840.10008.5.1.4.1.2.2.1"
    assert message.details("SOP Class UID") == {"TransferSyntax": "1.2.840.10008.1.2"}


def test_a_search_of_a_service_is_kept_as_it_was_requested() -> None:
    described = told("searched").object("URI")
    assert described.get("ParticipantObjectID") == "https://archive.example/dicom-web/studies/1.2.3/instances"
    query = base64.b64decode(described.findtext("ParticipantObjectQuery"))
    assert query == b"https://archive.example/dicom-web/studies/1.2.3/instances?SOPInstanceUID=1.2.3.4"


def test_what_is_removed_is_gone_for_good() -> None:
    assert told("removed").object("Study Instance UID").get("ParticipantObjectDataLifeCycle") == "15"


def test_an_alert_says_who_was_not_let_in_and_why() -> None:
    message = told("association refused")
    assert message.requestor == "MALLORY"
    assert message.details("Node ID") == {"Alert Description": "association refused: unknown AE title"}
    message = told("handshake failed")
    assert message.requestor == "fe80::1"
    assert message.details("Node ID")["Alert Description"] == "TLS handshake refused, 57 times: no certificate"


def test_a_person_is_named_by_the_login() -> None:
    assert told("discarded").requestor == "admin@console"


@pytest.mark.parametrize("name", ["start", "queried", "searched", "association refused", "discarded"])
def test_what_is_about_nobody_names_nobody(name: str) -> None:
    assert told(name).object("Patient Number") is None


def test_no_name_can_break_a_line_or_the_document() -> None:
    odd = Patient('<ID&"1">\n2', "山田^太郎\r\n\x00\x1b[31m]]>", "1.2.3\n4")
    message = message_of(recorded(EVENTS["received"]), SOURCE, odd)
    assert b"\n" not in message.xml
    assert Message(message.xml).patient == ('<ID&"1"> 2', "山田^太郎    [31m]]>")


def test_no_text_is_longer_than_a_datagram_takes() -> None:
    """A name in an image, or the words of a peer, may be as long as somebody likes: the trail would stand for ever."""
    endless = "&" * 100_000
    for name in ("received", "not taken", "association refused"):
        facts = {"failure": endless, "reason": endless + "\udc80"} if name != "received" else {}
        message = message_of(recorded(EVENTS[name], **facts), SOURCE, Patient(endless, endless, "1.2.3"))
        assert len(syslog_message(message)) < 65_000


def test_a_patient_who_cannot_be_read_is_nobody_in_particular() -> None:
    assert told("received", Patient()).patient == ("", "")


def test_results_that_arrive_together_are_one_transfer() -> None:
    results = [recorded(audit_facts.sent(PACS, "case", SEG, "a"), number) for number in (1, 2)]
    failed = recorded(EVENTS["not taken"], 3)
    other = recorded(audit_facts.sent(PACS, "another case", SEG, "b"), 4)
    merged = together([*results, failed, other])
    assert [(each.event_id, each.facts["classes"]) for each in merged] == [(1, {SEG: 2}), (3, {SEG: 1}), (4, {SEG: 1})]


def test_series_that_are_received_are_told_one_by_one() -> None:
    assert len(together([recorded(EVENTS["received"], 1), recorded(EVENTS["received"], 2)])) == 2


def test_a_message_knows_where_and_how_it_ended() -> None:
    message = message_of(recorded(EVENTS["association refused"]), SOURCE, Patient())
    assert isinstance(message, AuditMessage)
    assert (message.host, message.process, message.outcome) == ("node-1.radiology", 4242, "8")
    assert etree.fromstring(message.xml).tag == "AuditMessage"
