"""The listener when connections break, disks fill, databases lock and processes end."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.errors import SettingsError, UsageError
from dicom_node.ledger import database
from dicom_node.ledger.intake import Association, Intake
from dicom_node.receive.connection import MAXIMUM_PDU
from dicom_node.receive.listener import Listener
from dicom_node.settings import Settings
from tests.full_disk import small_disk
from tests.peers import Receiver, receiver, run_tool, wait_until
from tests.phantoms import PhantomSpec, write
from tests.receive.calling import CT, associate, associations


@contextmanager
def cutting_wire(port: int, after: int) -> Iterator[int]:
    """A proxy that cuts both sides dead once ``after`` bytes went towards the server; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            client, _ = door.accept()
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=_pump, args=(server, client, None), daemon=True).start()
            _pump(client, server, after)
            for side in (client, server):
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)  # closing alone does nothing while the other thread reads
                side.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(door.getsockname()[1])
        thread.join(timeout=20)


def _pump(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
    passed = 0
    while limit is None or passed < limit:
        try:
            piece = source.recv(4096 if limit is None else min(4096, limit - passed))
            if not piece:
                return
            sink.sendall(piece)
        except OSError:
            return
        passed += len(piece)


@pytest.mark.peer
@pytest.mark.parametrize("instances", [0.5, 2.5], ids=["in the first", "in the third"])
def test_a_lost_connection_leaves_whole_instances_alone(node: Receiver, ct_files: list[Path], instances: float) -> None:
    after = 500 + int(instances * (ct_files[0].stat().st_size - 150))  # -R keeps the proposal below 1 KB
    with cutting_wire(node.listener.port, after) as port:
        result = run_tool("storescu", "-R", "-aec", "DICOM_NODE", "127.0.0.1", str(port), *ct_files)
    assert result.returncode != 0
    assert wait_until(lambda: all(row.closed_at is not None for row in associations(node)))
    assert all(path.suffix == ".dcm" for path in node.spooled)
    whole = len(pydicom.dcmread(ct_files[0]).PixelData)
    assert [len(pydicom.dcmread(path).PixelData) for path in node.spooled] == [whole] * int(instances)
    assert node.storescu(*ct_files).returncode == 0
    assert len(node.spooled) == len(ct_files)


def test_an_abort_closes_the_association_on_record(node: Receiver, ct_files: list[Path]) -> None:
    association = associate(node, (CT, [ExplicitVRLittleEndian]))
    assert association.send_c_store(pydicom.dcmread(ct_files[0])).Status == 0
    assert [row.closed_at for row in associations(node)] == [None]
    association.abort()
    assert wait_until(lambda: associations(node)[0].closed_at is not None)


@pytest.mark.peer
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 5000,
        b"\x01\x00" + struct.pack(">I", 20) + b"\xff" * 20,
        b"\x04\x00" + struct.pack(">I", 0xFFFFFFFF) + b"\x00" * 100_000,
        bytes(range(256)) * 100,
    ],
    ids=["http", "zeros", "bad request", "4 GiB PDU", "bytes"],
)
def test_garbage_on_the_port_stops_nothing(node: Receiver, ct_files: list[Path], garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node.listener.port), timeout=10) as stranger:
        stranger.sendall(garbage)
        assert node.storescu(ct_files[0]).returncode == 0
    assert len(node.spooled) == 1


def test_a_pdu_larger_than_announced_is_cut_off(node: Receiver) -> None:
    with socket.create_connection(("127.0.0.1", node.listener.port), timeout=10) as stranger:
        stranger.sendall(b"\x01\x00" + struct.pack(">I", MAXIMUM_PDU + 1))
        assert stranger.recv(100) == b""


@pytest.mark.peer
def test_a_quota_answers_a700_over_the_wire(tmp_path: Path, ct_files: list[Path]) -> None:
    room = 3 * (ct_files[0].stat().st_size + 400)
    with receiver(tmp_path, limits={"spool_bytes": room}) as node:
        result = node.storescu("-d", *ct_files)
        assert "0xa700" in result.stdout
        assert result.returncode != 0
        assert len(node.spooled) == 3


@pytest.mark.peer
def test_a_full_disk_answers_a700_and_leaves_no_half_file(tmp_path: Path, ct_files: list[Path]) -> None:
    more = write(PhantomSpec(slices=60, rows=96, columns=96), tmp_path / "more")
    database_file = f"sqlite:///{tmp_path / 'node.sqlite'}"
    with (
        small_disk(tmp_path / "disk", "600k") as disk,
        receiver(disk, limits={"free_bytes": 0}, node={"database": database_file}) as node,
    ):
        result = node.storescu("-d", "-nh", *more)
        assert "0xa700" in result.stdout
        on_record = sizes_on_record(node, more)
        assert 0 < len(on_record) < len(more)
        assert {path: path.stat().st_size for path in node.spooled} == on_record


