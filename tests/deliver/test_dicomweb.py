"""STOW-RS and QIDO-RS: a service of the tests' own that answers anything, and Orthanc's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.deliver.confirmation import Reference
from dicom_node.deliver.courier import courier_to
from dicom_node.deliver.delivery import DeliveryState, deliver_once
from dicom_node.deliver.dicomweb import confirm, echo, send
from dicom_node.errors import DeliveryFailed, DeliveryRefused
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.settings import DicomwebDestinationTable
from tests.certificates import Authority
from tests.deliver.scripted_service import BREAK, HANG, ScriptedService, scripted_service
from tests.deliver.test_delivery import CASE, plan, reference_of, states
from tests.peers import CALLING_AE, Peer, orthanc_with_dicomweb
from tests.ports import free_port


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    with scripted_service() as service:
        yield service


def attempt(destination: DicomwebDestinationTable, deliveries: Deliveries) -> DeliveryState:
    return deliver_once(destination, deliveries, CASE, 1000.0, calling_ae=CALLING_AE)


def failed(uid: str, reason: Any) -> bytes:
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


def referenced(uid: str, warning: int) -> bytes:
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081196": {"vr": "US", "Value": [warning]}}
    return json.dumps([{"00081199": {"vr": "SQ", "Value": [item]}}]).encode()


def test_files_arrive_as_they_lie_on_disk(service: ScriptedService, objects: list[Path]) -> None:
    outcomes = send(service.destination, objects)
    assert [outcome.ok for outcome in outcomes] == [True] * 3
    assert service.files == [path.read_bytes() for path in objects]
    assert service.headers[0]["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')


@pytest.mark.parametrize(
    ("code", "reason", "ok", "retryable"),
    [
        (200, None, True, False),
        (202, 0xA700, False, True),  # stored some, not this one: out of resources
        (409, 0xA700, False, True),
        (409, 0x0110, False, True),
        (409, 0x0122, False, False),
        (409, 0xA900, False, False),
        (409, 0xC122, False, False),
        (409, None, False, False),
        (400, None, False, False),
        (401, None, False, True),
        (404, None, False, False),
        (413, None, False, False),
        (415, None, False, False),
        (429, None, False, True),
        (500, None, False, True),
        (501, None, False, False),
        (503, 0xA700, False, True),
    ],
)
def test_what_is_answered_decides(
    service: ScriptedService, objects: list[Path], code: int, reason: int | None, ok: bool, retryable: bool
) -> None:
    uid = reference_of(objects[0]).sop_instance_uid
    service.answers = [(code, b"" if reason is None else failed(uid, reason))]
    (outcome,) = send(service.destination, objects[:1])
    assert (outcome.ok, outcome.retryable) == (ok, retryable)
    assert outcome.ok or f"{reason or code:04X}" in outcome.message or str(code) in outcome.message


def test_a_warning_is_told(service: ScriptedService, objects: list[Path]) -> None:
    service.answers = [(202, referenced(reference_of(objects[0]).sop_instance_uid, 0xB000))]
    (outcome,) = send(service.destination, objects[:1])
    assert (outcome.ok, outcome.warning, outcome.status) == (True, True, 0xB000)


SAYING_NOTHING = [
    b"<html>Please log in</html>",
    b"[]",
    b"3",
    b'{"00081198": 1}',
    b'{"00081199": {"Value": ["x", {}]}}',
    b"[" * 100_000,
    referenced("1.2.3", 0),  # of another instance
    failed("1.2.3", 0x0122),
]


@pytest.mark.parametrize("body", SAYING_NOTHING)
@pytest.mark.parametrize("code", [200, 201, 202])
def test_a_success_that_does_not_name_the_instance_is_not_believed(
    service: ScriptedService, objects: list[Path], code: int, body: bytes
) -> None:
    service.answers = [(code, body), (409, body)]
    first, second = send(service.destination, objects[:2])
    assert (first.ok, first.retryable, first.is_unsure) == (False, True, True)
    assert (second.ok, second.retryable, second.is_unsure) == (False, False, False)


@pytest.mark.parametrize("reason", [True, 1, 0xB007, 0, -1, 1.5, 10**30, "A700", None])
def test_what_is_listed_as_failed_is_not_stored_whatever_its_reason(
    service: ScriptedService, objects: list[Path], reason: Any
) -> None:
    service.answers = [(202, failed(reference_of(objects[0]).sop_instance_uid, reason))]
    (outcome,) = send(service.destination, objects[:1])
    assert (outcome.ok, outcome.retryable, outcome.status) == (False, True, 0x0110)


def test_what_an_answer_does_not_name_is_asked_for_at_once(
    service: ScriptedService, deliveries: Deliveries, objects: list[Path]
) -> None:
    plan(deliveries, "pacs", objects)
    service.answers = [(200, b"<NativeDicomModel/>")]
    assert attempt(service.destination, deliveries) == DeliveryState("confirmed")
    assert len(service.files) == 3


@pytest.mark.parametrize(("confirm", "query_code"), [("stow-rs", 200), ("qido-rs", 405)])
def test_a_page_to_log_in_is_never_taken_for_a_delivery(
    deliveries: Deliveries, objects: list[Path], confirm: str, query_code: int
) -> None:
    plan(deliveries, "pacs", objects)
    with scripted_service(confirm=confirm) as service:
        service.answers, service.query_code = [(200, b"<html>Please log in</html>")], query_code
        outcomes = [attempt(service.destination, deliveries).outcome for _ in range(2)]
    assert outcomes == ["retry", "held"]
    assert states(deliveries) == ["failed"] * 3


def test_an_answer_that_cannot_be_unpacked_is_no_answer(service: ScriptedService, objects: list[Path]) -> None:
    service.answer_headers = {"Content-Encoding": "gzip"}
    (outcome,) = send(service.destination, objects[:1])
    assert (outcome.ok, outcome.retryable, outcome.status) == (False, True, None)
    with pytest.raises(DeliveryFailed, match="cannot be reached"):
        confirm(service.destination, [reference_of(objects[0])])


@pytest.mark.parametrize(
    "body", [b"<html>", b"[" * 100_000, b'[{"00080018": null}]', b'[{"00080018": {"Value": null}}]', b'["x"]', b"{}"]
)
def test_a_list_of_any_form_proves_nothing_and_breaks_nothing(
    service: ScriptedService, deliveries: Deliveries, objects: list[Path], body: bytes
) -> None:
    plan(deliveries, "pacs", objects)
    service.query_body = body
    assert attempt(service.destination, deliveries).outcome == "retry"
    assert states(deliveries) == ["stored"] * 3


@pytest.mark.parametrize("end", [BREAK, HANG])
def test_a_connection_that_is_lost_leaves_the_rest_for_later(objects: list[Path], end: int) -> None:
    with scripted_service(timeout_seconds=1.0) as service:
        service.answers = [(200, b""), (end, b"")]
        outcomes = send(service.destination, objects)
    assert [(outcome.ok, outcome.retryable) for outcome in outcomes] == [(True, False), (False, True), (False, True)]
    assert len(service.files) == 2


def test_where_nobody_listens_nothing_was_sent(objects: list[Path]) -> None:
    nobody = DicomwebDestinationTable(name="nobody", url=f"http://127.0.0.1:{free_port()}/dicom-web")
    with pytest.raises(DeliveryFailed, match="cannot be reached"):
        send(nobody, objects)
    assert not echo(nobody).reachable


def test_a_redirection_is_not_followed(service: ScriptedService, objects: list[Path]) -> None:
    with scripted_service() as elsewhere:
        service.answers = [(307, f"{elsewhere.destination.url}/studies?session=secret".encode())]
        (outcome,) = send(service.destination, objects[:1])
    assert not elsewhere.files
    assert (outcome.ok, outcome.retryable) == (False, False)
    assert elsewhere.destination.url in outcome.message
    assert "secret" not in outcome.message


def test_what_is_no_dicom_file_is_refused_before_anything_is_sent(
    service: ScriptedService, objects: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "text.dcm").write_text("text")
    with pytest.raises(DeliveryRefused, match="no DICOM file"):
        send(service.destination, [*objects, tmp_path / "text.dcm"])
    assert not service.files


@pytest.mark.parametrize(("code", "answer"), [(200, False), (204, False), (404, False), (405, None), (501, None)])
def test_a_query_says_what_is_not_there(
    service: ScriptedService, objects: list[Path], code: int, answer: bool | None
) -> None:
    service.query_code = code
    reference = reference_of(objects[0])
    assert confirm(service.destination, [reference]) == (
        None if answer is None else {reference.sop_instance_uid: answer}
    )
    study, series = reference.study_instance_uid, reference.series_instance_uid
    assert service.queries[0].startswith(f"/dicom-web/studies/{study}/series/{series}/instances?SOPInstanceUID=")


@pytest.mark.parametrize(("code", "retryable"), [(400, False), (401, True), (503, True)])
def test_a_query_that_fails_proves_nothing(
    service: ScriptedService, objects: list[Path], code: int, retryable: bool
) -> None:
    service.query_code = code
    with pytest.raises(DeliveryFailed) as caught:
        confirm(service.destination, [reference_of(objects[0])])
    assert caught.value.retryable is retryable


def test_results_are_confirmed_once_they_are_listed(
    service: ScriptedService, deliveries: Deliveries, objects: list[Path]
) -> None:
    plan(deliveries, "pacs", objects)
    service.lists = False
    assert attempt(service.destination, deliveries).outcome == "retry"
    assert states(deliveries) == ["stored"] * 3
    service.lists = True
    assert attempt(service.destination, deliveries) == DeliveryState("confirmed")
    assert len(service.files) == 3


def test_after_a_crash_the_service_is_asked_before_anything_is_sent_again(
    service: ScriptedService, deliveries: Deliveries, objects: list[Path]
) -> None:
    plan(deliveries, "pacs", objects)
    for row in deliveries.of_case(CASE):
        deliveries.update(replace(row, attempts=1))
    send(service.destination, objects[:2])
    assert attempt(service.destination, deliveries) == DeliveryState("confirmed")
    assert len(service.files) == 3


def test_one_refused_result_holds_the_case_and_not_the_others(
    service: ScriptedService, deliveries: Deliveries, objects: list[Path]
) -> None:
    plan(deliveries, "pacs", objects)
    second = deliveries.of_case(CASE)[1].sop_instance_uid
    refused = failed(second, 0x0122)
    service.answers = [(200, b""), (409, refused), (200, b"")]
    state = attempt(service.destination, deliveries)
    assert (state.outcome, "0122" in state.reason) == ("held", True)
    assert states(deliveries) == ["confirmed", "refused", "confirmed"]


def test_the_answer_alone_counts_where_that_is_set(deliveries: Deliveries, objects: list[Path]) -> None:
    plan(deliveries, "pacs", objects)
    with scripted_service(confirm="stow-rs") as service:
        assert attempt(service.destination, deliveries) == DeliveryState("confirmed")
    assert service.queries == []


def test_secrets_and_certificates_go_over_tls(tmp_path: Path, objects: list[Path]) -> None:
    authority = Authority(tmp_path / "authority")
    token = tmp_path / "token"
    token.write_text("first\n")
    token.chmod(0o600)
    with scripted_service(authority.issue("pacs"), token_file=str(token), authorities=str(authority.file)) as service:
        assert send(service.destination, objects[:1])[0].ok
        token.write_text("second")
        assert send(service.destination, objects[:1])[0].ok
    assert [headers["authorization"] for headers in service.headers] == ["Bearer first", "Bearer second"]
    password = tmp_path / "password"
    password.write_text("open sesame")
    password.chmod(0o600)
    ours = authority.issue("node").table
    with scripted_service(
        authority.issue("pacs"), user="node", password_file=str(password), credentials=ours
    ) as service:
        assert send(service.destination, objects[:1])[0].ok
    assert service.headers[0]["authorization"].startswith("Basic ")


def test_a_service_of_an_unknown_authority_gets_nothing(tmp_path: Path, objects: list[Path]) -> None:
    stranger, ours = Authority(tmp_path / "other", "Other CA"), Authority(tmp_path / "authority")
    with (
        scripted_service(stranger.issue("pacs"), authorities=str(ours.file)) as service,
        pytest.raises(DeliveryFailed, match="certificate verify failed"),
    ):
        send(service.destination, objects)
    assert not service.files


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path, objects: list[Path]) -> None:
    token = tmp_path / "token"
    token.write_text("open sesame")
    token.chmod(0o644)
    table = DicomwebDestinationTable(name="pacs", url="https://127.0.0.1:1/dicom-web", token_file=token)
    with pytest.raises(DeliveryFailed, match="can be read by others") as caught:
        send(table, objects)
    assert "sesame" not in caught.value.message


@pytest.mark.parametrize("content", ["open\nsesame", "open sésame", "", "\N{BYTE ORDER MARK}open sesame"])
def test_a_token_that_cannot_be_sent_is_not_quoted(tmp_path: Path, objects: list[Path], content: str) -> None:
    token = tmp_path / "token"
    token.write_text(content)
    token.chmod(0o600)
    authority = Authority(tmp_path / "authority")
    service = scripted_service(authority.issue("pacs"), token_file=str(token), authorities=str(authority.file))
    with service as running, pytest.raises(DeliveryFailed, match="one line of text") as caught:
        send(running.destination, objects)
    assert "sesame" not in caught.value.message


def test_where_nothing_is_left_to_send_no_secret_is_needed(
    tmp_path: Path, deliveries: Deliveries, objects: list[Path]
) -> None:
    plan(deliveries, "pacs", objects)
    for row in deliveries.of_case(CASE):
        deliveries.update(replace(row, state="confirmed"))
    table = DicomwebDestinationTable(name="pacs", url="https://127.0.0.1:1", token_file=tmp_path / "missing")
    assert attempt(table, deliveries) == DeliveryState("confirmed")


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"url": "pacs.example/dicom-web"}, "expected the root"),
        ({"url": "https://node:secret@pacs.example/dicom-web"}, "does not belong into an address"),
        ({"url": "http://pacs.example", "token_file": "t"}, "over https alone"),
        ({"url": "https://pacs.example", "user": "node"}, "belong together"),
        ({"url": "https://pacs.example", "host": "h"}, "host"),
        ({"url": "https://pacs.example:99999"}, "[Pp]ort"),
        ({"url": "https://pacs.example:0"}, "port from 1 to 65535"),
        ({"url": "https://pacs.example/dicom web"}, "without blanks"),
    ],
)
def test_settings_that_cannot_work_are_named(table: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        DicomwebDestinationTable.model_validate({"name": "pacs", **table})


@pytest.fixture(scope="module")
def orthanc_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, DicomwebDestinationTable]]:
    with orthanc_with_dicomweb(tmp_path_factory.mktemp("orthanc")) as peer:
        url = f"http://127.0.0.1:{peer.http_port}/dicom-web"
        yield peer, DicomwebDestinationTable(name="pacs", url=url, timeout_seconds=30.0)


@pytest.mark.peer
def test_orthanc_stores_confirms_and_is_not_sent_anything_twice(
    orthanc_service: tuple[Peer, DicomwebDestinationTable], deliveries: Deliveries, objects: list[Path]
) -> None:
    peer, table = orthanc_service
    uids = plan(deliveries, "pacs", objects)
    assert attempt(table, deliveries) == DeliveryState("confirmed")
    changes = len(peer.rest("GET", "/changes?limit=1000")["Changes"])
    stored = {
        peer.rest("GET", f"/instances/{key}/simplified-tags")["SOPInstanceUID"]
        for key in peer.rest("GET", "/instances")
    }
    assert stored == set(uids)
    for row in deliveries.of_case(CASE):
        deliveries.update(replace(row, state="failed", attempts=1))
    assert attempt(table, deliveries) == DeliveryState("confirmed")
    assert {row.message for row in deliveries.of_case(CASE)} == {None}  # asked for, and not sent again
    assert len(peer.rest("GET", "/changes?limit=1000")["Changes"]) == changes


@pytest.mark.peer
def test_orthanc_answers_what_it_has(orthanc_service: tuple[Peer, DicomwebDestinationTable]) -> None:
    _, table = orthanc_service
    report = courier_to(table, CALLING_AE).echo()
    assert (report.reachable, report.confirms, report.negotiates) == (True, True, False)
    assert confirm(table, [Reference("2.25.1", "2.25.2", "2.25.3")]) == {"2.25.3": False}
