"""What is on record reaches every place, at least once and in order, whatever is down or killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.audit.messages import AuditMessage
from dicom_node.audit.trail import Trail
from dicom_node.errors import SettingsError, StorageFull
from dicom_node.ledger import audit_facts
from dicom_node.ledger import database as db
from dicom_node.ledger.audit_events import AuditEvents, audited, note
from dicom_node.settings import Settings, parse_settings
from tests.audit.schema import Message, messages_in
from tests.peers import wait_until
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port


class Place:
    """A place that keeps what it is given, or is out of order."""

    def __init__(self) -> None:
        self.taken: list[AuditMessage] = []
        self.failure: Exception | None = None

    def write(self, messages: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.taken += messages

    @property
    def told(self) -> list[str]:
        return [Message(each.xml).details("Node ID")["Alert Description"] for each in self.taken]


class Site:
    """A ledger with an audit trail to two places."""

    def __init__(self, home: Path, ledger: sa.Engine) -> None:
        port = free_port()
        tables = {"node": {"home": str(home)}, "audit": {"file": str(home / "audit"), "syslog": f"udp://h:{port}"}}
        self.settings = parse_settings(tables, origin="test")
        self.database = audited(ledger, self.settings)
        self.events = AuditEvents(self.database)
        self.trail = Trail(self.database, self.settings, clock=lambda: 1000.0)
        self.file, self.server = Place(), Place()
        self.trail._writers = {"filed": self.file, "sent": self.server}

    def happen(self, *what: str) -> None:
        for each in what:
            self.events.record(1000.0, audit_facts.restricted("admin@console", each))

    @property
    def pending(self) -> int:
        with self.database.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(db.audit_events)) or 0)


@pytest.fixture
def site(tmp_path: Path, ledger: sa.Engine) -> Site:
    return Site(tmp_path, ledger)


def test_every_place_is_told_once_and_in_order(site: Site) -> None:
    site.happen("one", "two")
    assert (site.trail.write_some("filed"), site.trail.write_some("sent")) == (2, 2)
    site.happen("three")
    assert (site.trail.write_some("sent"), site.trail.write_some("filed")) == (1, 1)
    assert site.file.told == site.server.told == ["one", "two", "three"]
    assert site.pending == 0


def test_a_place_that_is_down_gets_everything_later_and_the_other_does_not_wait(site: Site) -> None:
    site.server.failure = ConnectionRefusedError()
    site.happen("one")
    for _ in range(3):
        assert site.trail._try("sent") is None
    assert site.trail._try("filed") == 1
    assert (site.file.told, site.pending, site.events.oldest()) == (["one"], 1, 1000.0)
    site.server.failure = None
    site.happen("two")
    assert site.trail._try("sent") == 2
    assert site.server.told == ["one", "two"]
    assert site.trail._try("filed") == 1
    assert (site.pending, site.events.oldest()) == (0, None)


def test_a_place_that_the_settings_no_longer_name_is_not_waited_for(site: Site) -> None:
    site.server.failure = ConnectionRefusedError()
    site.happen("one")
    assert site.trail._try("filed") == 1
    site.happen("two")
    site.trail._writers = {"filed": site.file}
    stop = threading.Event()
    stop.set()
    site.trail.run(stop)
    assert site.pending == 0
    assert "two" in site.file.told


def test_a_full_disk_loses_nothing(site: Site) -> None:
    site.file.failure = StorageFull("no room")
    site.happen("one", "two")
    assert site.trail._try("filed") is None
    site.file.failure = None
    assert site.trail._try("filed") == 2
    assert site.file.told == ["one", "two"]


def test_what_cannot_be_told_is_not_passed_over(site: Site) -> None:
    site.happen("one")
    site.file.failure = KeyError("a fault of our own")
    assert site.trail._try("filed") is None
    assert site.pending == 1


def test_without_an_audit_trail_nothing_is_recorded(tmp_path: Path) -> None:
    settings = parse_settings({"node": {"home": str(tmp_path)}}, origin="test")
    database = audited(db.open_database(settings.database_url), settings)
    AuditEvents(database).record(1.0, audit_facts.application("listener", started=True))
    with database.connect() as connection:
        assert connection.execute(sa.select(db.audit_events)).all() == []
    assert AuditEvents(database).oldest() is None
    with pytest.raises(SettingsError, match="there is no table"):
        Trail(database, settings)


def test_an_event_is_there_only_with_what_it_tells_of(site: Site) -> None:
    with site.database.connect() as connection, connection.begin() as transaction:
        note(connection, 1.0, audit_facts.application("worker", started=True))
        transaction.rollback()
    assert site.pending == 0


@pytest.fixture
def running(site: Site) -> Iterator[threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=site.trail.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_it_says_when_it_begins_and_when_it_ends(site: Site, running: threading.Event) -> None:
    assert wait_until(lambda: site.file.taken)
    site.happen("one")
    assert wait_until(lambda: "one" in site.file.told)
    running.set()
    begin, one, end = "Audit Recording Started", "one", "Audit Recording Stopped"
    assert wait_until(lambda: site.pending == 0)
    assert wait_until(lambda: site.file.told == site.server.told == [begin, one, end])


KILLED = """
import os, signal, sys
from pathlib import Path
from dicom_node.audit.trail import Trail
from dicom_node.ledger.audit_events import AuditEvents, audited
from dicom_node.ledger.database import open_database
from dicom_node.settings import load_settings

settings = load_settings(Path(sys.argv[1]))
trail = Trail(audited(open_database(settings.database_url), settings), settings)
if sys.argv[2] == "written":
    trail._events.told = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
else:
    trail._writers["filed"].write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
trail.write_some("filed")
"""


@pytest.mark.parametrize(("point", "times"), [("before it is written", 1), ("written", 2)])
def test_a_kill_loses_nothing(tmp_path: Path, point: str, times: int) -> None:
    config, file = tmp_path / "node.toml", tmp_path / "trail.xml"
    config.write_text(f'[node]\nhome = "{tmp_path / "home"}"\n[audit]\nfile = "{file}"\n')
    settings = Settings.model_validate({"node": {"home": str(tmp_path / "home")}, "audit": {"file": str(file)}})
    database = audited(db.open_database(settings.database_url), settings)
    (image,) = write(PhantomSpec(slices=1), tmp_path / "series")
    facts = {"action": "R", "study": "1.2.3", "classes": {"1.2": 1}, "path": str(image)}
    AuditEvents(database).record(5.0, audit_facts.AuditEvent("accessed", "case", facts))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(config), point], env={**os.environ}, check=False)
    assert killed.returncode == -signal.SIGKILL
    trail = Trail(database, settings)
    while trail.write_some("filed"):
        pass
    messages = messages_in(file)
    assert [message.study for message in messages] == ["1.2.3"] * times
    assert {message.patient[0] for message in messages} == {"PHANTOM"}
