"""Results to a DICOMweb service by STOW-RS, and what it holds by QIDO-RS (PS3.18 10.5, 10.6).

Files leave as they lie on disk, each in a request of its own and in pieces, so that each has an answer of its own and a
large one takes no memory. Redirections are not followed: they would carry names and passwords to somebody else.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx

from dicom_node.deliver.confirmation import Reference
from dicom_node.deliver.echo import RESULT_CLASSES, EchoReport
from dicom_node.deliver.sender import ResultFile, SendOutcome, read_result, unanswered
from dicom_node.deliver.stow_messages import (
    Envelope,
    envelope,
    is_worth_another_try,
    outcome_of_response,
    read_json,
    values_of,
)
from dicom_node.errors import DeliveryFailed, DeliveryRefused, SettingsError
from dicom_node.secret_file import read_secret
from dicom_node.settings import DicomwebDestinationTable
from dicom_node.tls import service_context

_JSON: Final = "application/dicom+json"
_CONNECT_SECONDS: Final = 10.0
_CHUNK: Final = 256 * 1024
_ANSWER_BYTES: Final = 16 * 1024**2
_ANSWER_SECONDS: Final = 120.0
"""However an answer's bytes are spread: the time limit of the destination is that of each pause between them."""
_NO_STUDY: Final = "2.25.1"
"""A UID that no study has: asking for it says whether the service answers, and tells nothing of any patient."""
_INSTANCE: Final = "00080018"
_NO_QUERIES: Final = frozenset({405, 501})


def send(
    destination: DicomwebDestinationTable, files: Sequence[Path], *, before_each: Callable[[], None] | None = None
) -> tuple[SendOutcome, ...]:
    """Store files, one request each.

    When the connection breaks, what was answered until then counts, and the rest is reported as retryable.

    Args:
        destination: The service.
        files: PS3.10 files.
        before_each: Called before each request; what it raises ends the sending.

    Returns:
        One outcome a file, in the order of ``files``.

    Raises:
        DeliveryFailed: The service cannot be reached, or a secret cannot be read; nothing was sent.
        DeliveryRefused: A file is no DICOM file; nothing was sent.
        OSError: A file cannot be read.
    """
    if not files:
        return ()
    results = [read_result(path) for path in files]
    outcomes: list[SendOutcome] = []
    with _client(destination) as client:
        for result in results:
            if outcomes and outcomes[-1].status is None:
                outcomes.append(unanswered(result.sop_instance, "the connection was lost before it could be sent"))
                continue
            if before_each is not None:
                before_each()
            try:
                outcomes.append(_store(client, destination, result))
            except httpx.RequestError as error:
                if not outcomes and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise DeliveryFailed(_unreachable(destination, error)) from error
                outcomes.append(unanswered(result.sop_instance, f"no answer to STOW-RS: {_in_words(error)}"))
    return tuple(outcomes)


def confirm(destination: DicomwebDestinationTable, references: Sequence[Reference]) -> dict[str, bool] | None:
    """Ask which instances the service holds (QIDO-RS, PS3.18 10.6).

    Returns:
        Whether it is there, by SOP Instance UID; None when the service offers no queries.

    Raises:
        DeliveryFailed: A query failed or was not answered.
    """
    there: dict[str, bool] = {}
    with _client(destination) as client:
        for reference in references:
            listed = _query(client, destination, _instances(reference), _keys(reference))
            if listed is None:
                return None
            there[reference.sop_instance_uid] = reference.sop_instance_uid in listed
    return there


def query_uri(destination: DicomwebDestinationTable, reference: Reference) -> str:
    """What :func:`confirm` requests to ask for an instance."""
    return f"{destination.url}{_instances(reference)}?{urlencode(_keys(reference))}"


def echo(destination: DicomwebDestinationTable) -> EchoReport:
    """Ask the service for a study that nobody has; nothing is stored. What it takes it says only when it is sent it."""
    takes = dict.fromkeys(RESULT_CLASSES, True)
    try:
        with _client(destination) as client:
            listed = _query(client, destination, "/studies", {"StudyInstanceUID": _NO_STUDY, "limit": "1"})
    except DeliveryFailed as error:
        return EchoReport(reachable=False, reason=error.message)
    return EchoReport(reachable=True, accepted=takes, confirms=listed is not None, negotiates=False)


