"""A volume with a known ball, and a card whose tiny network has random weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import Dataset

from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.volume import SourceSlice, Volume
from models.network import NetworkShape, SharedNetwork
from models.training import export_weights
from tests.phantoms import PhantomSpec, geometry_of
from tests.segment.geometries import voxel_positions

STRUCTURES = ("Liver", "Spleen", "A_Aorta")
BALL_RADIUS = 16.0


def ball_volume(source: Geometry, modality: str = "CT") -> Volume:
    """A ball of 500 (HU) in a body of -300 (HU) around the middle of the source, 7 mm towards the patient's left."""
    positions = voxel_positions(source)
    centre = positions.reshape(-1, 3).mean(0) + np.array([7.0, 0.0, 0.0])
    inside = BALL_RADIUS - np.linalg.norm(positions - centre, axis=-1)
    voxels = (100 + np.clip(inside / 2.0, -1, 1) * 400).astype(np.int16)
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    header.SOPInstanceUID = "1.2.3.1"
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3", "1.2.3.0"
    header.Modality = modality
    header.PatientName = "Phantom^Anna"
    header.PixelSpacing = ["1.5", "1.0"]
    slices = tuple(
        SourceSlice(Path(f"{k}.dcm"), str(header.SOPClassUID), f"1.2.3.{k + 1}") for k in range(len(source.origins))
    )
    return Volume(voxels, source, modality, "1.2.3.9", slices, header)


@pytest.fixture
def volume() -> Volume:
    return ball_volume(geometry_of(PhantomSpec(slices=20, rows=40, columns=48, row_spacing=1.5)))


@pytest.fixture(scope="session")
def tiny_card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card file with weights that segment nonsense, but do so every time in the same way."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(3)
    shape = NetworkShape(outputs={"torso": len(STRUCTURES) + 1}, filters=4, blocks_down=(1, 1), blocks_up=(1,),
                         supervised_levels=1)  # fmt: skip
    export_weights(SharedNetwork(shape).state_dict(), shape, folder / "tiny.safetensors")
    digest = hashlib.sha256((folder / "tiny.safetensors").read_bytes()).hexdigest()
    (folder / "tiny.toml").write_text(
        f"""
name = "tiny"
version = "1"
anatomy = "torso"
modalities = ["CT", "MR"]
structures = {list(STRUCTURES)}
spacing_mm = [4.0, 4.0, 4.0]
window = [16, 16, 16]
[weights]
file = "tiny.safetensors"
sha256 = "{digest}"
"""
    )
    return folder / "tiny.toml"
