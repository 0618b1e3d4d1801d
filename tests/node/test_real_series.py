"""The main job on real input: a chest CT and a prostate MR by storescu, SEG and RTSTRUCT back into their studies."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.deliver.confirmation import Reference, confirm
from tests.peers import CALLING_AE, Peer, orthanc, run_tool
from tests.running_node import RunningNode, write_config

pytestmark = [pytest.mark.peer, pytest.mark.slow]

CASE_SECONDS = 900.0


@pytest.fixture(scope="module")
def real_series(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the chest CT and the prostate MR by modality."""
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(test_data / "ct_thorax_LIDC-IDRI-0003" / "LIDC-IDRI-0003.tar.xz") as archive:
        archive.extractall(folder / "CT", members=[member for member in archive if member.isfile()])
    with zipfile.ZipFile(test_data / "mr_prostate_QIN_ADC" / "pm-example-dcm.zip") as archive:
        archive.extractall(folder / "MR")
    return {modality: _keep_modality(folder / modality, modality) for modality in ("CT", "MR")}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        yield peer


@pytest.fixture(scope="module")
def node(pacs: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    destination = pacs.destination
    extra = (
        f'[[destination]]\nname = "pacs"\nae_title = "{destination.ae_title}"\n'
        f'host = "127.0.0.1"\nport = {destination.port}\n'
    )
    with RunningNode(write_config(tmp_path_factory.mktemp("node"), extra=extra)) as node:
        yield node


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_real_series_comes_back_as_seg_and_rtstruct(
    modality: str, real_series: dict[str, Path], node: RunningNode, pacs: Peer
) -> None:
    files = sorted(real_series[modality].rglob("*.dcm"))
    source = dcmread(files[0], stop_before_pixels=True)
    port = str(node.settings.node.port)
    sent = run_tool("storescu", "-aec", CALLING_AE, "127.0.0.1", port, "+sd", "+r", real_series[modality], timeout=300)
    assert sent.returncode == 0, sent.stdout
    (case,) = node.wait_for_cases([str(source.SeriesInstanceUID)], seconds=CASE_SECONDS)
    assert (case["state"], case["reason"]) == ("done", None)
    shown = node.command("cases", "show", case["case_id"])
    print(f"\n{modality}, {len(files)} images, seconds by step: {shown['seconds']}")
    results = [dcmread(result["path"], stop_before_pixels=True) for result in case["outputs"]["results"]]
    assert sorted(str(result.Modality) for result in results) == ["RTSTRUCT", "SEG"]
    references = [
        Reference(str(source.StudyInstanceUID), str(result.SeriesInstanceUID), str(result.SOPInstanceUID))
        for result in results
    ]
    there = confirm(pacs.destination, references, CALLING_AE)
    assert there == {str(result.SOPInstanceUID): True for result in results}


def _keep_modality(folder: Path, modality: str) -> Path:
    """Leave the image series alone in a folder (archives also hold reports and macOS files)."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.suffix != ".dcm" or dcmread(path, force=True, specific_tags=["Modality"]).get("Modality") != modality:
            path.unlink()
    return folder
