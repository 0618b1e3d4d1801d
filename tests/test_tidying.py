"""Retention: what is finished goes, nothing else does, and a kill at any point leaves neither loss nor litter."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest
import sqlalchemy as sa

from dicom_node import tidying as tidying_module
from dicom_node.errors import UsageError
from dicom_node.ledger import database as db
from dicom_node.ledger.cases import Case, Cases, CaseState
from dicom_node.ledger.commitment_requests import Sender
from dicom_node.ledger.commitments import Commitment
from dicom_node.ledger.deliveries import Deliveries, Delivery
from dicom_node.ledger.intake import Association
from dicom_node.receive.storing import RESENT_SECONDS, Answer, Reception
from dicom_node.settings import LimitsTable, Settings, parse_settings
from dicom_node.storage_commitment import Reference
from dicom_node.tidying import Tidying
from tests.ledger.test_cases import CASE
from tests.phantoms import PhantomSpec, write
from tests.receive.desk import NO_LIMITS, Desk, arrival_of

DAY = 86400.0
END = 2000.0
LATE = END + 31 * DAY


def settings_of(home: Path, **retention: float) -> Settings:
    return parse_settings({"node": {"home": str(home)}, "retention": retention}, origin="test")


class Home:
    """A home with one received series of six images and, where it is asked for, its case and results."""

    def __init__(self, root: Path, limits: LimitsTable = NO_LIMITS) -> None:
        self.root = root
        self.settings = settings_of(root)
        self.database = db.open_database(self.settings.database_url)
        self.cases, self.deliveries = Cases(self.database), Deliveries(self.database)
        self.desk = Desk(root, self.database, limits)
        self.files = write(PhantomSpec(slices=6), root.parent / "sent")
        self.series = str(pydicom.dcmread(self.files[0]).SeriesInstanceUID)
        self.association = Association("association", "listener", "SCANNER", "127.0.0.1", 900.0)

    def receive(self, files: list[Path] | None = None, *, at: float = 1000.0) -> list[Answer]:
        with self.database.begin() as connection:
            association = replace(self.association, opened_at=at)
            row = {("id" if key == "association_id" else key): value for key, value in vars(association).items()}
            connection.execute(db.insert_or_nothing(connection, db.associations).values(row))
        reception = Reception(self.desk.spool, self.desk.intake, NO_LIMITS, now=lambda: at)
        return [reception.store(arrival_of(path), lambda: association) for path in files or self.files]

    def case(self, state: CaseState = "done", **changes: Any) -> Case:
        self.desk.intake.close_association("association", 1500.0)
        images = [item.sop_instance_uid for item in self.desk.intake.instances_of(self.series)]
        case = replace(CASE, series_instance_uid=self.series, instances=images, **changes)
        assert self.cases.open(case)
        self.cases.advance(case.case_id, state, END)
        results = self.folder(case) / "results"
        results.mkdir(parents=True)
        (results / "one.seg.dcm").write_bytes(b"a result")
        self.deliver(case, "confirmed")
        return case

    def deliver(self, case: Case, state: Any, destination: str = "archive") -> None:
        path = str(self.folder(case) / "results" / "one.seg.dcm")
        self.deliveries.plan([Delivery(case.case_id, destination, "1.2.3", "1.2.4", path, state=state)])

    def folder(self, case: Case) -> Path:
        return self.root / "cases" / case.case_id

    def tidy(self, now: float = LATE, **retention: float) -> tidying_module.Tidied:
        return Tidying(self.database, settings_of(self.root, **retention)).run(now)

    @property
    def spooled(self) -> list[Path]:
        return sorted((self.root / "spool").rglob("*"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    assert {answer.status for answer in home.receive()} == {0}
    return home


def test_a_done_case_loses_its_images_after_their_days(home: Home) -> None:
    home.case()
    assert home.tidy(END + 29 * DAY).is_nothing
    tidied = home.tidy()
    assert (tidied.series, tidied.images) == ((home.series,), 6)
    assert home.spooled == []
    assert home.desk.intake.spool_bytes() == 0


def test_results_and_labels_stay_longer_and_go_then(home: Home) -> None:
    case = home.case()
    home.tidy()
    assert (home.folder(case) / "results" / "one.seg.dcm").is_file()
    assert home.tidy(END + 91 * DAY).results == (case.case_id,)
    assert not home.folder(case).exists()
    assert set(home.cases.removed(case.case_id)) == {"images", "results"}
    assert home.tidy(END + 92 * DAY).is_nothing


def test_no_days_keep_for_ever(home: Home) -> None:
    case = home.case()
    assert home.tidy(END + 9999 * DAY, spool_days=0, results_days=0, record_days=0).is_nothing
    assert len(home.desk.intake.instances_of(home.series)) == 6
    assert home.folder(case).is_dir()


def test_the_record_goes_last(home: Home) -> None:
    case = home.case()
    home.tidy(END + 91 * DAY)
    assert home.tidy(END + (91 + 729) * DAY).records == 0
    assert home.tidy(END + (91 + 731) * DAY).records == 1
    assert home.cases.list() == ()
    assert home.deliveries.of_case(case.case_id) == ()
    with home.database.connect() as connection:
        assert connection.execute(sa.select(db.associations)).all() == []


def test_the_record_of_commitment_goes_with_its_case(home: Home) -> None:
    """And no earlier: as long as the case is there, the UIDs of its transactions have to be known."""
    case = home.case()
    commitments = home.deliveries.commitments
    commitments.ask(Commitment("1.2.3", case.case_id, "pacs", "PACS", END, reported_at=END))
    commitments.ask(Commitment("1.2.4", "a case that is not there", "pacs", "PACS", END))
    home.tidy(END + 91 * DAY)
    home.tidy(END + (91 + 729) * DAY)
    assert (commitments.find("1.2.3") is not None, commitments.find("1.2.4")) == (True, None)
    home.tidy(END + (91 + 731) * DAY)
    assert commitments.find("1.2.3") is None


@pytest.mark.parametrize(("answered", "spool_days", "left"), [(True, 30, 0), (True, 0, 1), (False, 30, 1)])
def test_what_a_sender_was_told_is_forgotten_with_the_images(
    home: Home, answered: bool, spool_days: float, left: int
) -> None:
    requests = home.desk.intake.commitment_requests
    sender = Sender("SCANNER", "127.0.0.1")
    requests.take("1.2.3", [Reference("1.2.4", "1.2.5")], now=END, **vars(sender))
    request = requests.claim_due(sender, END, 60.0)
    assert request is not None
    if answered:
        requests.note(request, next_at=None, message=None)
    home.tidy(END + 29 * DAY, spool_days=spool_days)
    assert _rows(home, db.commitment_requests) == 1
    home.tidy(LATE, spool_days=spool_days)
    assert _rows(home, db.commitment_requests) == left


def _rows(home: Home, table: sa.Table) -> int:
    with home.database.connect() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def _open_association(home: Home) -> None:
    with home.database.begin() as connection:
        connection.execute(sa.update(db.associations).values(closed_at=None))


def _a_new_image(home: Home) -> None:
    with home.database.begin() as connection:
        connection.execute(sa.update(db.series).values(instances=7))


def _held_late_slices(home: Home) -> None:
    _a_new_image(home)
    later = replace(CASE, case_id="cd" * 32, series_instance_uid=home.series, created_at=END + 1, instances=["1"] * 7)
    assert home.cases.open(later)
    home.cases.advance(later.case_id, "held", END + 2, "a gap")


IMAGES_KEPT: dict[str, Callable[[Home], object]] = {
    "in no case": lambda home: None,
    "an image in no case yet": lambda home: (home.case(), _a_new_image(home)),
    "still being sent": lambda home: (home.case(), _open_association(home)),
    "sent again lately": lambda home: (home.case(), home.receive(at=LATE - DAY)),
}
ALL_KEPT: dict[str, Callable[[Home], object]] = {
    "held": lambda home: home.case("held"),
    "unfinished": lambda home: home.case("delivering"),
    "not confirmed everywhere": lambda home: home.deliver(home.case(), "stored", "pacs"),
    "late slices are held": lambda home: (home.case(), _held_late_slices(home)),
}


@pytest.mark.parametrize("keeper", IMAGES_KEPT)
def test_images_that_may_be_needed_stay(home: Home, keeper: str) -> None:
    IMAGES_KEPT[keeper](home)
    before = home.spooled
    assert home.tidy().is_nothing
    assert home.spooled == before


@pytest.mark.parametrize("keeper", ALL_KEPT)
def test_of_a_case_that_somebody_may_need_everything_stays(home: Home, keeper: str) -> None:
    ALL_KEPT[keeper](home)
    before = home.spooled
    assert home.tidy(LATE, spool_days=1, results_days=1, record_days=1).is_nothing
    assert home.spooled == before


@pytest.mark.parametrize("state", ["discarded", "superseded"])
def test_what_was_given_up_goes_too(home: Home, state: CaseState) -> None:
    home.case(state)
    if state == "superseded":
        _a_new_image(home)
        later = replace(CASE, case_id="cd" * 32, series_instance_uid=home.series, created_at=END, instances=["1"] * 7)
        assert home.cases.open(later)
        home.cases.advance(later.case_id, "done", END)
    assert home.tidy().series == (home.series,)
    assert len(home.tidy(END + 91 * DAY).results) == (2 if state == "superseded" else 1)


def test_nothing_goes_while_its_last_step_may_still_run(home: Home) -> None:
    home.case("discarded")
    assert home.tidy(END + 3000, spool_days=0.0001, results_days=0.0001).is_nothing


def test_the_quota_counts_what_is_there(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.receive()
    home.case()
    other = write(PhantomSpec(slices=6, rows=70), tmp_path / "other")
    limits = LimitsTable(free_bytes=0, spool_bytes=home.desk.intake.spool_bytes() + 1000)
    reception = Reception(home.desk.spool, home.desk.intake, limits, now=lambda: LATE)
    assert reception.store(arrival_of(other[0]), lambda: home.association).status == 0xA700
    home.tidy()
    assert reception.store(arrival_of(other[0]), lambda: home.association).status == 0


def test_images_that_come_again_are_taken_in_and_their_case_runs_again(home: Home) -> None:
    case = home.case()
    home.tidy()
    again = LATE + DAY
    assert {answer.status for answer in home.receive(at=again)} == {0}
    assert len([path for path in home.spooled if path.suffix == ".dcm"]) == 6
    home.desk.intake.close_association("association", again)
    assert home.cases.open(replace(case, state="waiting", destinations=["archive", "pacs"], created_at=again + 60))
    running = home.cases.get(case.case_id)
    assert (running.state, running.attempt, running.destinations) == ("waiting", 2, ["archive", "pacs"])
    assert running.created_at == case.created_at  # its results are the same objects as before
    (delivery,) = home.deliveries.of_case(case.case_id)
    assert delivery.state == "failed"  # the destination is asked what it has before anything is sent
    assert home.tidy(again + 100 * DAY).series == ()
    home.cases.advance(case.case_id, "done", again + 70)
    home.deliveries.update(replace(delivery, state="confirmed"))
    assert home.tidy(again + 100 * DAY).series == (home.series,)


@pytest.mark.parametrize("again", ["images that came again", "a person"])
def test_results_that_were_made_anew_go_too(home: Home, again: str) -> None:
    case = home.case()
    home.tidy(END + 91 * DAY, spool_days=30 if again == "images that came again" else 0)
    assert "results" in home.cases.removed(case.case_id)
    later = END + 92 * DAY
    if again == "a person":
        home.cases.retry(case.case_id, later, also_done=True)
    else:
        home.receive(at=later)
        home.desk.intake.close_association("association", later)
        assert home.cases.open(replace(case, state="waiting", created_at=later + 60))
    assert home.cases.removed(case.case_id) == {}
    results = home.folder(case) / "attempt-2" / "results"
    results.mkdir(parents=True)
    (results / "one.seg.dcm").write_bytes(b"the same result")
    home.cases.advance(case.case_id, "done", later + 70)
    for delivery in home.deliveries.of_case(case.case_id):
        home.deliveries.update(replace(delivery, state="confirmed"))
    assert home.tidy(later + 91 * DAY).results == (case.case_id,)
    assert not home.folder(case).exists()


def test_a_discarded_case_without_images_cannot_be_retried(home: Home) -> None:
    case = home.case("discarded")
    home.tidy()
    with pytest.raises(UsageError, match="send them again"):
        home.cases.retry(case.case_id, LATE)


def test_images_sent_again_restart_the_clock(home: Home) -> None:
    home.case()
    home.receive(at=LATE - DAY)
    assert home.tidy().is_nothing
    assert home.tidy(LATE + 30 * DAY).series == (home.series,)


def test_an_image_that_leaves_while_it_comes_again_is_taken_in(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention is quicker than the note that it came again."""
    home.case()
    note = home.desk.intake.note_resent

    def overtaken(series: str, now: float) -> bool:
        home.tidy()
        return note(series, now)

    monkeypatch.setattr(home.desk.intake, "note_resent", overtaken)
    assert home.receive(home.files[:1], at=LATE)[0].status == 0
    (instance,) = home.desk.intake.instances_of(home.series)
    assert Path(instance.path).is_file()


