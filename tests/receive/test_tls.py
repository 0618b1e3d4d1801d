"""The listener over TLS, against dcmtk's senders, OpenSSL's client, and clients that should stay outside."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from dicom_node.conformance import conformance_statement, to_markdown
from dicom_node.errors import SettingsError
from dicom_node.receive.listener import Listener
from dicom_node.settings import CredentialsTable, Settings
from dicom_node.tls import client_context
from tests.certificates import Authority, Credentials
from tests.peers import CALLING_AE, Receiver, receiver, run_tool, tool, wait_until
from tests.phantoms import PhantomSpec, write
from tests.receive.calling import CT, associate, associations


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Credentials:
    return authority.issue("scanner")


@pytest.fixture(scope="module")
def node_credentials(authority: Authority) -> Credentials:
    return authority.issue("node")


@pytest.fixture
def node(tmp_path: Path, node_credentials: Credentials) -> Iterator[Receiver]:
    """A listener on a plain port and on a TLS port."""
    with receiver(tmp_path / "home", tls=node_credentials.table) as started:
        yield started


def send(
    node: Receiver, *arguments: str | Path, credentials: tuple[str, ...], title: str = "STORESCU"
) -> subprocess.CompletedProcess[str]:
    """storescu to the TLS port."""
    called = ("-aet", title, "-aec", CALLING_AE, "127.0.0.1", str(node.listener.tls_port))
    return run_tool("storescu", "-v", *credentials, *called, *arguments)


def refused(node: Receiver, credentials: tuple[str, ...], file: Path) -> str:
    """Why storescu could not send; nothing of it may be kept."""
    result = send(node, file, credentials=credentials)
    assert result.returncode != 0
    assert node.spooled == []
    assert associations(node) == []
    return result.stdout


def assert_logged(capfd: pytest.CaptureFixture[str], *words: str) -> None:
    """The log says all of it, now or soon: a client may have ended before the listener wrote its line."""
    said: list[str] = []

    def complete() -> bool:
        said.extend(capfd.readouterr())
        return all(word in "".join(said) for word in words)

    assert wait_until(complete), said


@pytest.mark.peer
@pytest.mark.parametrize("pdu", ["4096", "131072"])
def test_dcmtk_sends_a_series_over_tls(node: Receiver, scanner: Credentials, ct_files: list[Path], pdu: str) -> None:
    echo = ("-aec", CALLING_AE, "127.0.0.1", str(node.listener.tls_port))
    assert run_tool("echoscu", *scanner.dcmtk, *echo).returncode == 0
    result = send(node, "--max-send-pdu", pdu, *ct_files, credentials=scanner.dcmtk)
    assert result.returncode == 0, result.stdout
    sent = {read.SOPInstanceUID: read.PixelData for read in map(pydicom.dcmread, ct_files)}
    assert {read.SOPInstanceUID: read.PixelData for read in map(pydicom.dcmread, node.spooled)} == sent


@pytest.mark.peer
def test_large_and_small_instances_pass_whole(node: Receiver, scanner: Credentials, tmp_path: Path) -> None:
    """Records of TLS (16 KiB) and PDUs begin and end at different bytes; nothing may be left lying between them."""
    large = write(PhantomSpec(slices=2, rows=700, columns=701), tmp_path / "large")
    small = write(PhantomSpec(slices=20, rows=8, columns=8), tmp_path / "small")
    result = send(node, *large, *small, credentials=scanner.dcmtk)
    assert result.returncode == 0, result.stdout
    assert len(node.spooled) == len(large) + len(small)


def test_a_message_that_comes_in_one_record_is_answered(node: Receiver, scanner: Credentials) -> None:
    """The whole of a request lies in OpenSSL's buffer after its first byte was read; the socket then looks empty."""
    with entity_over_tls(node, scanner) as (association, _):
        assert [association.send_c_echo().Status for _ in range(20)] == [0] * 20


