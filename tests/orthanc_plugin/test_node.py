"""The bridge asks a node of which anything may answer in its place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dicom_node.errors import NodeUnreachable
from dicom_node.orthanc_bridge.node import NodeQuestions
from dicom_node.orthanc_bridge.settings import BridgeSettings


@contextmanager
def answering(code: int, body: bytes = b"", location: str = "") -> Iterator[tuple[str, list[str | None]]]:
    """A server with one answer; its address, and the tokens it was shown."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization"))
            self.send_response(code)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """The tests look at what was shown themselves."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", shown
    finally:
        server.shutdown()
        server.server_close()


def asking(url: str) -> NodeQuestions:
    return NodeQuestions(BridgeSettings(node_url=url, token="0123456789abcdef"))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirection_does_not_carry_the_token_away(code: int) -> None:
    with answering(200, b"{}") as (elsewhere, shown), answering(code, location=f"{elsewhere}/series") as (url, _):
        with pytest.raises(NodeUnreachable, match=str(code)) as caught:
            asking(url).unfinished()
        assert shown == []
    assert "0123456789abcdef" not in caught.value.message


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"[" * 100_000, b"\xff"])
def test_what_is_no_answer_of_a_node_is_none(body: bytes) -> None:
    with answering(200, body) as (url, _), pytest.raises(NodeUnreachable):
        asking(url).unfinished()
