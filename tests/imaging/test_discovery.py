"""Images are told from other files; nothing that lies in a folder raises a traceback."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, SegmentationStorage

from dicom_node.errors import InputRefused
from dicom_node.imaging import claims
from dicom_node.imaging.series import assemble, discover_series, find_instances, prove_series, read_instance
from tests.imaging.editing import SMALL, edited, write_all
from tests.phantoms import PhantomSpec, build, write


def reasons(folder: Path) -> list[str]:
    return [found.reason for found in find_instances([folder]).passed_over]


def test_text_beside_images_is_passed_over(tmp_path: Path) -> None:
    write(SMALL, tmp_path / "deep" / "er")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").touch()
    discovery = find_instances([tmp_path])
    assert len(discovery.instances) == 6
    assert [found.reason for found in discovery.passed_over] == ["not a DICOM file"] * 2


def test_segmentation_is_no_scanner_image(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = SegmentationStorage

    assert set(reasons(edited(SMALL, tmp_path, edit))) == {"Segmentation Storage, not an image of a scanner"}


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_missing_identifier(tmp_path: Path, keyword: str) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        setattr(dataset, keyword, "")

    assert set(reasons(edited(SMALL, tmp_path, edit))) == {f"damaged DICOM file: {keyword} is missing"}


def test_missing_sop_class(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        del dataset.SOPClassUID

    assert set(reasons(edited(SMALL, tmp_path, edit))) == {"a DICOM file without SOPClassUID, not an image"}


def test_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="does not exist"):
        find_instances([tmp_path / "nowhere"])


def test_folder_without_images_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputRefused, match="None of 1 files is a CT or MR image: not a DICOM file"):
        discover_series([tmp_path])


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="no files here"):
        discover_series([tmp_path])


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert find_instances([tmp_path]).instances == ()


@pytest.mark.parametrize("vr", [b"IS", b"LO"])
def test_number_that_is_none(tmp_path: Path, vr: bytes) -> None:
    path = next(write_all(build(SMALL).datasets[:1], tmp_path).iterdir())
    right, wrong = b"\x20\x00\x13\x00IS\x02\x001 ", b"\x20\x00\x13\x00" + vr + b"\x02\x00xy"
    content = path.read_bytes()
    assert right in content
    path.write_bytes(content.replace(right, wrong))
    assert len(reasons(tmp_path)) == 1
    assert reasons(tmp_path)[0].startswith("damaged DICOM file")


def test_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of a deflated file may claim a gigabyte."""
    monkeypatch.setattr(claims, "MAX_INFLATED_BYTES", 2**20)
    spec = PhantomSpec(slices=1, rows=16, columns=12, transfer_syntax=DeflatedExplicitVRLittleEndian)
    path = write(spec, tmp_path)[0]
    assert read_instance(path).number == 1
    content = path.read_bytes()
    length = 144 + int.from_bytes(content[140:144], "little")
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(content[:length] + deflater.compress(bytes(2**22)) + deflater.flush())
    with pytest.raises(InputRefused, match="unpacks to more than 1 MB"):
        read_instance(path)


SAMPLE = PhantomSpec(slices=1, rows=8, columns=8)
SAMPLES = {
    "single-frame": SAMPLE,
    "RLE": replace(SAMPLE, transfer_syntax=RLELossless),
    "JPEG 2000": replace(SAMPLE, rows=32, columns=32, transfer_syntax=JPEG2000Lossless),
    "deflated": replace(SAMPLE, transfer_syntax=DeflatedExplicitVRLittleEndian),
    "multi-frame": PhantomSpec(modality="MR", slices=2, rows=8, columns=8, multiframe=True),
}


@pytest.mark.parametrize("spec", SAMPLES.values(), ids=SAMPLES)
@settings(max_examples=60, deadline=None)
@given(damage=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4), cut=st.floats(0, 1))
def test_damaged_files_never_raise_anything_but_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, spec: PhantomSpec, damage: list[tuple[float, bytes]], cut: float
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = write(spec, folder)[0]
    content = bytearray(path.read_bytes())
    for where, junk in damage:
        start = int(where * len(content))
        content[start : start + len(junk)] = junk
    path.write_bytes(content[: int(cut * len(content))] if cut < 0.8 else content)
    for instance in find_instances([folder]).instances:
        try:
            assemble(prove_series([instance]))
        except InputRefused as refusal:
            assert refusal.message  # noqa: PT017 - either outcome is right; anything else must surface
