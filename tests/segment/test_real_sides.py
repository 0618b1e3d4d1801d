"""Left and right on real scans: what the network calls left lies to the patient's left."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dicom_node.imaging.series import load_series
from dicom_node.segment.segmenter import Segmenter
from models.card import FAST, load_card
from models.evaluation import segment
from models.inference import load_network
from models.nifti import read_nifti

pytestmark = pytest.mark.slow

LEAST_ML = 3.0
"""Structures smaller than this do not tell a side."""
TORSO = load_card("torso" + FAST)


def sides(labels: npt.NDArray[np.uint8], millilitres: float) -> dict[str, float]:
    """By name without its side, how many voxels the left one lies to the left of the right one (last axis to left)."""
    places = {}
    for label, name in enumerate(TORSO.structures, start=1):
        voxels = np.flatnonzero((labels == label).any((0, 1)))
        if float((labels == label).sum()) * millilitres > LEAST_ML:
            weights = (labels == label).sum((0, 1))[voxels]
            places[name] = float(np.average(voxels, weights=weights))
    pairs = [name[:-2] for name in places if name.endswith("_L") and f"{name[:-2]}_R" in places]
    return {name: places[f"{name}_L"] - places[f"{name}_R"] for name in pairs}


@pytest.mark.parametrize(
    ("place", "modality", "expected"),
    [
        ("ct_abdomen_pelvis_TS_example/example_ct.nii.gz", "CT", {"Kidney", "Pelvis", "Femur", "ErectorSpinae"}),
        ("mr_abdomen_TS/example_mr_sm.nii.gz", "MR", {"Kidney", "ErectorSpinae"}),
    ],
)
def test_nothing_is_exchanged_on_a_real_volume(place: str, modality: str, expected: set[str], test_data: Path) -> None:
    scan = read_nifti(test_data / place)
    labels = segment(load_network(TORSO), TORSO, scan, modality)
    found = sides(labels, float(np.prod(scan.spacing)) / 1000)
    assert expected <= set(found)
    assert min(found.values()) > 0, found


def test_nothing_is_exchanged_on_a_real_series(test_data: Path, tmp_path: Path) -> None:
    with tarfile.open(test_data / "ct_thorax_LIDC-IDRI-0003" / "LIDC-IDRI-0003.tar.xz") as archive:
        archive.extractall(tmp_path, members=[member for member in archive if member.isfile()])
    volume = load_series([tmp_path])
    labels = Segmenter("cpu").segment(volume, TORSO.name).label_volume.labels
    spacing = volume.geometry
    voxel_ml = spacing.slice_spacing * spacing.row_spacing * spacing.column_spacing / 1000
    assert spacing.row_direction[0] > 0.99  # columns run to the patient's left
    found = sides(labels, voxel_ml)
    assert "Lung" in found
    assert min(found.values()) > 0, found
