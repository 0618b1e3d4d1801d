"""DICOMweb over TLS: a peer is known by its certificate, or by a token where it shows none."""

from __future__ import annotations

import ssl
from contextlib import suppress
from http.client import HTTPSConnection
from pathlib import Path
from typing import NamedTuple

import pytest

from dicom_node.receive.alerts import Alerts
from tests.certificates import Authority, Credentials
from tests.peers import wait_until
from tests.receive.dicomweb.calling import (
    AUTHORISED,
    MULTIPART,
    PATH,
    answer_of,
    body_of,
    send_raw,
    web_peer,
    web_receiver,
)


class Pki(NamedTuple):
    authority: Authority
    ours: Credentials
    theirs: Credentials


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return Pki(authority, authority.issue("localhost"), authority.issue("scanner"))


def status_over_tls(port: int, pki: Pki, body: bytes, shows: set[str]) -> int:
    context = ssl.create_default_context(cafile=str(pki.authority.file))
    context.check_hostname = False
    if "certificate" in shows:
        context.load_cert_chain(pki.theirs.certificate, pki.theirs.key)
    connection = HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        headers = {"Content-Type": MULTIPART, **(AUTHORISED if "token" in shows else {})}
        connection.request("POST", PATH, body, headers)
        return answer_of(connection).status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("known_by", "shows", "status"),
    [
        ({"certificate_name": "scanner"}, {"certificate"}, 200),
        ({"certificate_name": "scanner"}, {"token"}, 401),
        ({"certificate_name": "another"}, {"certificate"}, 401),
        ({"token_file": True}, {"token"}, 200),
        ({"token_file": True}, {"certificate"}, 401),
        ({"token_file": True, "certificate_name": "scanner"}, {"certificate", "token"}, 200),
        ({"token_file": True, "certificate_name": "scanner"}, {"certificate"}, 401),
        ({"token_file": True, "certificate_name": "scanner"}, {"token"}, 401),
    ],
)
def test_a_caller_has_to_show_all_that_its_peer_is_known_by(
    tmp_path: Path, ct_files: list[Path], pki: Pki, known_by: dict[str, object], shows: set[str], status: int
) -> None:
    peer = {**web_peer(tmp_path), **known_by}
    if known_by.get("token_file"):
        peer["token_file"] = web_peer(tmp_path)["token_file"]
    else:
        del peer["token_file"]
    with web_receiver(tmp_path, tls=pki.ours.table, dicomweb={"tls": True}, peer=[peer]) as node:
        body = body_of([ct_files[0].read_bytes()])
        assert status_over_tls(node.listener.dicomweb_port, pki, body, shows) == status


def test_who_is_not_let_in_is_told_to_the_audit_trail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pki: Pki
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        Alerts, "association_refused", lambda _, caller, reason: told.append(f"{caller.address}: {reason}")
    )
    monkeypatch.setattr(Alerts, "handshake_failed", lambda _, address, reason: told.append(f"{address}: {reason}"))
    with web_receiver(tmp_path, tls=pki.ours.table, dicomweb={"tls": True}) as node:
        assert status_over_tls(node.listener.dicomweb_port, pki, b"", set()) == 401
        with suppress(OSError):  # reset before or after the bytes are away
            send_raw(node.listener.dicomweb_port, b"no handshake at all")
        assert wait_until(lambda: len(told) == 2)
    assert told[0] == '127.0.0.1: "WEB" has to show a bearer token, and shows none'
    assert told[1].startswith("127.0.0.1: ")
