"""Refusals for the audit trail: none is missing, and a flood of them is a few messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import audited
from dicom_node.ledger.intake import Intake
from dicom_node.receive.admission import Caller
from dicom_node.receive.alerts import MOST_IN_A_WINDOW, WINDOW_SECONDS, Alerts
from dicom_node.settings import parse_settings


class Desk:
    """A listener's alerts, and what they put on record."""

    def __init__(self, home: Path) -> None:
        tables = {"node": {"home": str(home)}, "audit": {"file": str(home / "trail")}}
        settings = parse_settings(tables, origin="test")
        self.engine = audited(db.open_database(settings.database_url), settings)
        self.intake = Intake(self.engine)
        self.alerts = Alerts()

    def refuse(self, title: str = "MALLORY", times: int = 1) -> None:
        for _ in range(times):
            self.alerts.association_refused(Caller(title, "DICOM_NODE", "10.9.9.9"), "not known")

    @property
    def told(self) -> list[tuple[str, int]]:
        """Calling AE title and number of times of each event on record."""
        with self.engine.connect() as connection:
            facts: list[Any] = list(connection.execute(sa.select(db.audit_events.c.facts)).scalars())
        return [(each["calling_ae"], each["times"]) for each in facts]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_repeats_is_told_at_once_and_then_once_a_minute(desk: Desk) -> None:
    desk.refuse()
    desk.alerts.report(desk.intake, 100.0)
    assert desk.told == [("MALLORY", 1)]
    desk.refuse(times=500)
    desk.alerts.report(desk.intake, 101.0)
    assert desk.told == [("MALLORY", 1)]
    desk.alerts.report(desk.intake, 100.0 + WINDOW_SECONDS)
    assert desk.told == [("MALLORY", 1), ("MALLORY", 500)]


def test_who_comes_under_ever_new_names_makes_no_more_than_a_few_events(desk: Desk) -> None:
    for number in range(1000):
        desk.refuse(f"M{number}")
        if number % 100 == 0:
            desk.alerts.report(desk.intake, 100.0 + number / 100)
    desk.alerts.report(desk.intake, 100.0 + WINDOW_SECONDS)
    assert len(desk.told) <= MOST_IN_A_WINDOW + 2
    assert sum(times for _, times in desk.told) == 1000


def test_a_stop_tells_what_is_left(desk: Desk) -> None:
    desk.refuse()
    desk.alerts.report(desk.intake, 100.0)
    desk.refuse(times=3)
    desk.alerts.report(desk.intake, 101.0, at_once=True)
    assert desk.told == [("MALLORY", 1), ("MALLORY", 3)]


def test_what_cannot_be_recorded_is_told_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database is locked"))

    desk.refuse(times=2)
    with monkeypatch.context() as patched:
        patched.setattr(desk.intake, "tell", locked)
        desk.alerts.report(desk.intake, 100.0)
    desk.alerts.handshake_failed("10.9.9.9", "no certificate")
    desk.alerts.report(desk.intake, 101.0)
    assert sorted(desk.told) == [("", 1), ("MALLORY", 2)]
