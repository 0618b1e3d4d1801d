"""What leaves the node is in the audit trail before its files go, with the name of whose it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.audit.trail import Trail
from dicom_node.errors import StorageFull
from dicom_node.ledger.audit_events import audited
from dicom_node.tidying import PATIENCE_SECONDS, Tidied, Tidying
from tests.audit.schema import Message, messages_in
from tests.test_tidying import DAY, END, LATE, Home

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


class AuditedHome(Home):
    """A home with an audit trail, and one done case with a result that is an image of its series."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.trail_file = root / "audit" / "trail.xml"
        audit = {"audit": {"file": str(self.trail_file)}, "retention": {"spool_days": 2, "results_days": 90}}
        self.settings = type(self.settings).model_validate({**self.settings.model_dump(), **audit})
        audited(self.database, self.settings)
        self.trail = Trail(self.database, self.settings)
        self.receive()
        self.done = self.case()
        result = self.folder(self.done) / "results" / "one.seg.dcm"
        result.write_bytes(self.files[0].read_bytes())
        described = {"sop_class_uid": SEG, "path": str(result)}
        self.cases.note_outputs(self.done.case_id, {"results": [described]}, END)

    def tidied(self, now: float = END + 3 * DAY) -> Tidied:
        return Tidying(self.database, self.settings).run(now)

    def write_trail(self) -> list[Message]:
        while self.trail.write_some("filed"):
            pass
        return messages_in(self.trail_file)

    @property
    def images(self) -> int:
        return len([path for path in self.spooled if path.suffix == ".dcm"])


@pytest.fixture
def home(tmp_path: Path) -> AuditedHome:
    return AuditedHome(tmp_path / "home")


def test_images_stay_until_the_trail_has_told_of_them(home: AuditedHome) -> None:
    assert [message.event for message in home.write_trail()] == ["DICOM Instances Transferred"]
    assert home.tidied().series == (home.series,)
    assert home.images == 6
    home.tidied()
    assert home.images == 6
    told = home.write_trail()[-1]
    assert (told.event, told.action, sum(told.classes.values())) == ("DICOM Study Deleted", "D", 6)
    assert told.patient[0] == "PHANTOM"
    home.tidied()
    assert home.spooled == []
    assert len(home.write_trail()) == 2


def test_results_stay_until_the_trail_has_told_of_them(home: AuditedHome) -> None:
    home.write_trail()
    assert home.tidied(END + 91 * DAY).results == (home.done.case_id,)
    assert not home.folder(home.done).exists()
    told = home.write_trail()
    assert [message.event for message in told[1:]] == ["DICOM Study Deleted"] * 2
    assert (told[-1].classes, told[-1].patient[0]) == ({SEG: 1}, "PHANTOM")
    assert list((home.root / "leaving").iterdir()) != []
    home.tidied(END + 91 * DAY)
    assert list((home.root / "leaving").iterdir()) == []


def test_nothing_leaves_while_the_trail_is_behind_but_not_for_ever(home: AuditedHome) -> None:
    assert home.tidied().is_nothing  # that they were received is not told yet
    assert home.images == 6
    later = END + PATIENCE_SECONDS
    assert home.tidied(later).series == (home.series,)
    assert home.images == 6
    assert home.tidied(later + DAY).is_nothing
    home.tidied(later + PATIENCE_SECONDS + 1)
    assert home.images == 0
    told = home.write_trail()
    assert [(message.event, message.patient) for message in told] == [
        ("DICOM Instances Transferred", ("", "")),
        ("DICOM Study Deleted", ("", "")),
    ]
    assert [sum(message.classes.values()) for message in told] == [6, 6]


def test_a_trail_on_a_full_disk_does_not_stop_reception(home: AuditedHome, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageFull("no room")

    monkeypatch.setattr(home.trail._writers["filed"], "write", full)
    assert home.trail._try("filed") is None
    assert {answer.status for answer in home.receive(at=LATE)} == {0}


def test_images_that_come_again_meanwhile_are_kept(home: AuditedHome) -> None:
    home.write_trail()
    home.tidied()
    assert {answer.status for answer in home.receive(at=END + 3 * DAY)} == {0}
    home.write_trail()
    home.tidied()
    assert home.images == 6
    assert all(Path(item.path).is_file() for item in home.desk.intake.instances_of(home.series))
