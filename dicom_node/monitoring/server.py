"""The HTTP endpoint: ``/metrics`` for Prometheus, ``/health`` and ``/ready`` for probes, ``/series`` for Orthanc."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast, get_args

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import NodeError, SettingsError
from dicom_node.ledger.cases import CaseState
from dicom_node.logs import get_logger
from dicom_node.monitoring.connection import impatient_engine
from dicom_node.monitoring.machine import machine_measurements
from dicom_node.monitoring.measurements import LedgerMeasurements
from dicom_node.monitoring.readiness import Readiness, Verdict
from dicom_node.monitoring.series import SeriesDesk
from dicom_node.settings import Settings

log = get_logger("monitoring")
KEPT_SECONDS = 5.0
"""A measurement is given again to whoever asks within this time, so that many scrapers cost no more than one."""
_COLLECT_SECONDS = 8.0
_IDLE_SECONDS = 10.0


class NodeCollector(Collector):
    """Measures when it is asked.

    Args:
        settings: Of the node that is measured.
        clock: Seconds since the epoch.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Every metric; those of the ledger are missing, and ``dicom_node_ledger_up`` is 0, when it cannot be read."""
        yield from machine_measurements(self._settings)
        try:
            ledger = LedgerMeasurements(impatient_engine(self._settings), get_args(CaseState))
            measured = list(ledger.collect(self._clock()))
        except (SQLAlchemyError, NodeError) as error:
            log.warning("ledger not measured", error=type(error).__name__)
            measured = []
        yield GaugeMetricFamily("dicom_node_ledger_up", "Whether the ledger can be read.", value=bool(measured))
        yield from measured


class Monitor:
    """Serves the endpoint from threads of its own.

    Args:
        settings: ``[monitoring]``, and the node that is watched.
        port: Port to bind instead of ``[monitoring] port``; 0 for any free one.
        clock: Seconds since the epoch.
    """

    def __init__(self, settings: Settings, *, port: int | None = None, clock: Callable[[], float] = time.time) -> None:
        wanted = settings.monitoring.port if port is None else port
        if wanted is None:
            raise SettingsError("[monitoring] port is not set: set it to have metrics, health and readiness served")
        self._address = (settings.monitoring.bind, wanted)
        self._readiness = Readiness(settings, clock)
        self._series = SeriesDesk(settings, clock)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(NodeCollector(settings, clock))
        self._measuring = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        self._turn = threading.Lock()
        self._page: tuple[float, bytes] | None = None
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The bound port; 0 before :meth:`start`."""
        return self._server.server_address[1] if self._server else 0

    def start(self) -> None:
        """Bind and serve.

        Raises:
            SettingsError: The address and port cannot be bound.
        """
        try:
            self._server = _server_at(self._address, partial(_Handler, self))
        except OSError as error:
            where = f"{self._address[0]} port {self._address[1]}"
            raise SettingsError(f"cannot serve metrics on {where}: {error.strerror}; change [monitoring]") from error
        threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True).start()
        log.info("monitoring", address=self._address[0], port=self.port)

    def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._readiness.close()
        self._measuring.shutdown(wait=False, cancel_futures=True)

    def answer(self, method: str, path: str, authorization: str = "") -> tuple[int, str, bytes]:
        """Status, content type and body for a request."""
        if path == "/series" or path.startswith("/series/"):
            status, document = self._series.answer(method, path, authorization)
            return status, "application/json", json.dumps(document).encode() + b"\n"
        if method != "GET":
            return 405, "text/plain", b"only GET is answered\n"
        if path == "/metrics":
            page = self._metrics()
            return (200, CONTENT_TYPE_LATEST, page) if page else (503, "text/plain", b"measuring takes too long\n")
        if path == "/health":
            return _said(self._readiness.health(), "healthy")
        if path == "/ready":
            return _said(self._readiness.readiness(), "ready")
        return 404, "text/plain", b"ask for /metrics, /health, /ready or /series\n"

    def _metrics(self) -> bytes | None:
        with self._turn:
            if self._page is not None and time.monotonic() - self._page[0] < KEPT_SECONDS:
                return self._page[1]
            asked = self._measuring.submit(generate_latest, self._registry)
            try:
                page: bytes = asked.result(timeout=_COLLECT_SECONDS)
            except TooSlow:
                asked.cancel()
                return None
            self._page = (time.monotonic(), page)
            return page


class _Handler(BaseHTTPRequestHandler):
    timeout = _IDLE_SECONDS
    server_version = "dicom-node"
    sys_version = ""

    def __init__(self, monitor: Monitor, *arguments: Any) -> None:
        self._monitor = monitor
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._respond("GET")

    def do_POST(self) -> None:
        self._respond("POST")

    def _respond(self, method: str) -> None:
        authorization = self.headers.get("Authorization", "")
        status, content_type, body = self._monitor.answer(method, self.path.partition("?")[0], authorization)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a probe every few seconds is no event."""


def _server_at(address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    kind = type("Server", (ThreadingHTTPServer,), {"address_family": family})
    return cast(ThreadingHTTPServer, kind(address, handler))


def _said(verdict: Verdict, word: str) -> tuple[int, str, bytes]:
    document = {word: verdict.is_good, "reasons": list(verdict.reasons), "warnings": list(verdict.warnings)}
    return 200 if verdict.is_good else 503, "application/json", json.dumps(document).encode() + b"\n"