@contextmanager
def _client(destination: DicomwebDestinationTable) -> Iterator[httpx.Client]:
    seconds = destination.timeout_seconds
    try:
        verify = service_context(destination.authorities, destination.credentials)
        headers, password = _secrets(destination)
    except SettingsError as error:
        # Another attempt may end better: a certificate that has expired will be renewed.
        raise DeliveryFailed(f'destination "{destination.name}": {error.message}') from error
    with httpx.Client(
        verify=verify,
        headers={"Accept": _JSON, **headers},
        auth=(destination.user, password) if destination.user else None,
        timeout=httpx.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds)),
        follow_redirects=False,
        trust_env=False,  # neither a proxy nor a password out of somebody's environment
    ) as client:
        yield client


def _secrets(destination: DicomwebDestinationTable) -> tuple[dict[str, str], str]:
    headers = {}
    if destination.token_file is not None:
        headers["Authorization"] = f"Bearer {_secret('token_file', destination.token_file)}"
    password = _secret("password_file", destination.password_file) if destination.password_file else ""
    return headers, password


def _secret(key: str, path: Path) -> str:
    secret = read_secret(key, path)
    if not secret or not secret.isprintable() or (key == "token_file" and not secret.isascii()):
        # said here: the HTTP client would quote what it cannot send, in a message that goes to the log
        raise SettingsError(f"{key} {path} has to hold one line of text that can be sent, and nothing else")
    return secret


def _store(client: httpx.Client, destination: DicomwebDestinationTable, result: ResultFile) -> SendOutcome:
    around = envelope(secrets.token_hex(24))
    length = len(around.head) + result.path.stat().st_size + len(around.tail)
    headers = {"Content-Type": around.content_type, "Content-Length": str(length)}
    request = client.build_request(
        "POST", f"{destination.url}/studies", content=_body(around, result.path), headers=headers
    )
    response = client.send(request, stream=True)
    try:
        content = _bounded(response)
    finally:
        response.close()
    return outcome_of_response(result.sop_instance, response.status_code, content, response.headers.get("Location", ""))


def _body(around: Envelope, path: Path) -> Iterator[bytes]:
    yield around.head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
    yield around.tail


def _bounded(response: httpx.Response) -> bytes:
    """The body, as far as it may be an answer at all."""
    content, deadline = bytearray(), time.monotonic() + _ANSWER_SECONDS
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _ANSWER_BYTES:
            break
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer takes too long", request=response.request)
    return bytes(content[:_ANSWER_BYTES])


def _instances(reference: Reference) -> str:
    return f"/studies/{reference.study_instance_uid}/series/{reference.series_instance_uid}/instances"


def _keys(reference: Reference) -> dict[str, str]:
    return {"SOPInstanceUID": reference.sop_instance_uid}


def _query(
    client: httpx.Client, destination: DicomwebDestinationTable, path: str, keys: dict[str, str]
) -> set[str] | None:
    """SOP Instance UIDs (or nothing but the fact of an answer) that a query lists; None where it is not offered."""
    try:
        with client.stream("GET", f"{destination.url}{path}", params=keys) as response:
            code, content = response.status_code, _bounded(response)
    except httpx.RequestError as error:
        raise DeliveryFailed(_unreachable(destination, error)) from error
    if code in _NO_QUERIES:
        return None
    if code in {204, 404}:  # nothing matches; a service may answer 404 for a study that it does not know
        return set()
    if code != 200:
        words = f'destination "{destination.name}" answered a QIDO-RS query with {code}'
        raise (DeliveryFailed if is_worth_another_try(code) else DeliveryRefused)(words)
    found = read_json(content or b"[]")
    if found is None:
        raise DeliveryFailed(f'destination "{destination.name}" answered a QIDO-RS query with no JSON')
    return {str(uid) for item in (found if isinstance(found, list) else []) for uid in values_of(item, _INSTANCE)}


def _unreachable(destination: DicomwebDestinationTable, error: httpx.RequestError) -> str:
    return f'destination "{destination.name}" cannot be reached at {destination.url}: {_in_words(error)}'


def _in_words(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