def test_a_file_that_is_removed_as_it_is_recorded_is_written_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of an image that is leaving is taken by the same image as it comes again."""
    home.case()
    tidying = Tidying(home.database, home.settings)
    assert tidying._retention.let_go(home.series, LATE - 30 * DAY, LATE)
    write_now = home.desk.spool.write

    def overtaken(*arguments: Any) -> Path:
        path = write_now(*arguments)
        tidying._remove_leaving(LATE)
        return path

    monkeypatch.setattr(home.desk.spool, "write", overtaken)
    assert home.receive(home.files[:1], at=LATE)[0].status == 0
    (instance,) = home.desk.intake.instances_of(home.series)
    assert Path(instance.path).is_file()


def test_an_image_that_came_again_is_not_removed_with_its_predecessor(home: Home) -> None:
    home.case()
    tidying = Tidying(home.database, home.settings)
    assert tidying._retention.let_go(home.series, LATE - 30 * DAY, LATE)
    assert home.receive(home.files[:2], at=LATE)[0].status == 0
    assert tidying.run(LATE).images == 4
    assert [Path(item.path).is_file() for item in home.desk.intake.instances_of(home.series)] == [True, True]


KILLER = """
import os, signal, sys
from pathlib import Path
from dicom_node import tidying
from dicom_node.ledger.database import open_database
from dicom_node.settings import parse_settings

