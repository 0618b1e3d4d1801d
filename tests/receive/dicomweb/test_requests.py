"""Requests that are not understood, and callers that are not known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.receive.dicomweb.callers import require_tokens
from dicom_node.settings import parse_settings
from tests.certificates import Authority
from tests.peers import Receiver, receiver
from tests.receive.dicomweb.calling import PATH, body_of, request, send_raw, web_peer, web_receiver


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One listener for all: what is refused leaves nothing behind."""
    with web_receiver(tmp_path_factory.mktemp("web")) as node:
        yield node


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "HEAD"}, 405),
        ({"path": "/"}, 404),
        ({"path": "/dicom-web/studiesx"}, 404),
        ({"path": f"{PATH}/1.2/series"}, 404),
        ({"path": f"{PATH}/../../etc"}, 404),
        ({"path": f"{PATH}/not-a-uid"}, 400),
        ({"Content_Type": "application/dicom"}, 415),
        ({"Content_Type": 'multipart/related; type="application/dicom+json"; boundary=b'}, 415),
        ({"Content_Type": 'multipart/related; type="application/dicom"'}, 400),
        ({"Content_Type": ""}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Accept": "application/dicom+xml"}, 406),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Basic 0123456789abcdef-of-the-tests"}, 401),
        ({"Authorization": "Bearer another-token-altogether"}, 401),
    ],
)
def test_a_request_is_refused_with_the_status_that_says_why(
    web: Receiver, ct_files: list[Path], changes: dict[str, str], status: int
) -> None:
    answer = request(web.listener.dicomweb_port, body_of([ct_files[0].read_bytes()]), **changes)  # type: ignore[arg-type]
    assert (answer.status, web.spooled) == (status, [])


def test_a_body_without_a_length_is_refused(web: Receiver) -> None:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0123456789abcdef-of-the-tests\r\n"
        "Content-Type: multipart/related; boundary=b\r\n\r\n"
    )
    assert send_raw(web.listener.dicomweb_port, head.encode()).startswith(b"HTTP/1.1 411 ")


def test_a_refusal_of_the_token_says_what_is_wanted(web: Receiver) -> None:
    answer = request(web.listener.dicomweb_port, b"", Authorization="")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_token_is_good_for_the_address_of_its_peer_alone(tmp_path: Path) -> None:
    with web_receiver(tmp_path, peer=[web_peer(tmp_path, address="10.0.0.0/8")]) as node:
        assert request(node.listener.dicomweb_port, b"").status == 403


def test_a_peer_without_a_token_cannot_store(tmp_path: Path) -> None:
    peers = [{"ae_title": "*", "address": "127.0.0.1"}, web_peer(tmp_path, address="10.0.0.0/8")]
    with web_receiver(tmp_path, peer=peers) as node:
        assert request(node.listener.dicomweb_port, b"").status == 403


def test_a_peer_that_has_to_call_over_tls_is_not_let_in_without(tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca", "the authority").issue("node").table
    with web_receiver(tmp_path, peer=[web_peer(tmp_path, tls=True)], tls=tls) as node:
        assert request(node.listener.dicomweb_port, b"").status == 401


def test_a_token_that_others_can_read_stops_the_start(tmp_path: Path) -> None:
    peer = web_peer(tmp_path)
    Path(str(peer["token_file"])).chmod(0o644)
    with (
        pytest.raises(SettingsError, match="chmod 600"),
        receiver(tmp_path / "home", dicomweb={"port": 8042}, peer=[peer]),
    ):
        pass


def test_a_renewed_token_counts_without_a_restart_and_the_old_one_no_more(tmp_path: Path) -> None:
    peer, renewed = web_peer(tmp_path), "fedcba9876543210-renewed"
    with web_receiver(tmp_path, peer=[peer]) as node:
        port = node.listener.dicomweb_port
        Path(str(peer["token_file"])).write_text(renewed)
        assert request(port, b"", Authorization=f"Bearer {renewed}").status == 400  # let in: the body is what lacks
        assert request(port, b"").status == 401


def test_a_renewed_token_that_cannot_be_used_leaves_the_old_one_good(tmp_path: Path) -> None:
    peer = web_peer(tmp_path)
    with web_receiver(tmp_path, peer=[peer]) as node:
        Path(str(peer["token_file"])).write_text("short")
        assert request(node.listener.dicomweb_port, b"").status == 400
        assert request(node.listener.dicomweb_port, b"", Authorization="Bearer short").status == 401


def test_one_token_file_that_cannot_be_used_keeps_no_other_from_being_renewed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    broken, peer = web_peer(tmp_path / "other", ae_title="OTHER"), web_peer(tmp_path)
    Path(str(broken["token_file"])).write_text("0123456789abcdef-of-the-other")
    with web_receiver(tmp_path, peer=[broken, peer]) as node:
        Path(str(broken["token_file"])).write_text("short")
        Path(str(peer["token_file"])).write_text("fedcba9876543210-renewed")
        assert request(node.listener.dicomweb_port, b"").status == 401
        assert request(node.listener.dicomweb_port, b"", Authorization="Bearer fedcba9876543210-renewed").status == 400


@pytest.mark.parametrize("content", ["", "short", "two words of a token"])
def test_a_file_without_a_token_stops_the_start(tmp_path: Path, content: str) -> None:
    peer = web_peer(tmp_path)
    Path(str(peer["token_file"])).write_text(content)
    with (
        pytest.raises(SettingsError, match="expected one token"),
        receiver(tmp_path / "home", dicomweb={"port": 8042}, peer=[peer]),
    ):
        pass


@pytest.mark.parametrize(("address", "is_refused"), [("127.0.0.0/8", True), ("10.0.0.0/8", False), ("::1", False)])
def test_two_peers_of_one_address_have_tokens_of_their_own(tmp_path: Path, address: str, is_refused: bool) -> None:
    peers = [web_peer(tmp_path), web_peer(tmp_path, ae_title="OTHER", address=address)]
    settings = parse_settings({"dicomweb": {"port": 8042}, "peer": peers}, origin="test")
    with pytest.raises(SettingsError, match="have the same token") if is_refused else nullcontext():
        require_tokens(settings)


PEER = {"ae_title": "WEB", "address": "127.0.0.1", "token_file": "token"}


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"dicomweb": {"port": 8042}}, "nobody may store"),
        ({"dicomweb": {"port": 8042}, "peer": [{"ae_title": "A", "address": "127.0.0.1"}]}, "nobody may store"),
        ({"dicomweb": {"port": 8042}, "peer": [{**PEER, "ae_title": "*"}]}, "AE title of its own"),
        ({"dicomweb": {"port": 8042, "bind": "0.0.0.0"}, "peer": [PEER]}, "set tls = true"),
        ({"dicomweb": {"port": 8042, "tls": True}, "peer": [PEER]}, r"no table \[tls\]"),
        ({"dicomweb": {"port": 11112}, "peer": [PEER]}, "taken by another service"),
    ],
)
def test_settings_that_let_strangers_in_are_refused(tables: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_settings(tables, origin="node.toml")
