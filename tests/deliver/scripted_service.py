"""A DICOMweb service that answers as a test says: codes, reasons, broken connections, silence, forgotten instances."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pydicom

from dicom_node.settings import DicomwebDestinationTable
from tests.certificates import Credentials

BREAK, HANG = -1, -2


@dataclass
class ScriptedService:
    """What the service does, and what it saw.

    Attributes:
        answers: Code and body for the requests to store, in turn; the last one repeats. Without a body, a success
            names the instance as stored. ``BREAK`` closes the connection, ``HANG`` answers nothing, each before
            anything is kept.
        answer_headers: Further headers of every answer.
        query_body: What queries are answered with in place of a list.
        query_code: What queries are answered with.
        lists: Whether queries list what was stored.
        files: The parts that came, byte for byte.
        kept: SOP Instance UIDs of what was stored.
        headers: Of each request to store.
        queries: Paths of the queries.
    """

    destination: DicomwebDestinationTable
    answers: list[tuple[int, bytes]] = field(default_factory=lambda: [(200, b"")])
    query_code: int = 200
    query_body: bytes | None = None
    answer_headers: dict[str, str] = field(default_factory=dict)
    lists: bool = True
    files: list[bytes] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    headers: list[dict[str, str]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def store(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Take a request; the code and the body to answer."""
        boundary = re.search(r"boundary=(\w+)", headers["content-type"])
        assert boundary is not None
        head, tail = f"--{boundary[1]}\r\nContent-Type: application/dicom\r\n\r\n", f"\r\n--{boundary[1]}--\r\n"
        assert body.startswith(head.encode())
        assert body.endswith(tail.encode())
        part = body[len(head) : -len(tail)]
        self.files.append(part)
        self.headers.append(headers)
        code, content = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if code in {200, 202}:
            uid = str(pydicom.dcmread(BytesIO(part), stop_before_pixels=True).SOPInstanceUID)
            self.kept.add(uid)
            stored = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}}]}}
            content = content or json.dumps(stored).encode()
        return code, content

    def query(self, path: str) -> tuple[int, bytes]:
        """Answer a query."""
        self.queries.append(path)
        if self.query_body is not None:
            return self.query_code, self.query_body
        found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in sorted(self.kept) if self.lists]
        return self.query_code, json.dumps(found).encode() if self.query_code == 200 else b""


def _handler(service: ScriptedService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(*service.store({key.lower(): value for key, value in self.headers.items()}, body))

        def do_GET(self) -> None:
            self._answer(*service.query(self.path))

        def _answer(self, code: int, content: bytes) -> None:
            if code == HANG:
                service.released.wait(30)
            if code in {BREAK, HANG}:
                self.close_connection = True
                return
            self.send_response(code)
            for name, value in service.answer_headers.items():
                self.send_header(name, value)
            if 300 <= code < 400:
                self.send_header("Location", content.decode())
                content = b""
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """The tests look at what was asked themselves."""

    return Handler


@contextmanager
def scripted_service(tls: Credentials | None = None, **table: object) -> Iterator[ScriptedService]:
    """A running scripted service, as a destination.

    Args:
        tls: It speaks TLS with them, and asks for a certificate of its callers where the table shows one.
        table: Further keys of its ``[[destination]]``.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        if "credentials" in table:
            context.load_verify_locations(tls.authorities)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/dicom-web/"
    keys = {"name": "pacs", "url": url, "timeout_seconds": 5.0, "retry_seconds": [1], **table}
    service = ScriptedService(DicomwebDestinationTable.model_validate(keys))
    server.RequestHandlerClass = _handler(service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
