from __future__ import annotations

import os
import resource
import struct
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused, StorageFull
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import read_object, refusing_damage, to_bytes, write_object
from tests.results.sources import PROVENANCE, labels_of, phantom, volume_of, with_header


def segmentation() -> Dataset:
    return encode_seg(volume_of(phantom("axial")), labels_of(phantom("axial")), PROVENANCE)


def test_the_file_holds_the_bytes_of_the_object(tmp_path: Path) -> None:
    write_object(tmp_path / "object.dcm", segmentation())
    assert (tmp_path / "object.dcm").read_bytes() == to_bytes(segmentation())
    assert [path.name for path in tmp_path.iterdir()] == ["object.dcm"]


def test_an_object_is_read_from_its_file_and_from_its_bytes(tmp_path: Path) -> None:
    write_object(tmp_path / "object.dcm", segmentation())
    assert read_object(tmp_path / "object.dcm") == read_object(to_bytes(segmentation()))


def test_what_is_no_dicom_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.dcm").write_text("no object", encoding="ascii")
    with pytest.raises(InputRefused, match=r"note\.dcm is not a readable DICOM file"):
        read_object(tmp_path / "note.dcm")
    with pytest.raises(InputRefused, match="the object is not"):
        read_object(b"no object")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 16 KiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_files")
def test_a_file_for_which_there_is_no_room_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match=r"no room to write object.dcm: File too large"):
        write_object(tmp_path / "object.dcm", segmentation())
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_that_cannot_be_encoded_leaves_no_trace(tmp_path: Path) -> None:
    dataset = segmentation()
    del dataset.file_meta.TransferSyntaxUID
    with pytest.raises(AttributeError, match="Transfer Syntax UID"):
        write_object(tmp_path / "object.dcm", dataset)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_fsynced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, move = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        calls.append(f"fsync {os.fstat(descriptor).st_size > 16384}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("rename"), move(self, to))[1])
    write_object(tmp_path / "object.dcm", segmentation())
    assert calls[:2] == ["fsync True", "rename"]


@pytest.mark.parametrize("characters", [None, "ISO_IR 100", "ISO_IR 192", ["", "ISO 2022 IR 87"]])
def test_encoded_functional_groups_are_written_as_they_stand(characters: str | list[str] | None) -> None:
    volume = with_header(volume_of(phantom("axial")))
    if characters:
        volume.header.SpecificCharacterSet = characters
    dataset = encode_seg(volume, labels_of(phantom("axial")), PROVENANCE)
    assert read_object(to_bytes(dataset)).NumberOfFrames == len(dataset.PerFrameFunctionalGroupsSequence)
    again = encode_seg(volume, labels_of(phantom("axial")), PROVENANCE)
    to_bytes(again)
    assert again.get_item("PerFrameFunctionalGroupsSequence").is_raw


def large() -> tuple[Volume, LabelVolume]:
    """Twenty bars through 64 slices of 256 x 256: 1280 frames, 10 MiB of bits from 4 MiB of labels."""
    geometry = Geometry(
        origins=np.array([[0.0, 0.0, 2.0 * k] for k in range(64)]),
        row_direction=np.array([1.0, 0.0, 0.0]),
        column_direction=np.array([0.0, 1.0, 0.0]),
        row_spacing=1.0,
        column_spacing=1.0,
        rows=256,
        columns=256,
    )
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    for label in range(1, 21):
        labels[:, 12 * label - 10 : 12 * label, 20:200] = label
    structures = dict(enumerate(list(load_anatomy().values())[:20], start=1))
    small = volume_of(phantom("axial"))
    volume = replace(
        small,
        geometry=geometry,
        voxels=np.broadcast_to(np.int16(0), geometry.shape),
        sources=tuple(SourceSlice(Path("x"), small.sources[0].sop_class_uid, f"1.2.{k}") for k in range(64)),
    )
    return volume, LabelVolume(labels, geometry, structures)


def test_encoding_and_writing_take_less_memory_than_the_labels(tmp_path: Path) -> None:
    volume, labels = large()
    write_object(tmp_path / "first.dcm", encode_seg(volume, labels, PROVENANCE))  # tables that are made once
    tracemalloc.start()
    write_object(tmp_path / "object.dcm", encode_seg(volume, labels, PROVENANCE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "object.dcm").stat().st_size > 2 * labels.labels.nbytes
    assert peak < labels.labels.nbytes


@pytest.mark.parametrize(
    "error", [AttributeError("a"), KeyError("a"), IndexError("a"), ValueError("a"), TypeError("a"), struct.error("a")]
)
def test_what_damaged_objects_raise_is_a_refusal(error: Exception) -> None:
    with (
        pytest.raises(InputRefused, match="the segmentation is damaged or incomplete"),
        refusing_damage("segmentation"),
    ):
        raise error


def test_refusals_within_keep_their_words() -> None:
    with pytest.raises(InputRefused, match=r"^no such slice$"), refusing_damage("segmentation"):
        raise InputRefused("no such slice")
