"""``/dicom-node/...`` in Orthanc's REST API: how series stand, and a way to have one run again."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from dicom_node.errors import NodeError
from dicom_node.orthanc_bridge.archive import OrthancArchive
from dicom_node.orthanc_bridge.handover import Handover
from dicom_node.orthanc_bridge.node import NodeQuestions
from dicom_node.orthanc_bridge.orthanc_module import RestOutput
from dicom_node.orthanc_bridge.reconciliation import Reconciliation
from dicom_node.orthanc_bridge.standing import NOT_FOR_THE_NODE, Standing

_ID = "([0-9a-f]{8}(?:-[0-9a-f]{8}){4})"
PATTERNS: Final = ("/dicom-node", f"/dicom-node/series/{_ID}", f"/dicom-node/series/{_ID}/rerun")
_NOT_FOUND, _CONFLICT, _UNAVAILABLE = 404, 409, 503
EXPLORER: Final = Path(__file__).with_name("explorer.js")


class Asked(Protocol):
    """What the routes ask: the bridge."""

    archive: OrthancArchive
    node: NodeQuestions
    handover: Handover | None
    reconciliation: Reconciliation | None

    def ask(self, orthanc_id: str) -> None:
        """Have a series run again."""


class Routes:
    """Answers requests; Orthanc calls from any of its threads.

    Args:
        bridge: Knows the answers.
    """

    def __init__(self, bridge: Asked) -> None:
        self._bridge = bridge

    def overview(self, output: RestOutput, _uri: str, **request: Any) -> None:
        """``GET /dicom-node``: what waits, and what keeps it waiting."""
        if request["method"] != "GET":
            output.SendMethodNotAllowed("GET")
        elif self._bridge.handover is None or self._bridge.reconciliation is None:
            output.SendHttpStatusCode(_UNAVAILABLE)
        else:
            looked_at = self._bridge.reconciliation.looked_at
            _answer(output, {**self._bridge.handover.summary(), "reconciled_at": _when(looked_at)})

    def series(self, output: RestOutput, _uri: str, **request: Any) -> None:
        """``GET /dicom-node/series/ID``: how a series stands, here and at the node."""
        if request["method"] != "GET":
            output.SendMethodNotAllowed("GET")
            return
        orthanc_id = request["groups"][0]
        standing = self._standing(output, orthanc_id)
        if standing is not None:
            at_node, silence = self._at_node(orthanc_id) if standing.state == "handed over" else (None, "")
            document = {**asdict(standing), "at": _when(standing.at), "node": at_node}
            _answer(output, {**document, "text": _text(standing, at_node, silence)})

    def rerun(self, output: RestOutput, _uri: str, **request: Any) -> None:
        """``POST /dicom-node/series/ID/rerun``: hand a series over again, and have its case run again."""
        if request["method"] != "POST":
            output.SendMethodNotAllowed("POST")
            return
        orthanc_id = request["groups"][0]
        standing = self._standing(output, orthanc_id)
        if standing is None:
            return
        if standing.state == NOT_FOR_THE_NODE:  # GET says why
            output.SendHttpStatusCode(_CONFLICT)
            return
        self._bridge.ask(orthanc_id)
        _answer(output, {"state": "waiting", "text": "it will be handed over again"})

    def _standing(self, output: RestOutput, orthanc_id: str) -> Standing | None:
        if self._bridge.handover is None:
            output.SendHttpStatusCode(_UNAVAILABLE)
            return None
        try:
            standing = self._bridge.handover.standing(orthanc_id)
        except NodeError as error:
            return Standing("delayed", error.message)
        if standing is None:
            output.SendHttpStatusCode(_NOT_FOUND)
        return standing

    def _at_node(self, orthanc_id: str) -> tuple[dict[str, Any] | None, str]:
        """What the node says of a series, or why it says nothing."""
        series = self._bridge.archive.series(orthanc_id)
        if series is None:
            return None, ""
        try:
            return self._bridge.node.series(series.series_instance_uid), ""
        except NodeError as error:
            return None, error.message


def _answer(output: RestOutput, document: dict[str, Any]) -> None:
    output.AnswerBuffer(json.dumps(document, indent=2) + "\n", "application/json")


def _when(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None


def _text(standing: Standing, at_node: dict[str, Any] | None, silence: str) -> str:
    """One line for a person."""
    if at_node is None:
        words = (standing.state, standing.reason or silence)
    else:
        words = (at_node.get("state") or "received", at_node.get("reason") or "")
    return ": ".join(word for word in words if word)
