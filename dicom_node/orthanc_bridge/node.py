"""The node as the bridge sees it: whether it listens, and what it tells over HTTP of the cases of a series."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from dicom_node.errors import NodeUnreachable
from dicom_node.orthanc_bridge.settings import BridgeSettings

PATIENCE_SECONDS = 5.0
_ANSWER_BYTES = 1024**2


def connects(address: tuple[str, int]) -> bool:
    """Whether somebody listens at an address."""
    try:
        with socket.create_connection(address, timeout=PATIENCE_SECONDS):
            return True
    except OSError:
        return False


class _NoRedirections(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for the answer that it is: following it would carry the token to somebody else."""

    def redirect_request(self, *_: Any) -> None:
        """Nothing is asked in its place."""


class NodeQuestions:
    """Asks the node's ``[monitoring]``; each answer is None where the settings give no address for it.

    Args:
        settings: Its address and its token.
        is_listening: Whether an address answers.
    """

    def __init__(self, settings: BridgeSettings, is_listening: Callable[[tuple[str, int]], bool] = connects) -> None:
        self._settings = settings
        self.is_listening = is_listening
        # the node is a neighbour: a proxy of the environment is none of its business
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirections)

    def unfinished(self) -> int | None:
        """How many series it has taken and not finished.

        Raises:
            NodeUnreachable: It does not answer. So it is below.
        """
        document = self._ask("/series")
        return None if document is None else int(document["unfinished"])

    def series(self, series_instance_uid: str) -> dict[str, Any] | None:
        """What became of a series there: ``images``, ``state`` and ``reason`` of its last case."""
        return self._ask(f"/series/{series_instance_uid}")

    def expect(self, series_instance_uid: str, images: int) -> None:
        """Tell it how many images are about to come, so that it segments no fewer should the connection break off."""
        self._ask(f"/series/{series_instance_uid}/expect/{images}", method="POST")

    def rerun(self, series_instance_uid: str) -> dict[str, Any] | None:
        """Have the last case of a series run again: ``rerun`` and, where it does not, ``reason``."""
        return self._ask(f"/series/{series_instance_uid}/rerun", method="POST")

    def _ask(self, path: str, method: str = "GET") -> dict[str, Any] | None:
        if not self._settings.node_url:
            return None
        url = self._settings.node_url + path
        headers = {"Authorization": f"Bearer {self._settings.token}"}
        request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - the settings allow http(s)
        try:
            with self._opener.open(request, timeout=PATIENCE_SECONDS) as answer:
                document = json.loads(answer.read(_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            raise NodeUnreachable(f"{url} answers {error.code} {error.reason}: {_first_line(error)}") from error
        except (OSError, ValueError, http.client.HTTPException, RecursionError) as error:
            raise NodeUnreachable(f"{url} does not answer: {error}") from error
        if not isinstance(document, dict):
            raise NodeUnreachable(f"{url} is not a node's address")
        return document


def _first_line(error: urllib.error.HTTPError) -> str:
    return error.read(500).decode(errors="replace").partition("\n")[0]
