"""Storage commitment for who sends to us: asked at the listener, answered from the record, told till it arrives."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from dicom_node.deliver.association import open_association
from dicom_node.ledger.commitment_requests import CommitmentRequest, Sender
from dicom_node.ledger.database import open_database
from dicom_node.ledger.intake import Intake
from dicom_node.settings import Settings, parse_settings
from dicom_node.storage_commitment import (
    CLASS_CONFLICT,
    DUPLICATE_TRANSACTION,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    Reference,
    Report,
    read_report,
    request_information,
)
from dicom_node.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dicom_node.worker import commitment_reports
from dicom_node.worker.commitment_reports import ANSWER_SECONDS, PAUSES, CommitmentReports
from tests.peers import CALLING_AE, NOBODY_LISTENS, Receiver, destination, orthanc, receiver, wait_until
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port

CT = "1.2.840.10008.5.1.4.1.1.2"
SCANNER = "SCANNER"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(PhantomSpec(slices=3), tmp_path_factory.mktemp("images"))


@contextmanager
def scanner(port: int = 0) -> Iterator[tuple[int, list[Report]]]:
    """Who asked, listening for the report: its port, and what it was told."""
    reports: list[Report] = []

    def take(event: evt.Event) -> tuple[int, Dataset | None]:
        reports.append(read_report(event.event_information))
        return 0x0000, None

    entity = AE(ae_title=SCANNER)
    entity.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        yield int(server.server_address[1]), reports
    finally:
        entity.shutdown()


def ask(node: Receiver, transaction: str, references: Sequence[Reference], sender: str = SCANNER) -> int:
    """Send the N-ACTION; its status."""
    where = destination("node", CALLING_AE, node.listener.port)
    with open_association(where, [build_context(STORAGE_COMMITMENT)], sender) as association:
        information = request_information(transaction, references)
        answer, _ = association.send_n_action(information, 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
        return int(answer.Status)


def store(node: Receiver, files: Sequence[Path]) -> list[Reference]:
    assert node.storescu(*files).returncode == 0
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    return [Reference(str(each.SOPClassUID), str(each.SOPInstanceUID)) for each in datasets]


def reports_of(intake: Intake, settings: Settings, now: float | None = None) -> CommitmentReports:
    return CommitmentReports(intake.commitment_requests, intake, settings, lambda: now or time.time())


@contextmanager
def node_for(tmp_path: Path, port: int) -> Iterator[Receiver]:
    peers = [{"ae_title": "*", "address": "127.0.0.1", "port": port}]
    with receiver(tmp_path / "home", peer=peers) as node:
        yield node


@pytest.mark.peer
def test_what_is_there_is_committed_to_and_what_is_not_is_named(tmp_path: Path, images: list[Path]) -> None:
    with scanner() as (port, reports), node_for(tmp_path, port) as node:
        there = store(node, images)
        missing, conflict = Reference(CT, "1.2.3.4"), Reference("1.2.840.10008.5.1.4.1.1.4", there[0].sop_instance_uid)
        lost = there.pop()
        record = node.intake.find(lost.sop_instance_uid)
        assert record is not None
        Path(record.path).unlink()
        assert ask(node, "1.2.3", [*there, missing, conflict, lost]) == 0
        reports_of(node.intake, node.settings).report_due()
        (report,) = reports
        assert report.transaction_uid == "1.2.3"
        assert set(report.committed) == set(there)
        assert report.failed == {missing: NO_SUCH_INSTANCE, conflict: CLASS_CONFLICT, lost: NO_SUCH_INSTANCE}
        reports_of(node.intake, node.settings).report_due()
        assert len(reports) == 1


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x01
    path.write_bytes(content)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("harm", "reason"),
    [(_truncated, PROCESSING_FAILURE), (_changed, PROCESSING_FAILURE), (Path.unlink, NO_SUCH_INSTANCE)],
)
def test_a_file_that_is_not_what_was_received_is_not_committed_to(
    tmp_path: Path, images: list[Path], harm: Callable[[Path], None], reason: int
) -> None:
    with node_for(tmp_path, free_port()) as node:
        harmed, whole = store(node, images[:2])
        record = node.intake.find(harmed.sop_instance_uid)
        assert record is not None
        harm(Path(record.path))
        request = CommitmentRequest("1.2.3", Sender(SCANNER, "127.0.0.1"), (harmed, whole), 0, 0.0)
        report = reports_of(node.intake, node.settings).report_on(request)
    assert (report.committed, report.failed) == ((whole,), {harmed: reason})


def test_a_transaction_uid_is_good_for_one_set_of_instances(tmp_path: Path) -> None:
    one, other = Reference(CT, "1.2.3.4"), Reference(CT, "1.2.3.5")
    with scanner() as (port, reports), node_for(tmp_path, port) as node:
        assert ask(node, "1.2.3", [one]) == 0
        assert ask(node, "1.2.3", [one, other]) == DUPLICATE_TRANSACTION  # while the first is pending
        reports_of(node.intake, node.settings).report_due()
        assert ask(node, "1.2.3", [other]) == DUPLICATE_TRANSACTION  # and after it was answered
        reports_of(node.intake, node.settings).report_due()
    assert [set(report.failed) for report in reports] == [{one}]


def test_the_same_request_again_is_answered_again(tmp_path: Path) -> None:
    asked = [Reference(CT, "1.2.3.4"), Reference(CT, "1.2.3.5")]
    with scanner() as (port, reports), node_for(tmp_path, port) as node:
        assert ask(node, "1.2.3", asked) == ask(node, "1.2.3", asked[::-1]) == 0
        reports_of(node.intake, node.settings).report_due()
        assert len(reports) == 1
        assert ask(node, "1.2.3", asked) == 0
        reports_of(node.intake, node.settings).report_due()
    assert [(report.transaction_uid, set(report.failed)) for report in reports] == [("1.2.3", set(asked))] * 2


def test_what_is_asked_again_while_it_is_being_answered_stays_due(tmp_path: Path) -> None:
    requests = Intake(open_database(f"sqlite:///{tmp_path / 'node.sqlite'}")).commitment_requests
    sender = {"calling_ae": SCANNER, "address": "127.0.0.1"}
    requests.take("1.2.3", [Reference(CT, "1.2.3.4")], now=1000.0, **sender)
    being_answered = requests.claim_due(Sender(**sender), 1000.0, 60.0)
    assert being_answered is not None
    assert requests.take("1.2.3", [Reference(CT, "1.2.3.4")], now=1001.0, **sender) == "again"
    requests.note(being_answered, next_at=None, message=None)
    assert requests.senders_due(1001.0) == (Sender(**sender),)


class SlowIntake(Intake):
    """A record whose files take ten minutes each to read, by a clock of its own, while another worker looks on."""

    now = 1000.0

    def find(self, _: str) -> None:
        self.now += 600.0
        assert self.commitment_requests.claim_due(Sender(SCANNER, "127.0.0.1"), self.now, 60.0) is None


def test_a_request_whose_files_take_long_to_read_is_not_taken_by_another_worker(tmp_path: Path) -> None:
    intake = SlowIntake(open_database(f"sqlite:///{tmp_path / 'node.sqlite'}"))
    asked = [Reference(CT, f"1.2.3.{number}") for number in range(3)]
    intake.commitment_requests.take("1.2.3", asked, calling_ae=SCANNER, address="127.0.0.1", now=intake.now)
    with scanner() as (port, reports):
        peers = [{"ae_title": SCANNER, "address": "127.0.0.1", "port": port}]
        settings = parse_settings({"peer": peers}, origin="test")
        CommitmentReports(intake.commitment_requests, intake, settings, lambda: intake.now).report_due()
    assert [set(report.failed) for report in reports] == [set(asked)]
    assert intake.commitment_requests.senders_due(intake.now + 1e9) == ()


def test_a_sender_that_accepts_and_never_answers_delays_no_other(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, scanner() as (port, reports):
        peers = [
            {"ae_title": "SILENT", "address": "127.0.0.1", "port": silent.getsockname()[1]},
            {"ae_title": SCANNER, "address": "127.0.0.1", "port": port},
        ]
        with receiver(tmp_path / "home", peer=peers) as node:
            for number in range(3):
                assert ask(node, f"1.2.{number}", [Reference(CT, "1.2.3.4")], "SILENT") == 0
            assert ask(node, "1.2.9", [Reference(CT, "1.2.3.4")]) == 0
            begun = time.monotonic()
            telling = reports_of(node.intake, node.settings).begin_due()
            assert wait_until(lambda: len(reports) == 1, ANSWER_SECONDS / 3)
            assert time.monotonic() - begun < ANSWER_SECONDS / 3
            silent.settimeout(ANSWER_SECONDS / 3)
            connection, _ = silent.accept()
            assert [thread.is_alive() for thread in telling if "SILENT" in thread.name] == [True]
            connection.close()
            for thread in telling:
                thread.join(ANSWER_SECONDS)
            now = time.time()
            assert (
                node.intake.commitment_requests.senders_due(now) == ()
            )  # the rest of what it asked waits with the first
            assert node.intake.commitment_requests.senders_due(now + PAUSES[0] + 1) != ()


def test_a_fault_of_the_moment_does_not_end_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    stop = threading.Event()

    def look(_: CommitmentReports) -> None:
        looks.append(1)
        if len(looks) > 1:
            stop.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(commitment_reports, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(CommitmentReports, "begin_due", look)
    with node_for(tmp_path, 104) as node:
        reports_of(node.intake, node.settings).run(stop)
    assert len(looks) == 2


@NOBODY_LISTENS
def test_a_report_is_tried_again_until_the_sender_listens(tmp_path: Path) -> None:
    port = free_port()
    with node_for(tmp_path, port) as node:
        assert ask(node, "1.2.3", [Reference(CT, "1.2.3.4")]) == 0
        begun = time.time() + 1
        reports_of(node.intake, node.settings, begun).report_due()
        with scanner(port) as (_, reports):
            reports_of(node.intake, node.settings, begun + PAUSES[0] - 1).report_due()
            assert reports == []
            reports_of(node.intake, node.settings, begun + PAUSES[0] + 1).report_due()
            assert [report.transaction_uid for report in reports] == ["1.2.3"]


@NOBODY_LISTENS
def test_a_sender_that_never_listens_is_given_up(tmp_path: Path) -> None:
    with node_for(tmp_path, free_port()) as node:
        ask(node, "1.2.3", [Reference(CT, "1.2.3.4")])
        now = time.time() + 1
        for pause in (*PAUSES, 0.0):
            assert node.intake.commitment_requests.senders_due(now - 0.5) == (Sender(SCANNER, "127.0.0.1"),)
            reports_of(node.intake, node.settings, now).report_due()
            now += pause + 1
        assert node.intake.commitment_requests.senders_due(now + 1e9) == ()


def test_a_request_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with node_for(tmp_path, free_port()) as node:
        assert ask(node, "1.2.3", []) == 0x0115
        assert node.intake.commitment_requests.senders_due(time.time() + 1) == ()


@pytest.mark.peer
def test_orthanc_asks_and_is_told(tmp_path: Path, images: list[Path]) -> None:
    own, folder = free_port(), tmp_path / "orthanc"
    with receiver(tmp_path / "home", node={"port": own}) as node, orthanc(folder, {"NODE": node.listener.port}) as peer:
        assert node.storescu(*images).returncode == 0
        peers = [{"ae_title": "ORTHANC", "address": "127.0.0.1", "port": peer.destination.port}]
        settings = Settings.model_validate({**node.settings.model_dump(), "peer": peers})
        peer.rest("PUT", "/modalities/node", ["DICOM_NODE", "127.0.0.1", node.listener.port])
        dataset = pydicom.dcmread(images[0], stop_before_pixels=True)
        asked = {
            "DicomInstances": [{"SOPClassUID": str(dataset.SOPClassUID), "SOPInstanceUID": str(dataset.SOPInstanceUID)}]
        }
        transaction = peer.rest("POST", "/modalities/node/storage-commitment", asked)["ID"]
        reports_of(node.intake, settings).report_due()

        def status() -> str:
            return str(peer.rest("GET", f"/storage-commitment/{transaction}")["Status"])

        assert wait_until(lambda: status() == "Success", 20.0), status()
