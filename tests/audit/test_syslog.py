"""The audit trail at a syslog server of the field, over each transport, and what happens without one."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.audit.messages import AuditMessage, message_of
from dicom_node.audit.syslog import SyslogServer, syslog_message
from dicom_node.settings import AuditTable
from tests.audit.events import EVENTS, PATIENT, SOURCE, recorded
from tests.audit.rsyslog import Rsyslog, rsyslog
from tests.certificates import Authority, Credentials
from tests.peers import wait_until
from tests.ports import free_port


def of(name: str) -> AuditMessage:
    return message_of(recorded(EVENTS[name]), SOURCE, PATIENT)


ALL = [of(name) for name in EVENTS]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node(authority: Authority) -> Credentials:
    return authority.issue("node")


@pytest.fixture(scope="module", params=["ossl", "gtls"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Rsyslog]:
    folder = tmp_path_factory.mktemp("rsyslog")
    with rsyslog(folder, authority.issue("syslog"), request.param) as started:
        yield started


def table(url: str, credentials: Credentials | None = None) -> AuditTable:
    shown = {"credentials": credentials.table} if credentials else {}
    return AuditTable.model_validate({"syslog": url, **shown})


@pytest.mark.parametrize(("name", "priority"), [("received", 85), ("association refused", 84)])
def test_the_header_is_that_of_rfc_5424_and_ps3_15_a_6(name: str, priority: int) -> None:
    header, mark, xml = syslog_message(of(name)).partition(b"\xef\xbb\xbf")
    expected = f"<{priority}>1 2023-11-14T22:13:20.250Z node-1.radiology dicom-node 4242 DICOM+RFC3881 - "
    assert (header.decode(), bool(mark), xml) == (expected, True, of(name).xml)


@pytest.mark.peer
@pytest.mark.parametrize("transport", ["tls", "tcp", "udp"])
def test_every_message_arrives_as_it_was_sent(transport: str, server: Rsyslog, node: Credentials) -> None:
    client = SyslogServer(table(server.url(transport), node if transport == "tls" else None))
    before = len(server.lines)
    client.write(ALL)
    assert wait_until(lambda: len(server.lines) >= before + len(ALL))
    arrived = server.lines[before:]
    head = ["2023-11-14T22:13:20.250Z", "node-1.radiology", "dicom-node", "4242", "DICOM+RFC3881"]
    assert all(line.split("|")[1:6] == head for line in arrived)
    assert sorted(line.partition("\ufeff")[2].encode() for line in arrived) == sorted(each.xml for each in ALL)
    assert len(server.messages) == len(server.lines)  # each of them valid


@pytest.mark.peer
def test_a_client_of_another_authority_sends_nothing(server: Rsyslog, tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path, "Other CA").issue("node", believes=authority.file)
    client, before = SyslogServer(table(server.url("tls"), stranger)), len(server.lines)
    for _ in range(20):  # whoever is quicker, we with our messages or the server with its verdict
        with pytest.raises(OSError):  # noqa: PT011 - which of TLS's ways to say no is the server's choice
            client.write(ALL)
    assert server.lines[before:] == []


@pytest.mark.peer
def test_a_renewed_certificate_is_shown_without_a_restart(
    server: Rsyslog, tmp_path: Path, authority: Authority, node: Credentials
) -> None:
    ours = Authority(tmp_path, "Other CA").issue("node", believes=authority.file)
    client, before = SyslogServer(table(server.url("tls"), ours)), len(server.lines)
    with pytest.raises(OSError):  # noqa: PT011 - which of TLS's ways to say no is the server's choice
        client.write(ALL)
    shutil.copy(node.certificate, ours.certificate)
    shutil.copy(node.key, ours.key)
    client.write(ALL)
    assert wait_until(lambda: len(server.lines) >= before + len(ALL))


@pytest.mark.peer
def test_a_server_of_another_authority_is_told_nothing(server: Rsyslog, tmp_path: Path, authority: Authority) -> None:
    wary = authority.issue("wary", believes=Authority(tmp_path, "Other CA").file)
    before = len(server.lines)
    with pytest.raises(ssl.SSLCertVerificationError):
        SyslogServer(table(server.url("tls"), wary)).write(ALL)
    assert server.lines[before:] == []


@pytest.mark.parametrize("transport", ["tls", "tcp"])
def test_a_server_that_is_down_takes_nothing(transport: str, node: Credentials) -> None:
    with pytest.raises(ConnectionRefusedError):
        SyslogServer(table(f"{transport}://127.0.0.1:{free_port()}", node)).write(ALL)


def test_a_server_that_dies_with_something_unread_has_not_got_it() -> None:
    """The system takes the bytes all the same: only the end of the connection tells."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def die() -> None:
            connection, _ = listening.accept()
            with closing(connection):
                connection.recv(1)

        dying = threading.Thread(target=die)
        dying.start()
        with pytest.raises(OSError):  # noqa: PT011 - reset while sending or while waiting for the end
            SyslogServer(table(f"tcp://127.0.0.1:{listening.getsockname()[1]}")).write(ALL)
        dying.join()
