"""What is used of the module ``orthanc``, which exists inside Orthanc alone (Python plugin 4.0 and later)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class OrthancModule(Protocol):
    """The functions of the module, by Orthanc's names."""

    ChangeType: Any
    OrthancException: type[Exception]
    """Its first argument is Orthanc's error code."""

    def GetConfiguration(self) -> str:
        """Orthanc's configuration, as JSON."""

    def RestApiGet(self, uri: str, /) -> bytes:
        """GET of the built-in REST API."""

    def RestApiPost(self, uri: str, body: str, /) -> bytes:
        """POST to the built-in REST API."""

    def RestApiPut(self, uri: str, body: str, /) -> bytes:
        """PUT to the built-in REST API."""

    def GetGlobalProperty(self, number: int, default: str, /) -> str:
        """A value kept in Orthanc's database."""

    def SetGlobalProperty(self, number: int, value: str, /) -> None:
        """Keep a value in Orthanc's database."""

    def RegisterOnChangeCallback(self, callback: Callable[[int, int, str], None], /) -> None:
        """Have a function called, in a thread of its own, for everything that happens; once per script."""

    def RegisterRestCallback(self, pattern: str, callback: Callable[..., None], /) -> None:
        """Have a function answer for paths that match a regular expression."""

    def ExtendOrthancExplorer(self, script: str, /) -> None:
        """Add JavaScript to Orthanc Explorer."""

    def LogInfo(self, message: str, /) -> None:
        """Written only where Orthanc runs with ``--verbose``."""

    def LogWarning(self, message: str, /) -> None:
        """Written by default."""

    def LogError(self, message: str, /) -> None:
        """Written always."""


class RestOutput(Protocol):
    """What a route answers to."""

    def AnswerBuffer(self, content: str, media_type: str, /) -> None:
        """Answer with status 200."""

    def SendHttpStatusCode(self, status: int, /) -> None:
        """Answer with another status, and nothing else (what takes a body differs between releases)."""

    def SendMethodNotAllowed(self, allowed: str, /) -> None:
        """Answer with status 405."""
