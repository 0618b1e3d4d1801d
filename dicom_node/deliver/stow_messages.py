"""The messages of STOW-RS: the multipart body of a request, and what a response says of the instance. Pure.

PS3.18 10.5 (Store Transaction), table 10.5.3-1 (status codes), annex I (Store Instances Response Module).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.deliver.sender import SendOutcome, outcome_of_status

_WARNING_REASON: Final = "00081196"
_FAILURE_REASON: Final = "00081197"
_FAILED: Final = "00081198"
_REFERENCED: Final = "00081199"
_INSTANCE: Final = "00081155"
_PROCESSING_FAILURE: Final = 0x0110

_LATER: Final = frozenset({401, 403, 408, 425, 429})
"""Besides 5xx: a token is renewed, a right is given, a queue empties."""
_NEVER_OF_5XX: Final = frozenset({501, 505})


@dataclass(frozen=True)
class Envelope:
    """What surrounds one PS3.10 file in a request (PS3.18 8.6.1.2).

    Attributes:
        content_type: Of the whole request.
        head: Bytes before the file.
        tail: Bytes after it.
    """

    content_type: str
    head: bytes
    tail: bytes


def envelope(boundary: str) -> Envelope:
    """The envelope of a request with one part; the boundary must not occur in the file, so it is long and random."""
    return Envelope(
        f'multipart/related; type="application/dicom"; boundary={boundary}',
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
        f"\r\n--{boundary}--\r\n".encode(),
    )


def outcome_of_response(sop_instance: str, code: int, content: bytes, location: str = "") -> SendOutcome:
    """What a response says of the only instance of its request.

    Args:
        sop_instance: SOP Instance UID of what was sent.
        code: HTTP status.
        content: Body; read as DICOM JSON where it is that, passed over otherwise.
        location: Where a redirection points.
    """
    failed, referenced = _items(content, _FAILED, sop_instance), _items(content, _REFERENCED, sop_instance)
    if failed and code not in _LATER and code < 500:
        return outcome_of_status(sop_instance, _number(failed[0], _FAILURE_REASON) or _PROCESSING_FAILURE, "STOW-RS")
    if code in {200, 202}:
        warning = _number(referenced[0], _WARNING_REASON) if referenced else None
        if warning:
            message = f"stored with a warning, STOW-RS reason {warning:04X}"
            return SendOutcome(sop_instance, warning, ok=True, warning=True, message=message)
        return SendOutcome(sop_instance, 0, ok=True)
    retryable = is_worth_another_try(code)
    return SendOutcome(sop_instance, code, ok=False, retryable=retryable, message=_words(code, location))


def is_worth_another_try(code: int) -> bool:
    """Whether a request that was answered with this HTTP status may end better another time."""
    return code in _LATER or (code >= 500 and code not in _NEVER_OF_5XX)


def _words(code: int, location: str) -> str:
    if 300 <= code < 400:
        return f"not stored: the service has moved to {location or 'another address'}; set url to where it is now"
    if code in {401, 403}:
        return f"not stored: the service answered {code}; does it know our token, password or certificate?"
    return f"not stored: the service answered {code}"


def _items(content: bytes, sequence: str, sop_instance: str) -> list[dict[str, Any]]:
    """Items of a sequence of the response that are about the instance: name it, or name none."""
    try:
        document = json.loads(content)
    except ValueError:  # XML, a page for people, nothing
        return []
    first = document[0] if isinstance(document, list) and document else document
    if not isinstance(first, dict):
        return []
    items = _values(first, sequence)
    return [item for item in items if isinstance(item, dict) and _values(item, _INSTANCE)[:1] in ([], [sop_instance])]


def _values(item: dict[str, Any], tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _number(item: dict[str, Any], tag: str) -> int | None:
    values = _values(item, tag)
    return values[0] if values and isinstance(values[0], int) else None
