"""Room for one more instance: quotas, the disk, and the marks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.ledger.intake import Association, Instance, Intake
from dicom_node.receive.room import Room, is_disk_high, is_high
from dicom_node.settings import LimitsTable, PeerTable

MARKS = LimitsTable(high_watermark=0.9, low_watermark=0.6, free_bytes=100)
SCANNER = PeerTable(ae_title="SCANNER", address="10.1.0.0/16", spool_bytes=100)
INSTANCE = Instance("1.2.0", "1.2", "1.2", "1.2.3", "1.2", "/nowhere", "", 10, 0.0, "scanner")


class Desk:
    """A ledger that is written by hand, and room over it."""

    def __init__(self, engine: sa.Engine, limits: LimitsTable) -> None:
        self.intake = Intake(engine)
        self.seconds = 1000.0
        self.free = 10_000
        self.room = Room(self.intake, limits, lambda: self.seconds, lambda: self.free)
        for key, title, address in (("scanner", "SCANNER", "10.1.0.5"), ("other", "OTHER", "10.2.0.5")):
            self.intake.open_association(Association(key, "listener", title, address, 0.0))
        self.engine = engine
        self.count = 0

    def keep(self, size: int, series: str, association: str = "scanner") -> None:
        self.count += 1
        uid = f"1.9.{self.count}"
        self.intake.record(
            replace(INSTANCE, sop_instance_uid=uid, series_instance_uid=series, size=size, association_id=association)
        )

    def claim(self, size: int, series: str, peer: PeerTable | None = None) -> str | None:
        """Claim as a listener does: what is taken goes on record."""
        lack = self.room.claim(size, series, peer)
        if lack is None:
            self.keep(size, series)
        return lack

    def remove_everything(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM instances"))


def test_above_the_high_mark_begun_series_go_on_to_the_hard_limit(engine: sa.Engine) -> None:
    desk = Desk(engine, LimitsTable(spool_bytes=100, high_watermark=0.5, low_watermark=0.2, free_bytes=0))
    assert desk.claim(50, "1.2.3") is None
    assert "only series that have begun" in str(desk.claim(10, "1.2.4"))
    assert desk.claim(50, "1.2.3") is None
    assert "spool quota reached: 100 of 100 bytes" in str(desk.claim(1, "1.2.3"))


def test_new_series_come_back_at_the_low_mark_alone(engine: sa.Engine) -> None:
    desk = Desk(engine, LimitsTable(spool_bytes=100, high_watermark=0.5, low_watermark=0.2, free_bytes=0))
    desk.keep(50, "1.2.3")
    assert desk.claim(1, "1.2.4") is not None
    desk.remove_everything()
    desk.keep(30, "1.2.3")  # below the high mark, above the low one
    assert desk.claim(1, "1.2.4") is not None
    desk.remove_everything()
    desk.keep(20, "1.2.3")
    assert desk.claim(1, "1.2.4") is None


def test_the_disk_has_marks_too(engine: sa.Engine) -> None:
    desk = Desk(engine, LimitsTable(free_bytes=100))
    desk.keep(1, "1.2.3")
    desk.free = 199
    assert "only series that have begun" in str(desk.claim(10, "1.2.4"))
    assert desk.claim(10, "1.2.3") is None
    desk.free = 299
    assert desk.claim(10, "1.2.4") is not None
    desk.free = 300
    assert desk.claim(10, "1.2.4") is None
    desk.free = 109
    assert "disk nearly full" in str(desk.claim(10, "1.2.3"))


def test_a_peer_has_a_quota_of_its_own(engine: sa.Engine) -> None:
    desk = Desk(engine, LimitsTable(high_watermark=1.0, low_watermark=1.0, free_bytes=0))
    desk.keep(90, "1.2.3", "scanner")
    desk.keep(500, "1.2.5", "other")  # not the scanner's
    assert desk.claim(10, "1.2.3", SCANNER) is None
    assert "quota of peer SCANNER reached: 100 of 100 bytes" in str(desk.claim(1, "1.2.3", SCANNER))
    assert desk.claim(1000, "1.2.6") is None


def test_the_marks_hold_for_the_quota_of_a_peer(engine: sa.Engine) -> None:
    desk = Desk(engine, LimitsTable(high_watermark=0.9, low_watermark=0.8, free_bytes=0))
    desk.keep(90, "1.2.3", "scanner")
    assert "only series that have begun" in str(desk.claim(1, "1.2.4", SCANNER))
    assert desk.claim(1, "1.2.3", SCANNER) is None
    assert desk.claim(1, "1.2.4") is None  # of anybody else


def test_lack_is_known_before_anything_was_sent(engine: sa.Engine) -> None:
    desk = Desk(engine, LimitsTable(free_bytes=100))
    assert desk.room.lack(SCANNER) is None
    desk.keep(100, "1.2.3")
    desk.seconds += 60
    assert "quota of peer SCANNER" in str(desk.room.lack(SCANNER))
    assert desk.room.lack(None) is None
    desk.free = 100
    assert "disk nearly full" in str(desk.room.lack(None))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_quota_never_turns_between_its_marks(shares: list[float]) -> None:
    high = False
    for share in shares:
        turned = is_high(high, share, MARKS)
        if turned != high:
            assert (turned and share >= 0.9) or (not turned and share <= 0.6)
        high = turned


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30))
def test_the_disk_never_turns_between_its_marks(free: list[int]) -> None:
    high = False
    for left in free:
        turned = is_disk_high(high, left, MARKS)
        if turned != high:
            assert (turned and left < 200) or (not turned and left >= 300)
        high = turned


def test_the_marks_must_not_be_exchanged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"low_watermark 0\.9 is above high_watermark 0\.5"):
        LimitsTable(high_watermark=0.5, low_watermark=0.9)
