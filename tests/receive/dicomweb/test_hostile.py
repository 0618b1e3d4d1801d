"""Hostile and broken requests: each gets an answer, what was whole before stays stored, and the node goes on."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest

from tests.peers import Receiver, wait_until
from tests.receive.dicomweb.calling import (
    BOUNDARY,
    OTHERS,
    REFERENCED,
    body_of,
    head,
    instances,
    reasons,
    request,
    send_raw,
    web_receiver,
)


@pytest.fixture(autouse=True)
def _goes_on(web: Receiver, ct_files: list[Path]) -> object:
    yield
    assert request(web.listener.dicomweb_port, body_of([ct_files[-1].read_bytes()])).status == 200
    assert web.listener._memory.held == 0


def test_a_body_without_its_boundary_is_refused(web: Receiver) -> None:
    assert request(web.listener.dicomweb_port, b"no boundary at all " * 1000).status == 400


@pytest.mark.parametrize("body", [b"", b"\r\n", f"--{BOUNDARY}--\r\n".encode()])
def test_a_body_without_a_part_is_refused(web: Receiver, body: bytes) -> None:
    assert request(web.listener.dicomweb_port, body).status == 400


def test_a_body_that_ends_inside_a_part_keeps_those_before(web: Receiver, ct_files: list[Path]) -> None:
    body = body_of(path.read_bytes() for path in ct_files[:2])[:-5000]
    answer = request(web.listener.dicomweb_port, body)
    assert (answer.status, len(web.spooled)) == (202, 1)
    assert len(instances(answer.document, REFERENCED)) == 1


def test_a_content_length_beyond_the_body_is_answered(web: Receiver, ct_files: list[Path]) -> None:
    body = body_of([ct_files[0].read_bytes()], is_closed=False)
    answer = send_raw(web.listener.dicomweb_port, head(len(body) + 1000) + body)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_what_a_content_length_leaves_out_is_not_taken_for_a_request(web: Receiver, ct_files: list[Path]) -> None:
    body = body_of([ct_files[0].read_bytes()])
    answer = send_raw(web.listener.dicomweb_port, head(len(body) - 2000) + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert web.spooled == []


def test_a_body_of_two_lengths_is_refused(web: Receiver, ct_files: list[Path]) -> None:
    """Whoever stands in between may go by the other one, and take the rest for a request (RFC 9112 6.1)."""
    body = body_of([ct_files[0].read_bytes()])
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    answer = send_raw(web.listener.dicomweb_port, head(len(chunked), "Transfer-Encoding: chunked") + chunked)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert web.spooled == []


def test_each_request_of_a_connection_is_admitted_for_itself(web: Receiver, ct_files: list[Path]) -> None:
    first, second = (body_of([path.read_bytes()]) for path in ct_files[:2])
    stranger = head(len(second)).replace(b"Bearer 0", b"Bearer 1")
    answer = send_raw(web.listener.dicomweb_port, head(len(first)) + first + stranger + second)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"401"]
    assert len(web.spooled) == 1


def test_ten_thousand_parts_end_at_the_limit(web: Receiver) -> None:
    answer = request(web.listener.dicomweb_port, body_of(b"" for _ in range(10_000)))
    assert answer.status == 413
    assert len(reasons(answer.document, OTHERS)) == 5000


@pytest.mark.parametrize("first", [bytes(128) + b"DICM", b"no file"])
def test_a_part_without_an_end_is_cut(tmp_path: Path, first: bytes) -> None:
    with web_receiver(tmp_path / "small", limits={"instance_bytes": 1 << 20}) as node:
        start = body_of([first], is_closed=False)[:-2]
        pieces = (start, *(bytes(1 << 16) for _ in range(64)))
        content = head(10**9) + b"".join(pieces)
        assert b" 413 " in send_raw(node.listener.dicomweb_port, content).split(b"\r\n")[0]


def test_more_than_the_memory_for_what_arrives_is_asked_to_come_again(tmp_path: Path, ct_files: list[Path]) -> None:
    with web_receiver(tmp_path / "small", limits={"receiving_bytes": 4096}) as node:
        assert request(node.listener.dicomweb_port, body_of([ct_files[0].read_bytes()])).status == 503


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
        b"POST /dicom-web/studies HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        head(None) + b"ZZZ\r\n",
        head(10, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head(5000) + f"--{BOUNDARY}\r\n".encode() + b"X: " + b"y" * 20_000,
        head(5000) + f"--{BOUNDARY}\r\n".encode() + b"X: y\r\n" * 2_000,
    ],
)
def test_what_is_not_http_is_answered_with_its_fault(web: Receiver, content: bytes) -> None:
    assert send_raw(web.listener.dicomweb_port, content).split(b" ")[1][:1] == b"4"


@pytest.mark.parametrize("sent", [b"", b"POST /dicom-web", head(1000) + b"--"])
def test_who_sends_too_slowly_is_cut(tmp_path: Path, sent: bytes) -> None:
    with web_receiver(tmp_path / "quick", limits={"negotiation_seconds": 0.3, "pdu_seconds": 0.3}) as node:
        began = time.monotonic()
        answer = send_raw(node.listener.dicomweb_port, sent, ends=False)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 10


def test_bytes_that_trickle_are_cut(tmp_path: Path) -> None:
    with (
        web_receiver(tmp_path / "quick", limits={"pdu_seconds": 0.5}) as node,
        socket.create_connection(("127.0.0.1", node.listener.dicomweb_port), timeout=20) as connection,
    ):
        connection.sendall(head(100_000))
        connection.settimeout(0.05)
        began, answer = time.monotonic(), b""
        while not answer and time.monotonic() - began < 10:
            connection.sendall(b"\n")
            try:
                answer = connection.recv(100)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_part_that_takes_too_long_is_cut_however_fast_its_bytes_come(tmp_path: Path) -> None:
    with (
        web_receiver(tmp_path / "quick", limits={"instance_seconds": 0.3}) as node,
        socket.create_connection(("127.0.0.1", node.listener.dicomweb_port), timeout=20) as connection,
    ):
        connection.sendall(head(10**9) + body_of([bytes(128) + b"DICM"], is_closed=False)[:-2])
        connection.settimeout(0.05)
        began, answer = time.monotonic(), b""
        while not answer and time.monotonic() - began < 10:
            connection.sendall(bytes(1000))
            try:
                answer = connection.recv(100)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_caller_that_leaves_is_counted_out(web: Receiver) -> None:
    for _ in range(70):  # more than one address may have open
        with socket.create_connection(("127.0.0.1", web.listener.dicomweb_port), timeout=20) as connection:
            connection.sendall(b"POST")
        assert wait_until(lambda: len(web.listener._store_server._gate._open) < 60)  # type: ignore[union-attr]
