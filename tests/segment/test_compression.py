"""A finished case's segmentation in little room: whole at any moment, and the same bits afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import SegmentationFailed
from dicom_node.imaging.volume import Volume
from dicom_node.segment import compression
from dicom_node.segment.compression import COMPRESSED_FILE, compress_segmentation, load_compressed
from dicom_node.segment.exchange import StoredFolder, load_segmentation, save_segmentation
from dicom_node.segment.segmentation import Segmentation
from tests.segment.test_exchange import segmentation_of


@pytest.fixture
def original(volume: Volume) -> Segmentation:
    return segmentation_of(volume)


@pytest.fixture
def stored(original: Segmentation, tmp_path: Path) -> StoredFolder:
    return save_segmentation(original, tmp_path / "segmentation")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_same(found: Segmentation, expected: Segmentation) -> None:
    ours, theirs = found.label_volume, expected.label_volume
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.certainty is not None
    assert theirs.certainty is not None
    np.testing.assert_array_equal(ours.certainty.winner, theirs.certainty.winner)
    np.testing.assert_array_equal(ours.certainty.runner_up, theirs.certainty.runner_up)
    assert ours.structures == theirs.structures
    assert ours.geometry.same_grid(theirs.geometry, 0.0)
    assert replace(found, label_volume=theirs) == expected


def test_the_arrays_become_one_file_that_numpy_reads(original: Segmentation, stored: StoredFolder) -> None:
    compress_segmentation(stored)
    assert names(stored.folder) == {"segmentation.json", COMPRESSED_FILE}
    assert_same(load_compressed(stored), original)
    with np.load(stored.folder / COMPRESSED_FILE, allow_pickle=False) as arrays:
        assert set(arrays) == {"labels", "winner", "runner_up"}
        np.testing.assert_array_equal(arrays["labels"], original.label_volume.labels)


def test_without_certainty_there_are_only_labels(original: Segmentation, tmp_path: Path) -> None:
    stored = save_segmentation(replace(original, label_volume=replace(original.label_volume, certainty=None)), tmp_path)
    compress_segmentation(stored)
    loaded = load_compressed(stored).label_volume
    assert loaded.certainty is None
    np.testing.assert_array_equal(loaded.labels, original.label_volume.labels)


def test_doing_it_again_changes_nothing(stored: StoredFolder) -> None:
    compress_segmentation(stored.folder)
    first = (stored.folder / COMPRESSED_FILE).stat()
    compress_segmentation(stored)
    assert (stored.folder / COMPRESSED_FILE).stat() == first


@pytest.mark.parametrize("left", [("labels.npy",), ("winner.npy", "runner_up.npy"), ()])
def test_after_a_crash_while_removing_it_goes_on(
    original: Segmentation, stored: StoredFolder, left: tuple[str, ...]
) -> None:
    kept = {name: (stored.folder / name).read_bytes() for name in left}
    compress_segmentation(stored)
    for name, content in kept.items():
        (stored.folder / name).write_bytes(content)
    assert_same(load_compressed(stored), original)
    compress_segmentation(stored)
    assert names(stored.folder) == {"segmentation.json", COMPRESSED_FILE}
    assert_same(load_compressed(stored), original)


def test_a_crash_before_the_file_is_durable_leaves_the_arrays(
    original: Segmentation, stored: StoredFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path, chunks: Iterable[bytes]) -> None:
        assert any(chunks)
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(compression, "write_durably", crash)
        with pytest.raises(OSError, match="power cut"):
            compress_segmentation(stored)
    assert_same(load_segmentation(stored), original)
    compress_segmentation(stored)
    assert_same(load_compressed(stored), original)


def test_a_file_that_was_written_wrongly_costs_no_array(
    original: Segmentation, stored: StoredFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "write_durably", lambda path, chunks: path.write_bytes(b"".join(chunks)[:-100]))
    with pytest.raises(SegmentationFailed, match="does not hold"):
        compress_segmentation(stored)
    assert_same(load_segmentation(stored), original)


def test_a_segmentation_made_anew_replaces_the_compressed_one(original: Segmentation, stored: StoredFolder) -> None:
    compress_segmentation(stored)
    labels = original.label_volume
    anew = replace(original, label_volume=replace(labels, labels=2 - labels.labels))
    again = save_segmentation(anew, stored.folder)
    with pytest.raises(SegmentationFailed, match="not what was written"):
        load_compressed(again)
    compress_segmentation(again)
    assert_same(load_compressed(again), anew)


def test_changed_arrays_are_not_compressed(stored: StoredFolder) -> None:
    content = bytearray((stored.folder / "winner.npy").read_bytes())
    content[-1] ^= 1
    (stored.folder / "winner.npy").write_bytes(content)
    with pytest.raises(SegmentationFailed, match="not what was written"):
        compress_segmentation(stored)
    assert names(stored.folder) == {"segmentation.json", "labels.npy", "winner.npy", "runner_up.npy"}


def test_damage_is_noticed(stored: StoredFolder) -> None:
    compress_segmentation(stored)
    path = stored.folder / COMPRESSED_FILE
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:500] + bytes([whole[500] ^ 255]) + whole[501:], b""):
        path.write_bytes(damaged)
        with pytest.raises(SegmentationFailed, match="not what was written"):
            load_compressed(stored)
    path.unlink()
    with pytest.raises(SegmentationFailed, match="is missing"):
        load_compressed(stored)
