"""Volumes and segmentations survive their way through files, and damage is noticed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import SegmentationFailed
from dicom_node.imaging.certainty import Certainty
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.segment.exchange import (
    StoredFolder,
    load_mask,
    load_segmentation,
    load_volume,
    save_mask,
    save_segmentation,
    save_volume,
)
from dicom_node.segment.segmentation import Segmentation


def segmentation_of(volume: Volume) -> Segmentation:
    labels = np.random.default_rng(0).integers(0, 3, volume.voxels.shape).astype(np.uint8)
    anatomy = load_anatomy()
    certainty = Certainty(np.where(labels, 200, 255).astype(np.uint8), (labels + 1) % 3)
    label_volume = LabelVolume(labels, volume.geometry, {1: anatomy["Liver"], 2: anatomy["Spleen"]}, certainty)
    return Segmentation(label_volume, {"Liver": 0.93}, {"Liver": 0.4}, {"network": 1.5}, "torso", "1", "ab" * 32)


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_volume_comes_back_as_it_was(volume: Volume, kind: type[np.int16], tmp_path: Path) -> None:
    volume = replace(volume, voxels=volume.voxels.astype(kind), frame_of_reference_uid=None)
    loaded = load_volume(save_volume(volume, tmp_path / "new" / "volume"))
    assert loaded.voxels.dtype == kind
    np.testing.assert_array_equal(loaded.voxels, volume.voxels)
    np.testing.assert_array_equal(loaded.geometry.origins, volume.geometry.origins)
    assert loaded.geometry.same_grid(volume.geometry, 0.0)
    assert (loaded.modality, loaded.frame_of_reference_uid) == ("CT", None)
    assert loaded.sources == volume.sources
    assert loaded.header == volume.header


def test_voxels_are_mapped_and_not_read(volume: Volume, tmp_path: Path) -> None:
    assert isinstance(load_volume(save_volume(volume, tmp_path)).voxels, np.memmap)


def test_frames_of_a_multi_frame_object_keep_their_numbers(volume: Volume, tmp_path: Path) -> None:
    frames = tuple(SourceSlice(Path("one.dcm"), "1.2", "1.2.3", n + 1) for n in range(len(volume.sources)))
    assert load_volume(save_volume(replace(volume, sources=frames), tmp_path)).sources == frames


def test_a_big_endian_header_comes_back_as_it_was(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "big.dcm"
    dataset = Dataset()
    dataset.update(volume.header)
    dataset.Rows = 258
    dataset.save_as(path, implicit_vr=False, little_endian=False)
    loaded = load_volume(save_volume(replace(volume, header=dcmread(path, force=True)), tmp_path / "volume"))
    assert loaded.header.Rows == 258
    assert loaded.header.PatientName == "Phantom^Anna"


def test_a_segmentation_comes_back_as_it_was(volume: Volume, tmp_path: Path) -> None:
    original = segmentation_of(volume)
    loaded = load_segmentation(save_segmentation(original, tmp_path))
    np.testing.assert_array_equal(loaded.label_volume.labels, original.label_volume.labels)
    certainty, expected = loaded.label_volume.certainty, original.label_volume.certainty
    assert certainty is not None
    assert expected is not None
    np.testing.assert_array_equal(certainty.winner, expected.winner)
    np.testing.assert_array_equal(certainty.runner_up, expected.runner_up)
    assert isinstance(certainty.winner, np.memmap)
    assert loaded.label_volume.structures == original.label_volume.structures
    assert replace(loaded, label_volume=original.label_volume) == original


def test_what_knows_no_certainty_comes_back_without(volume: Volume, tmp_path: Path) -> None:
    original = segmentation_of(volume)
    original = replace(original, label_volume=replace(original.label_volume, certainty=None))
    stored = save_segmentation(original, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"labels.npy", "segmentation.json"}
    assert load_segmentation(stored).label_volume.certainty is None


def test_an_unfinished_folder_is_refused(volume: Volume, tmp_path: Path) -> None:
    stored = save_volume(volume, tmp_path)
    (tmp_path / "volume.json").unlink()
    with pytest.raises(SegmentationFailed, match="never finished"):
        load_volume(stored)


@pytest.mark.parametrize("name", ["volume.json", "voxels.npy", "header.dcm"])
def test_a_changed_byte_is_noticed(volume: Volume, tmp_path: Path, name: str) -> None:
    stored = save_volume(volume, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SegmentationFailed, match="not what was written"):
        load_volume(stored)


@pytest.mark.parametrize("name", ["labels.npy", "winner.npy", "runner_up.npy"])
def test_a_missing_array_is_noticed(volume: Volume, tmp_path: Path, name: str) -> None:
    stored = save_segmentation(segmentation_of(volume), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(SegmentationFailed, match="is missing"):
        load_segmentation(stored)


def test_storing_again_replaces_and_gives_the_same_hash(volume: Volume, tmp_path: Path) -> None:
    first = save_volume(volume, tmp_path)
    assert save_volume(volume, tmp_path) == first == StoredFolder(tmp_path, first.sha256)


def test_nothing_pickled_is_read(volume: Volume, tmp_path: Path) -> None:
    save_volume(volume, tmp_path)
    np.save(tmp_path / "voxels.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickle|Object arrays|hasobject|objects"):
        load_volume(tmp_path)


def test_the_parents_side_never_loads_torch() -> None:
    code = (
        "import sys, dicom_node.segment.compression, dicom_node.segment.inference_process;"
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_mask_comes_back_and_a_changed_one_does_not(tmp_path: Path) -> None:
    mask = (np.random.default_rng(1).random((5, 7, 11)) < 0.5).astype(np.uint8)
    path = tmp_path / "outline.npy"
    sha256 = save_mask(mask, path)
    assert np.array_equal(load_mask(path, sha256), mask)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SegmentationFailed, match="not what was written"):
        load_mask(path, sha256)
