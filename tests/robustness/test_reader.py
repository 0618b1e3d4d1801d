"""Damaged and nonsensical files: pixels or a refusal, never another exception, a crash or a hang."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dicom_node.errors import InputRefused, SeriesRefused
from dicom_node.imaging import claims
from dicom_node.imaging.decoding import FrameDecoder
from dicom_node.imaging.series import assemble, find_instances, load_series, prove_series, read_instance
from dicom_node.receive import identity
from dicom_node.receive.identity import read_identity
from dicom_node.receive.sameness import same_object
from dicom_node.receive.spool import SpoolFile
from tests.phantoms import PhantomSpec, build, write
from tests.robustness.damage import damaged
from tests.robustness.elements import UNDEFINED, body_offset, elements_of, header
from tests.robustness.reading import read_damaged

SEED = 20
SPEC = PhantomSpec(slices=3, rows=16, columns=12)


@pytest.mark.parametrize(("kind", "inputs"), [("identity", 1000), ("files", 100), ("codecs", 5), ("sameness", 60)])
def test_damaged_files_are_taken_or_refused(kind: str, inputs: int) -> None:
    # in a process of its own: the high-water mark of this one is that of every test before
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        tally = pool.submit(read_damaged, kind, inputs, SEED).result()
    assert tally.findings == []
    assert sum(tally.counts.values()) == inputs
    assert 0 < tally.peak_bytes < 2**30


def test_one_seed_gives_one_damage() -> None:
    whole = _content(SPEC)
    assert [damaged(whole, Random(n)) for n in range(50)] == [damaged(whole, Random(n)) for n in range(50)]
    assert len({damaged(whole, Random(n))[1] for n in range(50)}) > 45


def _content(spec: PhantomSpec) -> bytes:
    content = pydicom.filebase.DicomBytesIO()
    build(spec).datasets[0].save_as(content, enforce_file_format=True)
    return content.getvalue()


def _replaced(content: bytes, tag: int, vr: bytes, value: bytes) -> bytes:
    one = next(element for element in elements_of(content) if element.tag == tag)
    return content[: one.start] + header(tag, vr, len(value)) + value + content[one.end :]


def test_an_infinite_whole_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(_replaced(_content(SPEC), 0x00280010, b"FD", struct.pack("<d", math.inf)))
    with pytest.raises(InputRefused, match="Rows is 'inf'"):
        read_instance(path)


@pytest.mark.parametrize("vr", [b"OB", b"LO", b"UN"])
@pytest.mark.parametrize("tag", [0x00289110, 0x00209116, 0x00209113, 0x52009229])
def test_a_functional_group_that_is_no_sequence_is_refused(tmp_path: Path, tag: int, vr: bytes) -> None:
    path = tmp_path / "1.dcm"
    content = _content(replace(SPEC, multiframe=True))
    path.write_bytes(_replaced(content, tag, vr, b"no items"))
    with pytest.raises(InputRefused):
        prove_series(find_instances([path]).instances or [read_instance(path)])


@pytest.mark.parametrize("number", ["1e300", "1e30", "-1e308"])
@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "RescaleSlope", "PixelSpacing", "RescaleIntercept"])
def test_numbers_that_no_scanner_writes_are_refused(tmp_path: Path, keyword: str, number: str) -> None:
    dataset = build(SPEC).datasets[0]
    one = pydicom.valuerep.DSfloat(number)
    dataset[keyword].value = [one] * dataset[keyword].VM if dataset[keyword].VM > 1 else one
    dataset.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    with pytest.raises(SeriesRefused):
        load_series([tmp_path])


def test_an_image_type_that_is_a_number_is_no_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(_replaced(_content(SPEC), 0x00080008, b"FD", struct.pack("<d", 1.0)))
    assert assemble(prove_series([read_instance(path)])).voxels.shape == (1, 16, 12)


def test_an_empty_high_bit_is_the_usual_one(tmp_path: Path) -> None:
    whole = write(replace(SPEC, slices=1), tmp_path / "whole")
    content = _replaced(whole[0].read_bytes(), 0x00280102, b"US", b"")
    stored = _replaced(content, 0x00280101, b"US", struct.pack("<H", 12))
    (tmp_path / "1.dcm").write_bytes(stored)
    assert load_series([tmp_path / "1.dcm"]).voxels.shape == (1, 16, 12)


@pytest.mark.parametrize("syntax", [SPEC.transfer_syntax, RLELossless, JPEG2000Lossless])
def test_sizes_beyond_the_bytes_that_are_there_are_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: pydicom.uid.UID
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise AssertionError("memory was asked for")

    path = write(replace(SPEC, slices=1, rows=32, columns=32, transfer_syntax=syntax), tmp_path)[0]
    content = path.read_bytes()
    for tag in (0x00280010, 0x00280011):
        content = _replaced(content, tag, b"US", struct.pack("<H", 30000))
    path.write_bytes(content)
    with pytest.raises(SeriesRefused, match="claims 1800000000 bytes") as refused:
        prove_series([read_instance(path)])
    assert refused.value.kind == "pixel-data"
    monkeypatch.setattr("pydicom.pixels.decoders.base.np.empty", no_memory)
    with FrameDecoder() as decoder, pytest.raises(SeriesRefused, match="claims 1800000000 bytes"):
        list(decoder.frames(read_instance(path), [None], ["image 1"]))


def test_a_file_that_vanished_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    found = read_instance(write(replace(SPEC, slices=1), tmp_path)[0])
    found.path.unlink()
    with pytest.raises(SeriesRefused, match="No such file"):
        prove_series([found])


def test_a_bomb_behind_a_wrong_group_length_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group length leads to a small stream, pydicom to a large one; the syntax stands behind 4 KiB of another."""
    monkeypatch.setattr(claims, "MAX_INFLATED_BYTES", 2**20)
    content = _content(replace(SPEC, transfer_syntax=DeflatedExplicitVRLittleEndian))
    meta, bomb = content[144 : body_offset(content)], _deflated(bytes(2**22))
    version = header(0x00020001, b"OB", 6000) + bytes(6000)
    path = tmp_path / "1.dcm"
    path.write_bytes(content[:140] + struct.pack("<I", 0) + version + meta + bomb)
    with pytest.raises(InputRefused, match="unpacks to more than 1 MB"):
        read_instance(path)