home, point, now = sys.argv[1], sys.argv[2], float(sys.argv[3])
settings = parse_settings({"node": {"home": home}, "retention": {"results_days": 1}}, origin="test")

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at_the(number, function):
    calls = []
    def counted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            die()
        return function(*arguments, **options)
    return counted

run = tidying.Tidying(open_database(settings.database_url), settings)
if point == "listed":
    run._remove_leaving = die
elif point == "first file":
    Path.unlink = die_at_the(2, Path.unlink)
elif point == "all files":
    tidying.fsync_directory = die_at_the(1, tidying.fsync_directory)
elif point == "before the results":
    run._remove_results = die
elif point == "results gone":
    tidying.fsync_directory = die_at_the(2, tidying.fsync_directory)
run.run(now)
"""


@pytest.mark.parametrize("point", ["listed", "first file", "all files", "before the results", "results gone"])
def test_a_kill_at_any_point_leaves_neither_loss_nor_litter(home: Home, point: str) -> None:
    case = home.case()
    killed = subprocess.run([sys.executable, "-c", KILLER, str(home.root), point, str(LATE)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert all(Path(item.path).is_file() for item in home.desk.intake.instances_of(home.series))
    home.tidy(LATE, results_days=1)
    assert home.spooled == []
    assert not home.folder(case).exists()
    assert set(home.cases.removed(case.case_id)) == {"images", "results"}


@pytest.mark.parametrize("point", ["listed", "first file", "all files"])
def test_what_comes_after_such_a_kill_is_kept(home: Home, point: str) -> None:
    home.case()
    subprocess.run([sys.executable, "-c", KILLER, str(home.root), point, str(LATE)], check=False)
    assert {answer.status for answer in home.receive(at=LATE)} == {0}
    home.tidy(LATE)
    instances = home.desk.intake.instances_of(home.series)
    assert [Path(item.path).is_file() for item in instances] == [True] * 6


def test_a_file_that_cannot_be_removed_stays_listed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.case()
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", cast(Any, lambda *_, **__: (_ for _ in ()).throw(PermissionError("no"))))
    with pytest.raises(PermissionError):
        home.tidy()
    monkeypatch.setattr(Path, "unlink", unlink)
    assert home.tidy().images == 6
    assert home.spooled == []


def test_retention_waits_longer_than_resending_is_noted() -> None:
    assert 10 * RESENT_SECONDS < tidying_module.SETTLED_SECONDS


def test_the_command_says_what_it_would_remove_and_removes_it(home: Home) -> None:
    home.case()  # it ended half a century ago
    config = home.root.parent / "node.toml"
    config.write_text(f'[node]\nhome = "{home.root}"\n[retention]\nresults_days = 0\n')

    def tidy(*options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "dicom_node", "--config", str(config), "tidy", "--json", *options]
        return cast("dict[str, Any]", json.loads(subprocess.run(command, capture_output=True, check=True).stdout))

    promised = tidy("--dry-run")
    assert len(home.desk.files) == 6
    removed = tidy()
    assert {**removed, "dry_run": True} == promised
    assert (removed["images"], removed["results"]) == (6, [])
    assert home.spooled == []
    assert len(list((home.root / "cases").iterdir())) == 1
