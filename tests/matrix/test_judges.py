"""SEG and RTSTRUCT of every case, as programs of others read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.judges import Labels, dcentvfy, dciodvfy, dcmqi_masks, plastimatch_masks, pyradplan_masks
from tests.matrix.agreement import Mask, worst
from tests.matrix.cases import CASES, Case
from tests.matrix.written import Written, write_case

pytestmark = pytest.mark.peer

DCMQI_READS = [case for case in CASES if case.is_uniform]
"""The others it puts on one regular grid, with a warning; test_results.py judges them."""
PLASTIMATCH_READS = [case for case in CASES if case.plastimatch_reads_it]
PYRADPLAN_READS = [case for case in CASES if case.pyradplan_reads_it]


def test_dicom3tools_find_no_fault(written: Written, tmp_path: Path) -> None:
    assert dciodvfy(written.seg) == []
    assert dciodvfy(written.rtstruct) == []
    assert dcentvfy([*_for_dicom3tools(written, tmp_path), written.seg, written.rtstruct]) == []


@pytest.mark.parametrize("written", DCMQI_READS, ids=str, indirect=True, scope="module")
def test_dcmqi_reads_every_voxel(written: Written, tmp_path: Path) -> None:
    found = _masks(dcmqi_masks(written.seg, written.planes, tmp_path / "dcmqi"))
    assert set(found) == set(written.truth)
    assert worst(found, written.truth, written.planes.voxel_volumes).dice == 1.0


@pytest.mark.parametrize("written", PLASTIMATCH_READS, ids=str, indirect=True, scope="module")
def test_plastimatch_reads_every_structure(written: Written, tmp_path: Path) -> None:
    found = _masks(plastimatch_masks(written.rtstruct, written.series, written.planes, tmp_path / "plastimatch"))
    agreed = worst(found, written.truth, written.planes.voxel_volumes)
    assert agreed.dice >= 0.99, agreed
    assert agreed.volume_error <= 0.02, agreed


@pytest.fixture(scope="module")
def pyradplan(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[dict[Case, Written], dict[str, dict[str, Labels] | str]]]:
    """Every case that pyRadPlan reads, and what it reads: one process for all."""
    folder = tmp_path_factory.mktemp("pyradplan")
    cases = {case: write_case(case, folder / f"case {number}") for number, case in enumerate(PYRADPLAN_READS)}
    rtstructs = {case.name: (written.rtstruct, written.series, written.planes) for case, written in cases.items()}
    yield cases, pyradplan_masks(rtstructs, folder / "pyradplan")
    for written in cases.values():
        written.remove()


@pytest.mark.parametrize("case", PYRADPLAN_READS, ids=str)
def test_pyradplan_reads_every_structure(
    case: Case, pyradplan: tuple[dict[Case, Written], dict[str, dict[str, Labels] | str]]
) -> None:
    written, found = pyradplan[0][case], pyradplan[1][case.name]
    assert isinstance(found, dict), found
    agreed = worst(_masks(found), written.truth, written.planes.voxel_volumes)
    assert agreed.dice >= 0.99, agreed
    assert agreed.volume_error <= 0.02, agreed


def _masks(labels: dict[str, Labels]) -> dict[str, Mask]:
    return {name: values > 0 for name, values in labels.items()}


def _for_dicom3tools(written: Written, folder: Path) -> list[Path]:
    """The source files; dicom3tools cannot inflate, so deflated ones are written again."""
    paths = sorted(written.series.iterdir())
    if written.case.spec.transfer_syntax != DeflatedExplicitVRLittleEndian:
        return paths
    inflated = []
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / path.name)
        inflated.append(folder / path.name)
    return inflated
