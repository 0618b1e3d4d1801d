"""The head of a store request (PS3.18 10.5.1): what is asked for, or why it is not understood. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from python_multipart.multipart import parse_options_header

from dicom_node.uids import is_uid

RETRY_SECONDS: Final = 30
_MOST_BOUNDARY: Final = 200
"""RFC 2046 5.1.1 allows 70 characters; Orthanc's boundaries have 110."""
_ANSWERED_IN: Final = ("application/dicom+json", "application/json", "application/*", "*/*")


class RequestRefused(Exception):
    """A request that is answered by an HTTP status of its own.

    Args:
        status: 4xx or 5xx.
        message: Why, for the caller.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


def busy(message: str) -> RequestRefused:
    """The refusal of what may be sent again later."""
    return RequestRefused(503, message, {"Retry-After": str(RETRY_SECONDS)})


@dataclass(frozen=True)
class StoreRequest:
    """A store request that is understood.

    Attributes:
        study_instance_uid: The study of the target resource; empty for any.
        boundary: What separates the parts.
    """

    study_instance_uid: str
    boundary: bytes


def read_store_request(method: str, target: str, headers: Mapping[str, str], prefix: str) -> StoreRequest:
    """Understand the head of a request.

    Args:
        method: HTTP method.
        target: Path, with the query if there is one.
        headers: Header fields by lower-case name.
        prefix: Path of the service.

    Raises:
        RequestRefused: 400, 404, 405, 406, 411 or 415, with the reason.
    """
    study = _study_of(target.partition("?")[0], prefix)
    if method != "POST":
        raise RequestRefused(405, "instances are stored by POST; nothing else is offered", {"Allow": "POST"})
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(415, "Content-Encoding is not supported: send the body as it is")
    boundary = _boundary(headers.get("content-type", ""))
    accepted = headers.get("accept", "*/*").lower()
    if not any(media in accepted for media in _ANSWERED_IN):
        raise RequestRefused(406, "the answer is application/dicom+json; accept it")
    if "content-length" in headers and "transfer-encoding" in headers:  # smuggling, say (RFC 9112 6.1)
        raise RequestRefused(400, "Content-Length and Transfer-Encoding exclude each other")
    if "content-length" not in headers and "transfer-encoding" not in headers:
        raise RequestRefused(411, "Content-Length or Transfer-Encoding: chunked is required")
    return StoreRequest(study, boundary)


def _study_of(path: str, prefix: str) -> str:
    rest = path.removeprefix(prefix).split("/") if path.startswith(prefix + "/") else []
    if rest[:2] != ["", "studies"] or len(rest) > 3 or (len(rest) == 3 and not rest[2]):
        raise RequestRefused(404, f"instances are stored at {prefix}/studies or {prefix}/studies/STUDY")
    if len(rest) == 3 and not is_uid(rest[2]):
        raise RequestRefused(400, "the study in the path is not a UID (PS3.5 9.1)")
    return rest[2] if len(rest) == 3 else ""


def _boundary(content_type: str) -> bytes:
    media, options = parse_options_header(content_type)
    if media.lower() != b"multipart/related":
        raise RequestRefused(415, 'Content-Type has to be multipart/related; type="application/dicom"')
    kind = options.get(b"type", b"application/dicom").lower()
    if kind != b"application/dicom":
        raise RequestRefused(415, 'only type="application/dicom" is stored: instances as PS3.10 files')
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MOST_BOUNDARY:
        raise RequestRefused(400, f"Content-Type has no boundary of 1 to {_MOST_BOUNDARY} characters")
    return boundary
