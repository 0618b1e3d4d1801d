"""What the node tells of series to who knows its token, and having their cases run again."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.errors import UsageError
from dicom_node.ledger import database as db
from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.ledger.deliveries import Deliveries, Delivery
from dicom_node.ledger.intake import EXPECTED_SECONDS, Association, Instance, Intake
from dicom_node.monitoring.series import SeriesDesk
from dicom_node.monitoring.server import Monitor
from dicom_node.rerun import run_case_again
from dicom_node.settings import parse_settings
from tests.ledger.test_cases import CASE

TOKEN = "0123456789abcdef"
SERIES = f"/series/{CASE.series_instance_uid}"


class Desk:
    """A ledger with one case, and the desk that answers for it."""

    def __init__(self, home: Path, monitoring: dict[str, Any]) -> None:
        self.settings = parse_settings({"node": {"home": str(home)}, "monitoring": monitoring}, origin="test")
        self.engine: sa.Engine = open_database(self.settings.database_url)
        self.cases, self.intake = Cases(self.engine), Intake(self.engine)
        self.cases.open(replace(CASE, destinations=["archive"]))

    def ask(self, path: str, method: str = "GET", token: str = TOKEN) -> tuple[int, dict[str, Any]]:
        return SeriesDesk(self.settings, lambda: 5000.0).answer(method, path, f"Bearer {token}")

    def receive(self, uid: str) -> None:
        self.intake.open_association(Association(uid, "listener", "CT", "127.0.0.1", 1.0))
        study = CASE.study_instance_uid
        path = f"/{uid}.dcm"
        series = CASE.series_instance_uid
        self.intake.record(Instance(uid, "1.2", study, series, "1.2.840.10008.1.2.1", path, "00", 1, 2.0, uid))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, {"token": TOKEN})


def test_nobody_is_told_anything_unless_a_token_is_set(tmp_path: Path) -> None:
    assert Desk(tmp_path, {}).ask("/series")[0] == 403


@pytest.mark.parametrize("token", ["", "0123456789abcdee", TOKEN + "0"])
def test_nobody_is_told_anything_without_the_token(desk: Desk, token: str) -> None:
    assert desk.ask(SERIES, token=token)[0] == 401


def test_how_many_are_unfinished(desk: Desk) -> None:
    assert desk.ask("/series") == (200, {"unfinished": 1})
    desk.cases.advance(CASE.case_id, "done", 2000.0)
    assert desk.ask("/series") == (200, {"unfinished": 0})
    desk.receive("1.2.3.4")
    assert desk.ask("/series") == (200, {"unfinished": 1})


def test_the_last_case_of_a_series_speaks_for_it(desk: Desk) -> None:
    desk.cases.advance(CASE.case_id, "held", 2000.0, "a gap")
    status, told = desk.ask(SERIES)
    assert (status, told["state"], told["reason"]) == (200, "held", "a gap")
    assert set(told) == {"images", "case", "state", "reason"}


def test_a_series_that_is_not_there_has_no_state(desk: Desk) -> None:
    assert desk.ask("/series/1.9") == (200, {"images": 0, "case": None, "state": None, "reason": None})
    assert desk.ask("/series/1.9/rerun", "POST") == (200, {"rerun": False, "reason": "it is not here"})


@pytest.mark.parametrize("state", ["held", "discarded", "done"])
def test_a_case_that_has_ended_runs_again(desk: Desk, state: Any) -> None:
    desk.cases.advance(CASE.case_id, state, 2000.0)
    assert desk.ask(SERIES + "/rerun", "POST") == (200, {"rerun": True})
    again = desk.cases.get(CASE.case_id)
    assert (again.state, again.attempt) == ("waiting", 2)


def test_results_that_arrived_are_delivered_again_where_they_are_missing(desk: Desk) -> None:
    deliveries = Deliveries(desk.engine)
    deliveries.plan([Delivery(CASE.case_id, "archive", "1.2.9", "1.2", "/r.dcm", state="confirmed", attempts=1)])
    desk.cases.advance(CASE.case_id, "done", 2000.0)
    desk.ask(SERIES + "/rerun", "POST")
    (delivery,) = deliveries.of_case(CASE.case_id)
    assert (delivery.state, delivery.attempts) == ("failed", 0)


def test_what_arrived_stays_so_where_the_images_are_gone(desk: Desk) -> None:
    """Retention goes by it: results of a case that is done, and has not arrived everywhere, stay for ever."""
    arrived = Delivery(CASE.case_id, "archive", "1.2.9", "1.2", "/r.dcm", state="confirmed")
    Deliveries(desk.engine).plan([arrived])
    desk.cases.advance(CASE.case_id, "done", 2000.0)
    with desk.engine.begin() as connection:
        row = {"case_id": CASE.case_id, "what": "images", "removed_at": 3000.0}
        connection.execute(sa.insert(db.removed_from_cases).values(row))
    status, document = desk.ask(f"{SERIES}/rerun", "POST")
    assert (status, document["rerun"]) == (200, False)
    assert Deliveries(desk.engine).of_case(CASE.case_id) == (arrived,)


def test_a_case_that_goes_on_at_this_moment_keeps_its_deliveries(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Delivery(CASE.case_id, "archive", "1.2.9", "1.2", "/r.dcm", state="refused", message="why")
    Deliveries(desk.engine).plan([refused])
    desk.cases.advance(CASE.case_id, "delivering", 2000.0)
    monkeypatch.setattr(Cases, "_require_ended", lambda *_, **__: None)  # it was held when it was looked at
    with pytest.raises(UsageError, match="went on meanwhile"):
        run_case_again(desk.settings, desk.engine, CASE.case_id, 3000.0)
    assert Deliveries(desk.engine).of_case(CASE.case_id) == (refused,)


def test_a_case_that_is_running_is_left_alone(desk: Desk) -> None:
    assert desk.ask(SERIES + "/rerun", "POST") == (200, {"rerun": False, "reason": "its case is waiting"})
    assert desk.cases.get(CASE.case_id).attempt == 1


def test_no_case_is_opened_of_fewer_images_than_were_announced(desk: Desk) -> None:
    desk.cases.advance(CASE.case_id, "done", 2000.0)
    assert desk.ask(SERIES + "/expect/2", "POST") == (200, {"expected": 2})
    desk.receive("1.2.3.4")
    desk.intake.close_association("1.2.3.4", 3.0)
    assert desk.intake.quiet_series(5000.0, 10.0) == ()
    assert len(desk.intake.quiet_series(5000.0 + EXPECTED_SECONDS, 10.0)) == 1, "not for ever"
    desk.receive("1.2.3.5")
    desk.intake.close_association("1.2.3.5", 3.0)
    assert len(desk.intake.quiet_series(5000.0, 10.0)) == 1


@pytest.mark.parametrize(
    ("method", "path"), [("GET", SERIES + "/rerun"), ("POST", SERIES), ("POST", "/series"), ("GET", "/series/../x")]
)
def test_other_requests_are_not_answered(desk: Desk, method: str, path: str) -> None:
    assert desk.ask(path, method)[0] == 404


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1"])
def test_the_endpoint_is_there_at_either_kind_of_address(tmp_path: Path, bind: str) -> None:
    settings = parse_settings({"node": {"home": str(tmp_path)}, "monitoring": {"bind": bind}}, origin="test")
    monitor = Monitor(settings, port=0)
    monitor.start()
    try:
        with socket.create_connection((bind, monitor.port), timeout=10) as connection:
            connection.sendall(b"GET /series HTTP/1.0\r\n\r\n")
            assert b" 403 " in connection.recv(4096)
    finally:
        monitor.stop()
