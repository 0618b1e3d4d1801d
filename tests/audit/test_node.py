"""A whole node with an audit trail: what its users, its peers and strangers did to it is in the file, and is valid."""

from __future__ import annotations

import getpass
import socket
import ssl
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from pynetdicom import AE

from dicom_node.deliver.echo import echo
from dicom_node.ledger import database as db
from tests.audit.schema import Message, messages_in
from tests.certificates import Authority
from tests.machines.site import series_uid, small_series
from tests.peers import wait_until
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]

CT, SEG, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
TRANSFERRED, DELETED = "DICOM Instances Transferred", "DICOM Study Deleted"
DAY = 86400.0


@dataclass
class Story:
    """What was done with a node, and what its audit trail says of it."""

    messages: list[Message]
    mode: int
    good: str
    interrupted: str
    gap: str
    discarded: str

    def of(self, event: str, study: str | None = None) -> list[Message]:
        """The messages of an event, of one study where one is given."""
        found = [message for message in self.messages if message.event == event]
        return [message for message in found if study is None or message.study == study]


def study_of(files: list[Path]) -> str:
    return str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def shake_hands_without_certificate(port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", port))
    with plain, suppress(OSError), context.wrap_socket(plain) as secured:
        secured.recv(1)  # in TLS 1.3 the refusal comes after the client's side is done


def send_and_kill(node: RunningNode, files: list[Path]) -> None:
    """Send a series, and kill the listener before the association ends."""
    settings = node.settings.node
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(CT)
    association = entity.associate(settings.bind, settings.port, ae_title=settings.ae_title)
    assert association.is_established
    for path in files:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    node.kill_role("listen")
    association.abort()


def age(node: RunningNode, days: float) -> None:
    """Have everything that ended have ended so long ago."""
    database = db.open_database(node.settings.database_url)
    columns = (db.cases.c.finished_at, db.associations.c.closed_at, db.series.c.last_received_at)
    with database.begin() as connection:
        for column in columns:
            connection.execute(sa.update(column.table).values({column.name: column - days * DAY}))
    database.dispose()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("node")
    trail, tls_port = folder / "audit" / "trail.xml", free_port()
    tls = "\n".join(f'{key} = "{value}"' for key, value in Authority(folder / "ca").issue("node").table.items())
    config = write_config(
        folder / "node",
        extra=f'[audit]\nfile = "{trail}"\nsource_id = "test-node"\n[tls]\nport = {tls_port}\n{tls}\n'
        '[[peer]]\nae_title = "SCANNER"\naddress = "127.0.0.1"\n',
    )
    good, interrupted = small_series(folder, 1), small_series(folder, 2)
    whole = write(PhantomSpec(seed=5, patient_id="OTHER"), folder / "whole")
    gap = [*whole[:9], *whole[12:]]
    with RunningNode(config, {}, MODULE) as node:

        def told(condition: Callable[[list[Message]], Any]) -> None:
            assert wait_until(lambda: condition(messages_in(trail)), seconds=60)

        assert not echo(node.as_destination, calling_ae="MALLORY").reachable
        shake_hands_without_certificate(tls_port)
        assert all(outcome.ok for outcome in node.send([*good, *gap]))
        send_and_kill(node, interrupted)
        series = [series_uid(files) for files in (good, gap, interrupted)]
        cases = node.wait_for_cases(series, seconds=180)
        assert [case["state"] for case in cases] == ["done", "held", "done"]
        node.command("cases", "discard", cases[1]["case_id"])
        told(lambda messages: any(message.event.endswith("Restricted Function") for message in messages))
        age(node, 100)
        tidied = node.command("tidy")
        assert len(tidied["series"]) == 3
        told(lambda messages: sum(message.event == DELETED for message in messages) == 5)
        node.command("tidy")
        assert list((node.settings.node.home / "spool").rglob("*.dcm")) == []
        assert list((node.settings.node.home / "leaving").iterdir()) == []
    return Story(
        messages_in(trail),
        stat.S_IMODE(trail.stat().st_mode),
        study_of(good),
        study_of(interrupted),
        study_of(gap),
        cases[1]["case_id"],
    )


def test_the_file_is_for_its_owner_alone(story: Story) -> None:
    assert story.mode == 0o600


def test_everybody_is_told_by_the_same_source(story: Story) -> None:
    sources = {message.document.find("AuditSourceIdentification").get("AuditSourceID") for message in story.messages}
    assert sources == {"test-node"}


def test_start_and_stop_of_listener_and_worker_are_there(story: Story) -> None:
    names = [
        (message.event.partition(": ")[2], message.participants["Application"]["UserName"])
        for message in story.messages
        if message.event.startswith("Application Activity")
    ]
    start, stop = "Application Start", "Application Stop"
    listener, worker = "dicom-node listener", "dicom-node worker"
    assert sorted(names) == [(start, listener), (start, listener), (start, worker), (stop, listener), (stop, worker)]
    assert story.of("Security Alert: Audit Recording Started")
    assert story.messages[-1].event == "Security Alert: Audit Recording Stopped"


def test_a_stranger_is_an_alert(story: Story) -> None:
    alerts = story.of("Security Alert: Node Authentication")
    said = {message.requestor: message.details("Node ID")["Alert Description"] for message in alerts}
    assert "no [[peer]] has the AE title" in said["MALLORY"]
    assert said["127.0.0.1"].startswith("TLS handshake refused")
    assert {message.outcome for message in alerts} == {"8"}


@pytest.mark.parametrize("which", ["good", "interrupted", "gap"])
def test_every_study_that_came_is_there_with_sender_and_patient(story: Story, which: str) -> None:
    """Also that of the association that a kill of the listener ended."""
    study = getattr(story, which)
    received, *sent = story.of(TRANSFERRED, study)
    assert received.participants["Source Role ID"]["AlternativeUserID"] == "AETITLES=SCANNER"
    assert received.participants["Source Role ID"]["NetworkAccessPointID"] == "127.0.0.1"
    assert received.classes == {CT: 12 if which != "gap" else received.classes[CT]}
    assert received.patient[0] == ("OTHER" if which == "gap" else "PHANTOM")
    assert received.patient[1] != ""
    assert bool(sent) == (which != "gap")


@pytest.mark.parametrize("which", ["good", "interrupted"])
def test_results_are_made_sent_and_asked_for(story: Story, which: str) -> None:
    study = getattr(story, which)
    accessed = story.of("DICOM Instances Accessed", study)
    assert [(message.action, message.classes) for message in accessed] == [
        ("R", {CT: 12}),
        ("C", {RTSTRUCT: 1, SEG: 1}),
    ]
    (begun,) = story.of("Begin Transferring DICOM Instances", study)
    sent = story.of(TRANSFERRED, study)[1:]
    for message in (begun, *sent):
        assert message.participants["Destination Role ID"]["AlternativeUserID"] == "AETITLES=NODE_ARCHIVE"
        assert message.patient[0] == "PHANTOM"
        assert message.outcome == "0"
    assert begun.classes == {RTSTRUCT: 1, SEG: 1}
    assert sum(sum(message.classes.values()) for message in sent) == 2
    assert len(story.of("Query")) == 4  # one for each result


def test_whoever_discards_a_case_is_named(story: Story) -> None:
    (message,) = story.of("Security Alert: Use of Restricted Function")
    assert message.requestor.partition("@")[0] == getpass.getuser()
    assert story.discarded in message.details("Node ID")["Alert Description"]


def test_what_retention_removed_is_there(story: Story) -> None:
    removed = story.of(DELETED, story.good)
    assert [message.classes for message in removed] == [{CT: 12}, {RTSTRUCT: 1, SEG: 1}]
    assert [message.patient[0] for message in removed] == ["PHANTOM"] * 2
    assert [set(message.classes) for message in story.of(DELETED, story.gap)] == [{CT}]
