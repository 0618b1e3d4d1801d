"""Destinations over TLS: dcmtk's storescp with certificates of the tests' own."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pydicom
import pytest

from dicom_node.deliver.echo import echo
from dicom_node.deliver.sender import send
from dicom_node.errors import DeliveryFailed
from dicom_node.settings import DestinationTable, Settings, parse_settings
from dicom_node.worker.delivery_run import sender_destination
from tests.certificates import Authority, Credentials
from tests.peers import CALLING_AE, destination, storescp


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Credentials:
    return authority.issue("node")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> Credentials:
    return authority.issue("pacs")


def secured(plain: DestinationTable, credentials: Credentials, **changes: object) -> DestinationTable:
    """The same destination called over TLS."""
    return destination(plain.name, plain.ae_title, plain.port, tls=True, credentials=credentials.table, **changes)


@pytest.mark.peer
def test_objects_arrive_over_tls(tmp_path: Path, objects: list[Path], ours: Credentials, theirs: Credentials) -> None:
    with storescp(tmp_path / "peer", *theirs.dcmtk) as peer:  # asks for our certificate by default
        target = secured(peer.destination, ours)
        assert echo(target, CALLING_AE).reachable
        assert all(outcome.ok for outcome in send(target, objects, CALLING_AE))
        arrived = {str(pydicom.dcmread(path).SOPInstanceUID) for path in peer.folder.iterdir()}
    assert arrived == {str(pydicom.dcmread(path).SOPInstanceUID) for path in objects}


@pytest.mark.peer
def test_a_certificate_for_another_name_is_refused_unless_set(
    tmp_path: Path, ours: Credentials, theirs: Credentials
) -> None:
    with storescp(tmp_path / "peer", *theirs.dcmtk) as peer:
        wrong = echo(secured(peer.destination, ours, tls_name="other.test"), CALLING_AE)
        assert not wrong.reachable
        assert "no secure connection" in wrong.reason
        assert "not valid for 'other.test'" in wrong.reason
        assert echo(secured(peer.destination, ours, tls_name="pacs.test"), CALLING_AE).reachable


@pytest.mark.peer
def test_a_destination_of_another_authority_is_refused(tmp_path: Path, ours: Credentials, authority: Authority) -> None:
    stranger = Authority(tmp_path / "other", "Other CA").issue("pacs", believes=authority.file)
    with storescp(tmp_path / "peer", *stranger.dcmtk) as peer:
        report = echo(secured(peer.destination, ours), CALLING_AE)
    assert not report.reachable
    assert "unable to get local issuer certificate" in report.reason


@pytest.mark.peer
def test_a_destination_that_refuses_our_certificate_is_said_so(
    tmp_path: Path, theirs: Credentials, authority: Authority
) -> None:
    stranger = Authority(tmp_path / "other", "Other CA").issue("node", believes=authority.file)
    with storescp(tmp_path / "peer", *theirs.dcmtk) as peer:
        report = echo(secured(peer.destination, stranger), CALLING_AE)
    assert not report.reachable
    assert "certificate" in report.reason


@pytest.mark.peer
def test_a_plain_peer_where_tls_is_expected_is_refused(tmp_path: Path, ours: Credentials) -> None:
    with storescp(tmp_path / "peer") as peer:
        report = echo(secured(peer.destination, ours), CALLING_AE)
    assert not report.reachable
    assert "no secure connection" in report.reason


def test_a_peer_that_never_shakes_hands_is_given_up(ours: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        target = secured(destination("silent", "SILENT", silent.getsockname()[1]), ours, timeout_seconds=2.0)
        report = echo(target, CALLING_AE)
    assert not report.reachable
    assert time.monotonic() - began < 20


@pytest.mark.peer
def test_a_peer_that_falls_silent_after_the_handshake_keeps_no_thread(ours: Credentials, theirs: Credentials) -> None:
    """After a handshake of TLS 1.3 come session tickets: the socket is readable though no PDU comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.certificate, theirs.key)
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as door:
        opened: list[ssl.SSLSocket] = []

        def shake() -> None:
            opened.append(context.wrap_socket(door.accept()[0], server_side=True))

        thread = threading.Thread(target=shake)
        thread.start()
        target = secured(destination("silent", "SILENT", door.getsockname()[1]), ours, timeout_seconds=2.0)
        assert not echo(target, CALLING_AE).reachable
        thread.join()
        deadline = time.monotonic() + 20
        while set(threading.enumerate()) - before and time.monotonic() < deadline:
            time.sleep(0.1)
        opened[0].close()
    assert set(threading.enumerate()) - before == set()


def test_a_certificate_that_expired_meanwhile_can_be_tried_again(
    objects: list[Path], authority: Authority, ours: Credentials
) -> None:
    expired = authority.issue("expired", days=(-3, -1))
    with pytest.raises(DeliveryFailed, match="renew it") as raised:
        send(secured(destination("pacs", "PACS", 1), expired), objects, CALLING_AE)
    assert raised.value.retryable


@pytest.mark.peer
def test_a_destination_whose_certificate_is_revoked_is_not_sent_anything(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.issue("node"), authority.issue("pacs")
    with storescp(tmp_path / "peer", *theirs.dcmtk) as peer:
        target = secured(peer.destination, ours)
        assert target.credentials is not None
        checking = target.credentials.model_copy(update={"crl": authority.revoke(theirs)})
        assert echo(target, CALLING_AE).reachable
        assert "revoked" in echo(target.model_copy(update={"credentials": checking}), CALLING_AE).reason


def test_results_go_back_over_tls_to_a_peer_that_calls_over_tls(ours: Credentials) -> None:
    peer = {"ae_title": "SCANNER", "address": "10.1.0.0/16", "port": 2762, "certificate_name": "ct3.test"}
    settings: Settings = parse_settings({"tls": ours.table, "peer": [peer]}, origin="test")
    back = sender_destination(settings, "SCANNER", "10.1.2.3")
    assert (back.tls, back.tls_name, back.port) == (True, "ct3.test", 2762)
    assert back.credentials is not None
    assert back.credentials.certificate == ours.certificate
