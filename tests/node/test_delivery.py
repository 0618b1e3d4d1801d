"""A destination that is down: the case is held with the reason, and a retry delivers what was verified."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.settings import load_settings
from tests.machines.site import series_uid, small_series
from tests.peers import orthanc, orthanc_with_dicomweb, running, tool
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.quick.node import MODULE
from tests.running_node import RunningNode, write_config

pytestmark = pytest.mark.peer


def test_results_for_a_destination_that_was_down_are_delivered_without_being_made_again(tmp_path: Path) -> None:
    port = free_port()
    pacs = (
        f'[[destination]]\nname = "pacs"\nae_title = "STORE"\nhost = "127.0.0.1"\nport = {port}\nretry_seconds = [1]\n'
    )
    spec = PhantomSpec(
        modality="CT", anatomy="torso", slices=40, rows=64, columns=80,
        row_spacing=5.0, column_spacing=5.0, slice_spacing=10.0,
    )  # fmt: skip
    files = write(spec, tmp_path / "series")
    series = str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    stored = tmp_path / "stored"
    stored.mkdir()
    with RunningNode(write_config(tmp_path / "node", extra=pacs), module=MODULE) as node:
        node.send(files)
        (held,) = node.wait_for_cases([series], seconds=240)
        assert held["state"] == "held"
        assert "not delivered: pacs" in held["reason"]
        receiver = [tool("storescp"), "-aet", "STORE", "-od", str(stored), str(port)]
        with running(receiver, port, folder=tmp_path):
            node.command("cases", "retry", held["case_id"])
            (done,) = node.wait_for_cases([series], seconds=60)
    assert (done["state"], done["attempt"]) == ("done", 2)
    assert "segment" not in done["timings"]
    assert len(list(stored.iterdir())) == 2


def test_a_case_is_done_once_the_archive_has_committed_to_its_results(tmp_path: Path) -> None:
    """Orthanc reports over an association of its own, to the listener; the worker waits and sends nothing again."""
    files = small_series(tmp_path, 0)
    series = series_uid(files)
    config = write_config(tmp_path / "node")
    with orthanc(tmp_path / "orthanc", {"DICOM_NODE": load_settings(config).node.port}) as peer:
        pacs = (
            f'[[destination]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\n'
            f'port = {peer.destination.port}\nconfirm = "commitment"\n'
        )
        config.write_text(config.read_text() + pacs)
        with RunningNode(config, module=MODULE) as node:
            node.send(files)
            (done,) = node.wait_for_cases([series], seconds=240)
            shown = node.command("cases", "show", done["case_id"])
    assert done["state"] == "done"
    assert {(row["message"], row["attempts"]) for row in shown["deliveries"]} == {("committed to", 1)}


def test_results_reach_an_archive_by_stow_rs(tmp_path: Path) -> None:
    spec = PhantomSpec(
        modality="CT", anatomy="torso", slices=40, rows=64, columns=80,
        row_spacing=5.0, column_spacing=5.0, slice_spacing=10.0,
    )  # fmt: skip
    files = write(spec, tmp_path / "series")
    source = dcmread(files[0], stop_before_pixels=True)
    with orthanc_with_dicomweb(tmp_path / "orthanc") as peer:
        pacs = f'[[destination]]\nname = "pacs"\nurl = "http://127.0.0.1:{peer.http_port}/dicom-web"\n'
        with RunningNode(write_config(tmp_path / "node", extra=pacs), module=MODULE) as node:
            assert node.command("echo", "pacs")["confirms"]
            node.send(files)
            (done,) = node.wait_for_cases([str(source.SeriesInstanceUID)], seconds=240)
            shown = node.command("cases", "show", done["case_id"])
        stored = [peer.rest("GET", f"/series/{key}/") for key in peer.rest("GET", "/series")]
        studies = [peer.rest("GET", f"/studies/{key}") for key in peer.rest("GET", "/studies")]
    assert done["state"] == "done"
    assert {(row["destination"], row["state"], row["attempts"]) for row in shown["deliveries"]} == {
        ("pacs", "confirmed", 1)
    }
    assert sorted(series["MainDicomTags"]["Modality"] for series in stored) == ["RTSTRUCT", "SEG"]
    assert [study["MainDicomTags"]["StudyInstanceUID"] for study in studies] == [str(source.StudyInstanceUID)]