class entity_over_tls:  # noqa: N801 - a context
    """An association over TLS by pynetdicom."""

    def __init__(self, node: Receiver, credentials: Credentials, *, calling: str = "TEST") -> None:
        self._node, self._credentials, self._calling = node, credentials, calling
        self._open: list[socket.socket] = []

    def __enter__(self) -> tuple[Any, str]:
        entity = AE(ae_title=self._calling)
        contexts = [build_context("1.2.840.10008.1.1"), build_context(CT, ExplicitVRLittleEndian)]
        context = client_context(CredentialsTable(**vars(self._credentials)))
        self._association = entity.associate(
            "127.0.0.1",
            self._node.listener.tls_port,
            contexts=contexts,
            ae_title=CALLING_AE,
            tls_args=(context, "127.0.0.1"),
            evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: self._open.append(event.assoc.dul.socket.socket))],
        )
        return self._association, context.failure

    def __exit__(self, *_: object) -> None:
        if self._association.is_established:
            self._association.release()
        for connection in self._open:
            connection.close()  # pynetdicom leaves a socket open that the peer has closed first


@pytest.mark.peer
def test_a_client_without_certificate_is_refused(
    node: Receiver, authority: Authority, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    refused(node, ("+tla", "+cf", str(authority.file)), ct_files[0])
    assert_logged(capfd, "peer did not return a certificate")


@pytest.mark.peer
def test_without_the_demand_a_client_needs_no_certificate(
    tmp_path: Path, node_credentials: Credentials, authority: Authority, ct_files: list[Path]
) -> None:
    tables = {**node_credentials.table, "require_client_certificate": False}
    with receiver(tmp_path, tls=tables) as node:
        result = send(node, ct_files[0], credentials=("+tla", "+cf", str(authority.file)))
        assert result.returncode == 0, result.stdout
        assert len(node.spooled) == 1


@pytest.mark.peer
def test_a_certificate_of_another_authority_is_refused(
    node: Receiver, authority: Authority, tmp_path: Path, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    stranger = Authority(tmp_path / "other", "Other CA").issue("scanner", believes=authority.file)
    refused(node, stranger.dcmtk, ct_files[0])
    assert_logged(capfd, "TLS handshake failed", "unable to get local issuer certificate")


@pytest.mark.peer
def test_an_expired_certificate_is_refused(
    node: Receiver, authority: Authority, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    refused(node, authority.issue("expired", days=(-20, -10)).dcmtk, ct_files[0])
    assert_logged(capfd, "certificate has expired")


def shown_by(node: Receiver, caller: Credentials) -> bytes:
    """The certificate that the listener shows."""
    context = client_context(CredentialsTable.model_validate(caller.table))
    with (
        socket.create_connection(("127.0.0.1", node.listener.tls_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_shown_at_the_next_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ours, caller = authority.issue("node"), authority.issue("caller")
    with receiver(tmp_path / "home", tls=ours.table) as node:
        before = shown_by(node, caller)
        authority.issue("node")
        assert shown_by(node, caller) != before


def test_a_certificate_that_came_without_its_key_is_not_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ours, caller = authority.issue("node"), authority.issue("caller")
    with receiver(tmp_path / "home", tls=ours.table) as node:
        before = shown_by(node, caller)
        ours.certificate.write_bytes(authority.issue("other").certificate.read_bytes())
        assert shown_by(node, caller) == before


@pytest.mark.peer
def test_a_revoked_certificate_is_refused_and_another_is_not(
    tmp_path: Path, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path / "authority")
    ours, valid, stolen = (authority.issue(name) for name in ("node", "valid", "stolen"))
    crl = authority.revoke(stolen)
    with receiver(tmp_path / "home", tls={**ours.table, "crl": str(crl)}) as node:
        refused(node, stolen.dcmtk, ct_files[0])
        assert_logged(capfd, "TLS handshake failed", "certificate revoked")
        assert send(node, ct_files[0], credentials=valid.dcmtk).returncode == 0


@pytest.mark.peer
def test_what_is_revoked_while_the_node_runs_is_refused(tmp_path: Path, ct_files: list[Path]) -> None:
    authority = Authority(tmp_path / "authority")
    ours, stolen = authority.issue("node"), authority.issue("stolen")
    with receiver(tmp_path / "home", tls={**ours.table, "crl": str(authority.revoke())}) as node:
        authority.revoke(stolen)
        refused(node, stolen.dcmtk, ct_files[0])


@pytest.mark.peer
def test_a_revocation_list_out_of_its_time_lets_nobody_in(
    tmp_path: Path, ct_files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path / "authority")
    ours, valid = authority.issue("node"), authority.issue("valid")
    with receiver(tmp_path / "home", tls={**ours.table, "crl": str(authority.revoke(days=(-9, -2)))}) as node:
        refused(node, valid.dcmtk, ct_files[0])
        assert_logged(capfd, "was to be replaced by", "TLS handshake failed", "CRL has expired")


@pytest.mark.peer
def test_an_authority_without_a_revocation_list_is_not_believed(tmp_path: Path, ct_files: list[Path]) -> None:
    authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other", "Other CA")
    ours, valid = authority.issue("node"), authority.issue("valid")
    assert other.file.is_file()
    with receiver(tmp_path / "home", tls={**ours.table, "crl": str(other.revoke())}) as node:
        refused(node, valid.dcmtk, ct_files[0])


@pytest.mark.peer
def test_an_unknown_title_is_refused_over_tls_too(
    tmp_path: Path, node_credentials: Credentials, scanner: Credentials, ct_files: list[Path]
) -> None:
    peers = [{"ae_title": "SCANNER", "address": "127.0.0.1", "tls": True}]
    with receiver(tmp_path, tls=node_credentials.table, peer=peers) as node:
        assert "Calling AE Title Not Recognized" in refused(node, scanner.dcmtk, ct_files[0])
        assert send(node, ct_files[0], credentials=scanner.dcmtk, title="SCANNER").returncode == 0


def test_a_peer_that_has_to_call_over_tls_is_refused_on_the_plain_port(
    tmp_path: Path, node_credentials: Credentials, capfd: pytest.CaptureFixture[str]
) -> None:
    peers = [{"ae_title": "SCANNER", "address": "127.0.0.1", "tls": True}, {"ae_title": "OLD", "address": "127.0.0.1"}]
    with receiver(tmp_path, tls=node_credentials.table, peer=peers) as node:
        association = associate(node, (CT, [ExplicitVRLittleEndian]), calling="SCANNER")
        assert (association.is_rejected, association.acceptor.primitive.diagnostic) == (True, 3)
        old = associate(node, (CT, [ExplicitVRLittleEndian]), calling="OLD")
        assert old.is_established
        old.release()
    assert_logged(capfd, "has to call over TLS")


@pytest.mark.parametrize("bound_by", ["common name", "alternative name", "fingerprint"])
def test_a_title_cannot_be_borrowed_by_the_holder_of_another_certificate(
    tmp_path: Path, node_credentials: Credentials, scanner: Credentials, authority: Authority, bound_by: str
) -> None:
    binding = {
        "common name": {"certificate_name": "Scanner"},
        "alternative name": {"certificate_name": "scanner.test"},
        "fingerprint": {"certificate_sha256": scanner.sha256},
    }[bound_by]
    peers = [{"ae_title": "SCANNER", "address": "127.0.0.1", **binding}]
    with receiver(tmp_path, tls=node_credentials.table, peer=peers) as node:
        with entity_over_tls(node, authority.issue("workstation"), calling="SCANNER") as (association, _):
            assert association.is_rejected
        with entity_over_tls(node, scanner, calling="SCANNER") as (association, _):
            assert association.is_established


@pytest.mark.peer
def test_the_plain_port_can_be_closed(tmp_path: Path, node_credentials: Credentials, scanner: Credentials) -> None:
    with receiver(tmp_path, tls={**node_credentials.table, "plain": False}) as node:
        assert node.listener.port == node.listener.tls_port
        assert run_tool("echoscu", "-aec", CALLING_AE, "127.0.0.1", str(node.listener.port)).returncode != 0
        with entity_over_tls(node, scanner) as (association, _):
            assert association.is_established


def test_a_tls_port_in_use_frees_the_plain_port(tmp_path: Path, node_credentials: Credentials) -> None:
    with receiver(tmp_path / "first", tls=node_credentials.table) as first:
        taken = first.listener.tls_port
        with socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
        tables = {
            "node": {"home": str(tmp_path / "second"), "port": free},
            "tls": {**node_credentials.table, "port": taken},
        }
        listener = Listener(Settings.model_validate(tables), first.intake)
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {taken}"):
            listener.start()
        with socket.create_server(("127.0.0.1", free)):
            pass


@pytest.mark.peer
def test_clients_that_never_shake_hands_keep_nobody_out(
    node: Receiver, scanner: Credentials, ct_files: list[Path]
) -> None:
    with ExitStack() as silent:
        for _ in range(20):
            silent.enter_context(socket.create_connection(("127.0.0.1", node.listener.tls_port), timeout=10))
        began = time.monotonic()
        assert send(node, *ct_files, credentials=scanner.dcmtk).returncode == 0
        assert node.storescu(*ct_files).returncode == 0
        assert time.monotonic() - began < 25  # within the 30 s that a handshake may take
    assert len(node.spooled) == len(ct_files)


def test_a_handshake_that_dribbles_is_ended(tmp_path: Path, node_credentials: Credentials) -> None:
    with (
        receiver(tmp_path, tls=node_credentials.table, limits={"negotiation_seconds": 1.0}) as node,
        socket.create_connection(("127.0.0.1", node.listener.tls_port), timeout=20) as dribbler,
    ):
        assert ended_while_dribbling(dribbler, b"\x16\x03\x01\x02\x00" + bytes(512), pause=0.1) < 10


def ended_while_dribbling(connection: socket.socket, content: bytes, *, pause: float) -> float:
    """Send a byte at a time until the other side ends the connection; after how many seconds."""
    began = time.monotonic()
    connection.settimeout(pause)
    for byte in content:
        try:
            connection.sendall(bytes([byte]))
            if connection.recv(1000) == b"":
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    raise AssertionError("the connection was never ended")


def test_a_part_of_a_record_does_not_hold_our_answer_back(node: Receiver, scanner: Credentials) -> None:
    """What came is a piece of a record: nothing can be read of it yet, and what is to be sent is sent."""
    with entity_over_tls(node, scanner) as (association, _):
        secured = association.dul.socket.socket
        raw = socket.socket(fileno=socket.dup(secured.fileno()))
        try:
            assert association.send_c_echo().Status == 0
            raw.send(b"\x17\x03\x03")  # the beginning of a record header, its rest never comes
            time.sleep(0.5)
            server_side = node.listener._active_associations()[0]
            assert not server_side.dul.socket.ready
            began = time.monotonic()
            server_side.abort()
            assert time.monotonic() - began < 10
        finally:
            raw.close()


def test_the_conformance_statement_says_so(tmp_path: Path, node_credentials: Credentials) -> None:
    with receiver(tmp_path, tls=node_credentials.table) as node:
        statement = to_markdown(conformance_statement(node.settings))
    assert "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile" in statement
    assert "127.0.0.1:2762" in statement


VERSIONS = {"-tls1": False, "-tls1_1": False, "-tls1_2": True, "-tls1_3": True}
SUITES = {
    "ECDHE-RSA-AES256-GCM-SHA384": True,
    "ECDHE-RSA-AES128-GCM-SHA256": True,
    "ECDHE-RSA-CHACHA20-POLY1305": False,
    "ECDHE-RSA-AES256-SHA384": False,  # CBC
    "ECDHE-RSA-AES128-SHA": False,
    "DHE-RSA-AES256-GCM-SHA384": False,
    "AES256-GCM-SHA384": False,  # no forward secrecy
    "AES128-SHA": False,
    "NULL-SHA256": False,
    "ADH-AES256-GCM-SHA384": False,  # anonymous
}
BY_HAND = {
    # Version of the protocol and suite in hexadecimal; what this OpenSSL was built without.
    "SSL 3.0 RSA-AES128-SHA": ("0300", "002f", False),
    "SSL 3.0 RSA-RC4-SHA": ("0300", "0005", False),
    "TLS 1.2 RSA-RC4-SHA": ("0303", "0005", False),
    "TLS 1.2 RSA-3DES-EDE-CBC-SHA": ("0303", "000a", False),
    "TLS 1.2 RSA-EXPORT-RC4-40-MD5": ("0303", "0003", False),
    "TLS 1.2 PSK-AES256-GCM-SHA384": ("0303", "00a9", False),
    "TLS 1.2 ECDHE-RSA-AES128-GCM-SHA256": ("0303", "c02f", True),  # the probe itself is understood
}


@pytest.mark.peer
def test_protocol_versions_and_suites(node: Receiver, scanner: Credentials) -> None:
    """As testssl.sh looks at a server: what it agrees to when the client offers nothing else."""
    rows = [(version, *offer(node, scanner, version), good) for version, good in VERSIONS.items()]
    rows += [(f"-tls1_2 {suite}", *offer(node, scanner, "-tls1_2", suite), good) for suite, good in SUITES.items()]
    rows += [
        (f"by hand: {name}", *offer_by_hand(node, version, suite), good)
        for name, (version, suite, good) in BY_HAND.items()
    ]
    print(f"\n{'offered':<48}{'handshake':<12}what came")
    for offered, agreed, said, _ in rows:
        print(f"{offered:<48}{'goes on' if agreed else 'refused':<12}{said}")
    assert {offered: agreed for offered, agreed, _, _ in rows} == {offered: good for offered, _, _, good in rows}


def offer(
    node: Receiver, credentials: Credentials, version: str, suite: str = "ALL:COMPLEMENTOFALL"
) -> tuple[bool, str]:
    """Whether the listener agrees to a handshake with OpenSSL's client, and what that says of it.

    The client offers whatever it can (security level 0).
    """
    command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{node.listener.tls_port}", version]
    command += ["-cert", credentials.certificate, "-key", credentials.key, "-CAfile", credentials.authorities]
    command += ["-cipher", f"{suite}:@SECLEVEL=0"] if version != "-tls1_3" else []
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("New, TLS")]
    if said and "(NONE)" not in said[0]:
        return done.returncode == 0, said[0]
    errors = [line.split(":")[5] for line in done.stderr.splitlines() if ":error:" in line]
    assert "alert" in errors[0], f"the client did not even offer it: {errors}"
    return False, errors[0]


def offer_by_hand(node: Receiver, version: str, suite: str) -> tuple[bool, str]:
    """Send a ClientHello (RFC 5246 7.4.1.2, RFC 6101 5.6.1.2) and see whether a ServerHello or an alert comes."""
    groups_and_signatures = "000a0006000400170018" + "000b00020100" + "000d000a00080401050106010403"
    extensions = b"" if version == "0300" else bytes.fromhex(groups_and_signatures)
    body = bytes.fromhex(version) + bytes(range(32)) + b"\x00" + b"\x00\x02" + bytes.fromhex(suite) + b"\x01\x00"
    body += len(extensions).to_bytes(2, "big") + extensions if extensions else b""
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    with socket.create_connection(("127.0.0.1", node.listener.tls_port), timeout=20) as client:
        client.sendall(b"\x16" + bytes.fromhex(version) + len(hello).to_bytes(2, "big") + hello)
        answer = client.recv(7)
    kinds = {0x15: f"alert {answer[6]}" if len(answer) == 7 else "alert", 0x16: "ServerHello"}
    return answer[:1] == b"\x16", kinds[answer[0]]