def _deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def test_sequences_without_end_before_the_uids_are_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_MOST_ELEMENTS", 1000)
    one = header(0x00081140, b"SQ", UNDEFINED) + header(0xFFFEE000, b"", UNDEFINED)
    with pytest.raises(InputRefused, match="more than 1000 elements"):
        read_identity(one * 2000, "1.2.840.10008.1.2.1")


def _cut(content: bytes) -> bytes:
    return content[: len(content) - 700]


def _bomb(content: bytes) -> bytes:
    return content[: body_offset(content)] + _deflated(bytes(2**22))


def _noise(content: bytes) -> bytes:
    return content[: body_offset(content)] + Random(1).randbytes(500)


@pytest.mark.parametrize("damage", [_cut, _bomb, _noise])
@pytest.mark.parametrize("syntax", [SPEC.transfer_syntax, DeflatedExplicitVRLittleEndian, JPEG2000Lossless])
def test_a_damaged_image_that_came_again_is_another_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    syntax: pydicom.uid.UID,
    damage: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(claims, "MAX_INFLATED_BYTES", 2**20)
    path = write(replace(SPEC, slices=1, rows=32, columns=32, transfer_syntax=syntax), tmp_path)[0]
    content = path.read_bytes()
    copy, head = damage(content), body_offset(content)
    assert not same_object(path, SpoolFile(copy[:head], copy[head:]))
    assert sorted(tmp_path.iterdir()) == [path]


def test_compressed_pixels_that_came_again_are_not_decoded_in_the_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codecs end the process they run in on damaged streams."""

    def no_codec(*_: object, **__: object) -> None:
        raise AssertionError("decoded here")

    spec = replace(SPEC, slices=1, rows=32, columns=32)
    kept = write(spec, tmp_path / "kept")[0]
    compressed = pydicom.dcmread(kept)
    compressed.compress(pydicom.uid.JPEGLSLossless, generate_instance_uid=False)
    compressed.save_as(tmp_path / "arrived.dcm")
    content = (tmp_path / "arrived.dcm").read_bytes()
    head = body_offset(content)
    monkeypatch.setattr("pydicom.pixels.decoders.base.DecodeRunner._decode_frame", no_codec)
    assert same_object(kept, SpoolFile(content[:head], content[head:]))


def test_two_files_of_one_uid_nested_beyond_sense_are_two(tmp_path: Path) -> None:
    """pydicom reads deeper than it compares."""
    content, depth = _content(SPEC), 150
    opened = header(0x00081140, b"SQ", UNDEFINED) + header(0xFFFEE000, b"", UNDEFINED)
    closed = header(0xFFFEE00D, b"", 0) + header(0xFFFEE0DD, b"", 0)
    place = next(element for element in elements_of(content) if element.tag == 0x00080060).start
    nested = content[:place] + opened * depth + closed * depth + content[place:]
    (tmp_path / "1.dcm").write_bytes(nested)
    (tmp_path / "2.dcm").write_bytes(_replaced(nested, 0x0008103E, b"LO", b"Another "))
    with pytest.raises(SeriesRefused) as refused:
        prove_series([read_instance(tmp_path / "1.dcm"), read_instance(tmp_path / "2.dcm")])
    assert refused.value.kind == "duplicate-instance"
