"""The messages of STOW-RS: the multipart body of a request, and what a response says of the instance. Pure.

PS3.18 10.5 (Store Transaction), table 10.5.3-1 (status codes), annex I (Store Instances Response Module).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from dicom_node.deliver.sender import SendOutcome, outcome_of_status

_WARNING_REASON: Final = "00081196"
_FAILURE_REASON: Final = "00081197"
_FAILED: Final = "00081198"
_REFERENCED: Final = "00081199"
_INSTANCE: Final = "00081155"
_PROCESSING_FAILURE: Final = 0x0110
_LONGEST_ADDRESS: Final = 200

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

    A success counts where the response names the instance as stored (PS3.18 10.5.3.3): a page to log in comes with 200,
    too. What a response lists as failed is not stored, whatever reason it gives.

    Args:
        sop_instance: SOP Instance UID of what was sent.
        code: HTTP status.
        content: Body; read as DICOM JSON where it is that, passed over otherwise.
        location: Where a redirection points.
    """
    failed = _items(content, _FAILED, sop_instance)
    referenced = [item for item in _items(content, _REFERENCED, sop_instance) if values_of(item, _INSTANCE)]
    if failed and code not in _LATER and code < 500:
        outcome = outcome_of_status(sop_instance, _number(failed[0], _FAILURE_REASON) or _PROCESSING_FAILURE, "STOW-RS")
        return outcome if not outcome.ok else outcome_of_status(sop_instance, _PROCESSING_FAILURE, "STOW-RS")
    if 200 <= code < 300 and not referenced:
        words = f"the service answered {code}, but not that it has stored this; does url lead to a DICOMweb service?"
        return SendOutcome(sop_instance, code, ok=False, retryable=True, is_unsure=True, message=words)
    if 200 <= code < 300:
        warning = _number(referenced[0], _WARNING_REASON)
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
        return f"not stored: the service has moved to {_address(location)}; set url to where it is now"
    if code in {401, 403}:
        return f"not stored: the service answered {code}; does it know our token, password or certificate?"
    return f"not stored: the service answered {code}"


def _address(location: str) -> str:
    """A redirection's target without its query, which may carry secrets, and no longer than a person reads."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "another address"
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path
    return where[:_LONGEST_ADDRESS] or "another address"


def read_json(content: bytes) -> Any:
    """The JSON that a service answered with; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # XML, a page for people, nothing; or nested beyond all measure
        return None


def values_of(item: Any, tag: str) -> list[Any]:
    """The values of an element of DICOM JSON (PS3.18 F.2); none where it has another form."""
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _items(content: bytes, sequence: str, sop_instance: str) -> list[dict[str, Any]]:
    """Items of a sequence of the response that are about the instance: name it, or name none."""
    document = read_json(content)
    first = document[0] if isinstance(document, list) and document else document
    items = values_of(first, sequence)
    return [item for item in items if isinstance(item, dict) and values_of(item, _INSTANCE)[:1] in ([], [sop_instance])]


def _number(item: dict[str, Any], tag: str) -> int | None:
    """A status: an unsigned number of 16 bits, which JSON's true is not."""
    (value,) = values_of(item, tag)[:1] or [None]
    return value if type(value) is int and 0 < value <= 0xFFFF else None
