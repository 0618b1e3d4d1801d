"""Reception on record: once, durable, quiet only when it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.ledger.database import open_database
from dicom_node.ledger.intake import Association, Instance, Intake

INSTANCE = Instance(
    sop_instance_uid="1.2.3",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    study_instance_uid="1.2",
    series_instance_uid="1.2.9",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    path="1.2/1.2.9/1.2.3.dcm",
    sha256="0" * 64,
    size=100,
    received_at=1000.0,
    association_id="a",
)


@pytest.fixture
def intake(ledger: sa.Engine) -> Intake:
    intake = Intake(ledger)
    intake.open_association(Association("a", "listener", "SCANNER", "127.0.0.1", 999.0))
    return intake


def test_an_instance_is_found_as_it_was_recorded(intake: Intake) -> None:
    assert intake.record(INSTANCE)
    assert intake.find("1.2.3") == INSTANCE


def test_the_same_instance_is_recorded_once(intake: Intake) -> None:
    intake.record(INSTANCE)
    assert not intake.record(replace(INSTANCE, sha256="1" * 64))
    assert intake.find("1.2.3") == INSTANCE
    assert intake.spool_bytes() == 100


def test_a_series_is_not_quiet_while_an_association_sends(intake: Intake) -> None:
    intake.record(INSTANCE)
    assert intake.quiet_series(now=5000.0, quiet_seconds=20) == ()


def test_a_series_is_quiet_after_the_last_association(intake: Intake) -> None:
    intake.record(INSTANCE)
    intake.close_association("a", now=1010.0)
    assert intake.quiet_series(now=1025.0, quiet_seconds=20) == ()
    (series,) = intake.quiet_series(now=1031.0, quiet_seconds=20)
    assert (series.series_instance_uid, series.calling_ae) == ("1.2.9", "SCANNER")


def test_a_second_association_keeps_the_series_awake(intake: Intake) -> None:
    intake.open_association(Association("b", "listener", "SCANNER", "127.0.0.1", 1000.0))
    intake.record(INSTANCE)
    intake.record(replace(INSTANCE, sop_instance_uid="1.2.4", association_id="b"))
    intake.close_association("a", now=1001.0)
    assert intake.quiet_series(now=5000.0, quiet_seconds=20) == ()


def test_what_a_dead_listener_left_open_is_closed(intake: Intake) -> None:
    intake.record(INSTANCE)
    assert intake.close_associations_of("listener", now=1100.0) == 1
    assert intake.close_associations_of("listener", now=1100.0) == 0
    assert len(intake.quiet_series(now=1121.0, quiet_seconds=20)) == 1


def test_the_database_is_private(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/node.sqlite")
    assert (tmp_path / "node.sqlite").stat().st_mode & 0o077 == 0
