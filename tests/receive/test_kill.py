"""kill -9 of the listener while four associations send: what was acknowledged is there."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from dicom_node.ledger import database
from dicom_node.ledger.intake import Intake
from tests.peers import CALLING_AE, QUICK, await_port, tool, wait_until
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
SENDERS = 4


@contextmanager
def listening(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A listener process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.receive.serve_listener", str(home), str(port)],
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        await_port(port, process)
        yield process
    finally:
        process.kill()
        process.wait()


def start_sender(port: int, files: list[Path], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [tool("storescu"), "-v", "-aec", CALLING_AE, "127.0.0.1", str(port), *map(str, files)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=QUICK,
        )


def acknowledged(log: Path) -> list[Path]:
    """The files that a storescu log says were answered with Success."""
    done: list[Path] = []
    current = None
    for line in log.read_text().splitlines():
        if sending := re.search(r"Sending file: (.+)$", line):
            current = Path(sending[1])
        elif "Received Store Response (Success)" in line:
            assert current is not None
            done.append(current)
    return done


def recorded(home: Path) -> tuple[Intake, sa.Engine]:
    engine = database.open_database(f"sqlite:///{home / 'node.sqlite'}")
    return Intake(engine), engine


def left_open(engine: sa.Engine) -> int:
    """Associations without an end on record."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(database.associations).where(database.associations.c.closed_at.is_(None)))
        return len(rows.all())


@pytest.mark.peer
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6], ids=lambda share: f"after {share:.0%} of the images")
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, share: float) -> None:
    files = write(PhantomSpec(slices=160, rows=192, columns=192), tmp_path / "series")
    home, port = tmp_path / "home", free_port()
    logs = [tmp_path / f"sender{number}.log" for number in range(SENDERS)]
    with listening(home, port) as listener:
        senders = [start_sender(port, files[number::SENDERS], log) for number, log in enumerate(logs)]
        while sum(len(acknowledged(log)) for log in logs) < share * len(files):
            time.sleep(0.005)
        listener.kill()
    for sender in senders:
        sender.wait(timeout=60)
    done = [path for log in logs for path in acknowledged(log)]
    assert 0 < len(done) < len(files), "the listener has to die in the middle"

    intake, engine = recorded(home)
    by_uid = {path: pydicom.dcmread(path) for path in done}
    for sent in by_uid.values():
        record = intake.find(sent.SOPInstanceUID)
        assert record is not None, "acknowledged, but not on record"
        assert hashlib.sha256(Path(record.path).read_bytes()).hexdigest() == record.sha256
        assert pydicom.dcmread(record.path).PixelData == sent.PixelData

    with listening(home, port):
        again = [start_sender(port, files[number::SENDERS], log) for number, log in enumerate(logs)]
        assert [sender.wait(timeout=120) for sender in again] == [0] * SENDERS
        series = pydicom.dcmread(files[0]).SeriesInstanceUID
        instances = intake.instances_of(series)
        assert len(instances) == len(files)
        assert len(list((home / "spool").rglob("*.dcm"))) == len(files)
        assert list((home / "spool").rglob("*.part")) == []
        assert wait_until(lambda: left_open(engine) == 0), "a series would never become quiet"
    engine.dispose()
