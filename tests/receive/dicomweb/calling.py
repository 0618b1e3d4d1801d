"""Storing over HTTP as a caller does, and a listener that takes it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.installed import orthanc_dicomweb
from tests.peers import Receiver, receiver

TOKEN = "0123456789abcdef-of-the-tests"
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}
BOUNDARY = "a-boundary"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
PATH = "/dicom-web/studies"
REFERENCED, FAILED, OTHERS = "00081199", "00081198", "0008119A"


def token_file(folder: Path) -> Path:
    """A file with the token of the tests, as the node wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def web_peer(folder: Path, **changes: object) -> dict[str, object]:
    """A ``[[peer]]`` that may store over DICOMweb with the token of the tests."""
    return {"ae_title": "WEB", "address": "127.0.0.1", "token_file": str(token_file(folder)), **changes}


@contextmanager
def web_receiver(folder: Path, **tables: Any) -> Iterator[Receiver]:
    """A listener with DICOMweb on a free port; ``tables`` are those of node.toml."""
    web = {"port": 8042, **tables.pop("dicomweb", {})}
    with receiver(folder / "home", **{"dicomweb": web, "peer": [web_peer(folder)], **tables}) as node:
        yield node


def body_of(contents: Iterable[bytes], kind: str = "application/dicom", *, is_closed: bool = True) -> bytes:
    """Parts, as a multipart body."""
    parts = [f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + content + b"\r\n" for content in contents]
    return b"".join(parts) + (f"--{BOUNDARY}--\r\n".encode() if is_closed else b"")


def request(
    port: int, body: bytes | Iterable[bytes] | None, *, path: str = PATH, method: str = "POST", **headers: str
) -> SimpleNamespace:
    """Send a request with the token of the tests; ``headers`` have ``_`` for ``-``, an empty one is left out."""
    given = {"Content_Type": MULTIPART, **AUTHORISED, **headers}
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in given.items() if value}
        connection.request(method, path, body, named)
        return answer_of(connection)
    finally:
        connection.close()


def answer_of(connection: HTTPConnection) -> SimpleNamespace:
    """Status, headers and document of the answer."""
    answer = connection.getresponse()
    content = answer.read()
    is_json = answer.headers.get_content_type() == "application/dicom+json"
    return SimpleNamespace(
        status=answer.status,
        headers=answer.headers,
        text=content.decode(),
        document=json.loads(content) if is_json else {},
    )


def instances(document: dict[str, Any], sequence: str) -> list[str]:
    """SOP Instance UIDs of a sequence of the answer."""
    return [item["00081155"]["Value"][0] for item in document.get(sequence, {}).get("Value", [])]


def reasons(document: dict[str, Any], sequence: str) -> list[int]:
    """Failure reasons of a sequence of the answer."""
    return [item["00081197"]["Value"][0] for item in document.get(sequence, {}).get("Value", [])]


def send_raw(port: int, content: bytes, *, ends: bool = True) -> bytes:
    """Send bytes as they are; what comes back until the node closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(content)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def head(length: int | None, *further: str) -> bytes:
    """The head of a store request."""
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: node",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Type: {MULTIPART}",
        *([f"Content-Length: {length}"] if length is not None else ["Transfer-Encoding: chunked"]),
        *further,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def orthanc_client(url: str, *, is_chunked: bool = True) -> dict[str, object]:
    """Configuration of an Orthanc that stores to the server "node" with the token of the tests."""
    server = {"Url": url, "HttpHeaders": AUTHORISED, "ChunkedTransfers": is_chunked}
    return {"Plugins": [str(orthanc_dicomweb())], "DicomWeb": {"Enable": True, "Servers": {"node": server}}}
