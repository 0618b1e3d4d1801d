"""What programs of others say about our results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import write_object
from dicom_node.results.rtstruct import encode_rtstruct
from tests.judges import dcentvfy, dciodvfy, dcmqi_masks, plastimatch_masks
from tests.phantoms import write
from tests.results.sources import EVERY, PROVENANCE, labels_of, phantom, volume_of

pytestmark = pytest.mark.peer

DCMQI_READS = ["axial", "sagittal", "coronal", "oblique", "anisotropic", "flipped rows", "prone", "feet first"]
"""Uniform series; tilted and unevenly spaced ones dcmqi puts on one regular grid, with a warning."""
PLASTIMATCH_READS = ["axial", "anisotropic"]
"""Axial CT is what plastimatch rasterises structure sets on."""


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second)))


def write_results(name: str, folder: Path) -> tuple[Path, Path, list[Path]]:
    """A SEG, an RTSTRUCT and the files of their series."""
    volume, labels = volume_of(phantom(name)), labels_of(phantom(name))
    seg, rtstruct = folder / "result.seg.dcm", folder / "result.rtstruct.dcm"
    write_object(seg, encode_seg(volume, labels, PROVENANCE))
    write_object(rtstruct, encode_rtstruct(volume, labels, PROVENANCE, allow_irregular=True))
    return seg, rtstruct, write(EVERY[name], folder / "series")


@pytest.mark.parametrize("name", EVERY)
def test_dicom3tools_find_no_fault(name: str, tmp_path: Path) -> None:
    seg, rtstruct, series = write_results(name, tmp_path)
    assert dciodvfy(seg) == []
    assert dciodvfy(rtstruct) == []
    assert dcentvfy([*series, seg, rtstruct]) == []


def test_dicom3tools_find_no_fault_in_any_structure_of_the_anatomy(tmp_path: Path) -> None:
    source = phantom("axial")
    structures = dict(enumerate(load_anatomy().values(), start=1))
    labels = np.zeros_like(source.labels)
    labels[4:6, : len(structures), 5:30] = np.arange(1, len(structures) + 1)[:, None]  # one row of pixels each
    label_volume = LabelVolume(labels, source.geometry, structures)
    provenance = replace(PROVENANCE, weights_sha256="", algorithm_type="SEMIAUTOMATIC")
    write_object(tmp_path / "all.seg.dcm", encode_seg(volume_of(source), label_volume, provenance))
    write_object(tmp_path / "all.rtstruct.dcm", encode_rtstruct(volume_of(source), label_volume, provenance))
    assert dciodvfy(tmp_path / "all.seg.dcm") == []
    assert dciodvfy(tmp_path / "all.rtstruct.dcm") == []


@pytest.mark.parametrize("name", DCMQI_READS)
def test_dcmqi_reads_every_voxel(name: str, tmp_path: Path) -> None:
    seg, _, _ = write_results(name, tmp_path)
    masks = dcmqi_masks(seg, phantom(name).geometry, tmp_path / "dcmqi")
    assert set(masks) == set(phantom(name).names.values())
    for label, structure in phantom(name).names.items():
        assert dice(masks[structure] > 0, phantom(name).labels == label) == 1.0


@pytest.mark.parametrize("name", PLASTIMATCH_READS)
def test_plastimatch_reads_every_structure(name: str, tmp_path: Path) -> None:
    _, rtstruct, _ = write_results(name, tmp_path)
    masks = plastimatch_masks(rtstruct, tmp_path / "series", phantom(name).geometry, tmp_path / "plastimatch")
    volumes = {}
    for label, structure in phantom(name).names.items():
        expected, found = phantom(name).labels == label, masks[structure] > 0
        volumes[structure] = np.count_nonzero(found) / np.count_nonzero(expected)
        assert dice(found, expected) >= 0.99, structure
    assert all(abs(ratio - 1) <= 0.02 for ratio in volumes.values()), volumes
