"""The embedded archive against this node's own sender and dcmtk's clients."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.archive import Archive
from dicom_node.deliver.confirmation import Reference, confirm
from dicom_node.deliver.echo import echo
from dicom_node.deliver.sender import send
from dicom_node.errors import SettingsError
from dicom_node.settings import DestinationTable, Settings
from tests.peers import CALLING_AE, destination, run_tool
from tests.phantoms import PhantomSpec, write


@contextmanager
def archive(home: Path, **tables: object) -> Iterator[DestinationTable]:
    settings = Settings.model_validate({"node": {"home": str(home)}, **tables})
    running = Archive(settings, port=0)
    running.start()
    try:
        yield destination("embedded", settings.archive.ae_title, running.port)
    finally:
        running.stop()


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(PhantomSpec(slices=4), tmp_path_factory.mktemp("series"))


def reference_of(path: Path) -> Reference:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return Reference(str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))


def stored(home: Path) -> list[Path]:
    return sorted(path for path in (home / "archive").rglob("*") if path.is_file())


def test_what_is_stored_lies_under_its_uids_and_is_confirmed(tmp_path: Path, series: list[Path]) -> None:
    with archive(tmp_path) as where:
        assert all(outcome.ok for outcome in send(where, series, CALLING_AE))
        references = [reference_of(path) for path in series]
        assert confirm(where, references, CALLING_AE) == {one.sop_instance_uid: True for one in references}
    one = references[0]
    path = tmp_path / "archive" / one.study_instance_uid / one.series_instance_uid / f"{one.sop_instance_uid}.dcm"
    assert pydicom.dcmread(path) == pydicom.dcmread(series[0])


def test_it_knows_what_it_has_after_a_restart(tmp_path: Path, series: list[Path]) -> None:
    with archive(tmp_path) as where:
        send(where, series[:2], CALLING_AE)
    with archive(tmp_path) as where:
        answer = confirm(where, [reference_of(path) for path in series[:3]], CALLING_AE)
    assert answer is not None
    assert list(answer.values()) == [True, True, False]


def test_the_same_object_twice_is_kept_once_and_another_refused(tmp_path: Path, series: list[Path]) -> None:
    other = pydicom.dcmread(series[0])
    other.ImageComments = "another"
    other.save_as(tmp_path / "other.dcm")
    with archive(tmp_path / "home") as where:
        assert [send(where, series[:1], CALLING_AE)[0].status for _ in range(2)] == [0, 0]
        assert send(where, [tmp_path / "other.dcm"], CALLING_AE)[0].status == 0x0111
    assert len(stored(tmp_path / "home")) == 1


def test_it_takes_segmentations_and_structure_sets(tmp_path: Path) -> None:
    with archive(tmp_path) as where:
        report = echo(where, CALLING_AE)
    assert report.reachable
    assert report.confirms
    assert all(report.accepted.values())


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_path_in_a_uid_is_refused(tmp_path: Path, series: list[Path]) -> None:
    evil = pydicom.dcmread(series[0])
    evil.StudyInstanceUID = "../../evil"
    evil.save_as(tmp_path / "evil.dcm")
    with archive(tmp_path / "home") as where:
        assert send(where, [tmp_path / "evil.dcm"], CALLING_AE)[0].status == 0xC000
    assert stored(tmp_path / "home") == []


def test_a_damaged_file_is_left_out_and_stops_nothing(tmp_path: Path, series: list[Path]) -> None:
    with archive(tmp_path) as where:
        send(where, series[:1], CALLING_AE)
    (tmp_path / "archive" / "note.dcm").write_text("not DICOM")
    with archive(tmp_path) as where:
        assert confirm(where, [reference_of(series[0])], CALLING_AE) == {reference_of(series[0]).sop_instance_uid: True}


def test_another_called_title_is_rejected(tmp_path: Path) -> None:
    with archive(tmp_path) as where:
        report = echo(where.model_copy(update={"ae_title": "OTHER"}), CALLING_AE)
    assert not report.reachable
    assert "Called AE title not recognised" in report.reason


def test_a_port_in_use_is_a_settings_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings.model_validate({"node": {"home": str(tmp_path)}})
        with pytest.raises(SettingsError, match="cannot listen"):
            Archive(settings, port=taken.getsockname()[1]).start()


@pytest.mark.peer
@pytest.mark.parametrize(("level", "count"), [("STUDY", 1), ("SERIES", 1), ("IMAGE", 4)])
def test_findscu_lists_each_level(tmp_path: Path, series: list[Path], level: str, count: int) -> None:
    keys = reference_of(series[0])
    query = ["-k", f"QueryRetrieveLevel={level}", "-k", f"StudyInstanceUID={keys.study_instance_uid}"]
    query += ["-k", "SeriesInstanceUID", "-k", "SOPInstanceUID", "-k", "PatientID", "-k", "Modality"]
    with archive(tmp_path) as where:
        send(where, series, CALLING_AE)
        result = run_tool("findscu", "-S", "-aec", where.ae_title, "127.0.0.1", str(where.port), *query)
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("Find Response:") == count
    assert "[CT]" in result.stdout


@pytest.mark.peer
def test_findscu_finds_nothing_of_another_study(tmp_path: Path, series: list[Path]) -> None:
    query = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
    with archive(tmp_path) as where:
        send(where, series, CALLING_AE)
        result = run_tool("findscu", "-S", "-aec", where.ae_title, "127.0.0.1", str(where.port), *query)
    assert result.returncode == 0
    assert "Find Response:" not in result.stdout


@pytest.mark.peer
def test_getscu_gets_the_series_back(tmp_path: Path, series: list[Path]) -> None:
    keys = reference_of(series[0])
    query = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={keys.study_instance_uid}"]
    query += ["-k", f"SeriesInstanceUID={keys.series_instance_uid}"]
    (tmp_path / "got").mkdir()
    with archive(tmp_path / "home") as where:
        send(where, series, CALLING_AE)
        port = str(where.port)
        result = run_tool("getscu", "-S", "-aec", where.ae_title, "-od", tmp_path / "got", "127.0.0.1", port, *query)
    assert result.returncode == 0, result.stdout
    got = {read.SOPInstanceUID: read.PixelData for read in map(pydicom.dcmread, (tmp_path / "got").iterdir())}
    sent = {read.SOPInstanceUID: read.PixelData for read in map(pydicom.dcmread, series)}
    assert got == sent


def test_an_unknown_query_level_is_refused(tmp_path: Path) -> None:
    query = pydicom.Dataset()
    query.QueryRetrieveLevel = "PATIENT"
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    with archive(tmp_path) as where:
        entity = AE(ae_title=CALLING_AE)
        association = entity.associate("127.0.0.1", where.port, contexts=[build_context(find)], ae_title=where.ae_title)
        answers = [status.Status for status, _ in association.send_c_find(query, find)]
        association.release()
    assert answers == [0xA900]