@pytest.mark.peer
@pytest.mark.parametrize("left", [0, 4, 8, 12, 20, 32], ids=lambda pages: f"{pages} pages left")
def test_a_disk_that_holds_the_database_too_may_fill_anywhere(tmp_path: Path, left: int) -> None:
    """What is left decides what finds no room first: the file, its folder, the record, or the association's."""
    files = write(PhantomSpec(slices=6, rows=96, columns=96), tmp_path / "files")
    with small_disk(tmp_path / "disk", "4m") as disk, receiver(disk, limits={"free_bytes": 0}) as node:
        ballast = disk / "ballast"
        free = os.statvfs(disk).f_bavail
        ballast.write_bytes(bytes((free - left) * 4096))
        result = node.storescu("-d", "-nh", *files)
        assert "0xa700" in result.stdout or result.returncode != 0
        assert {path: path.stat().st_size for path in node.spooled} == sizes_on_record(node, files)
        ballast.unlink()
        assert node.storescu(*files).returncode == 0
        assert {path: path.stat().st_size for path in node.spooled} == sizes_on_record(node, files)
        assert len(node.spooled) == len(files)


def sizes_on_record(node: Receiver, files: list[Path]) -> dict[Path, int]:
    """Size by path, as the ledger has it, of what came of a series."""
    series = pydicom.dcmread(files[0]).SeriesInstanceUID
    return {Path(row.path): row.size for row in node.intake.instances_of(series)}


@pytest.mark.peer
def test_a_locked_database_answers_a700_and_the_series_is_taken_later(
    tmp_path: Path, ct_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 200)
    with receiver(tmp_path) as node:
        engine = database.open_database(node.settings.database_url)
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            result = node.storescu("-d", ct_files[0])
        engine.dispose()
        assert "0xa700" in result.stdout
        assert node.storescu(*ct_files).returncode == 0
        assert len(node.spooled) == len(ct_files)


def test_an_end_that_could_not_be_recorded_is_recorded_later(
    tmp_path: Path, ct_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 200)
    with receiver(tmp_path) as node:
        association = associate(node, (CT, [ExplicitVRLittleEndian]))
        assert association.send_c_store(pydicom.dcmread(ct_files[0])).Status == 0
        engine = database.open_database(node.settings.database_url)
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            association.release()
            time.sleep(0.5)
        engine.dispose()
        assert wait_until(lambda: associations(node)[0].closed_at is not None)


@pytest.mark.peer
def test_files_are_readable_by_their_owner_alone(node: Receiver, ct_files: list[Path]) -> None:
    node.storescu(ct_files[0])
    assert [stat.S_IMODE(path.stat().st_mode) for path in node.spooled] == [0o600]
    assert stat.S_IMODE((node.settings.node.home / "spool").stat().st_mode) == 0o700


def test_a_second_listener_on_one_home_is_refused(node: Receiver) -> None:
    with pytest.raises(UsageError, match="another listener"):
        Listener(node.settings, node.intake, port=0).start()


def test_a_port_in_use_is_a_settings_error_and_frees_the_home(node: Receiver, tmp_path: Path) -> None:
    settings = Settings.model_validate({"node": {"home": str(tmp_path / "second"), "port": node.listener.port}})
    engine = database.open_database(settings.database_url)
    with pytest.raises(SettingsError, match="cannot listen"):
        Listener(settings, Intake(engine)).start()
    with receiver(tmp_path / "second"):
        pass
    engine.dispose()


def test_a_start_tidies_up_after_a_killed_listener(tmp_path: Path) -> None:
    with receiver(tmp_path) as node:
        name = (tmp_path / "listener.lock").read_text()
        node.intake.open_association(Association("left", name, "SCANNER", "127.0.0.1", 1.0))
        node.intake.open_association(Association("foreign", "another listener", "SCANNER", "127.0.0.1", 1.0))
        half = tmp_path / "spool" / "1.2" / "1.3" / ".0123.part"
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half")
    with receiver(tmp_path) as node:
        assert not half.exists()
        closed = {row.id: row.closed_at is not None for row in associations(node)}
    assert closed == {"left": True, "foreign": False}


@pytest.mark.peer
def test_stop_lets_the_instance_that_is_being_stored_finish(tmp_path: Path, ct_files: list[Path]) -> None:
    with receiver(tmp_path) as node:
        spool = node.listener._reception._spool
        began, write_now = threading.Event(), spool.write

        def slow(*arguments: object) -> Path:
            began.set()
            time.sleep(1.0)
            return write_now(*arguments)  # type: ignore[arg-type]

        spool.write = slow  # type: ignore[method-assign, assignment]
        results: list[subprocess.CompletedProcess[str]] = []
        sender = threading.Thread(target=lambda: results.append(node.storescu(ct_files[0])))
        sender.start()
        assert began.wait(10)
        node.listener.stop(grace_seconds=0.0)
        sender.join()
        assert "Received Store Response (Success)" in results[0].stdout
        assert node.intake.find(pydicom.dcmread(ct_files[0]).SOPInstanceUID) is not None
