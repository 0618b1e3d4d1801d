from __future__ import annotations

import contextlib
import struct
import zlib

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dicom_node.errors import InputRefused
from dicom_node.receive.identity import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, Identity, read_identity

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
SYNTAXES = [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED]
IDENTITY = Identity("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.5", "1.2.6.77")


def dataset(*, undefined: bool = False) -> Dataset:
    made = Dataset()
    made.SOPClassUID = IDENTITY.sop_class_uid
    made.SOPInstanceUID = IDENTITY.sop_instance_uid
    made.StudyInstanceUID = IDENTITY.study_instance_uid
    made.SeriesInstanceUID = IDENTITY.series_instance_uid
    made.PatientName = "Phantom^One"
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "9.9.9"
    inner.StudyInstanceUID = "6.6.6"  # a nested UID must not be taken for the instance's own
    outer = Dataset()
    outer.ReferencedSeriesSequence = Sequence([inner])
    made.ReferencedImageSequence = Sequence([outer, inner])
    if undefined:
        for holder in (made["ReferencedImageSequence"], outer["ReferencedSeriesSequence"]):
            holder.is_undefined_length = True
            for item in holder.value:
                item.is_undefined_length_sequence_item = True
    made.add_new(0x00091010, "UN", b"\0" * 7 + b"x")
    made.Rows = 3
    return made


def encode(made: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax == IMPLICIT_LITTLE, syntax != EXPLICIT_BIG
    write_dataset(buffer, made)
    raw = buffer.getvalue()
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        raw = deflater.compress(raw) + deflater.flush()
    return raw


@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_four_uids_are_read_past_nested_sequences(syntax: str, undefined: bool) -> None:
    assert read_identity(encode(dataset(undefined=undefined), syntax), syntax) == IDENTITY


def test_an_absent_uid_is_empty() -> None:
    made = dataset()
    del made.SeriesInstanceUID
    assert read_identity(encode(made, EXPLICIT_LITTLE), EXPLICIT_LITTLE).series_instance_uid == ""


def test_an_unknown_sequence_of_undefined_length_is_walked_as_implicit() -> None:
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + struct.pack("<HHI", 8, 0x1155, 4) + b"9.9\0"
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + item + closing
    raw = encode(dataset(), EXPLICIT_LITTLE)
    at = raw.index(struct.pack("<HH", 0x0009, 0x1010))
    assert read_identity(raw[:at] + unknown + raw[at:], EXPLICIT_LITTLE) == IDENTITY


def test_pixels_behind_the_uids_are_not_looked_at() -> None:
    assert read_identity(encode(dataset(), EXPLICIT_LITTLE) + b"\xff" * 50, EXPLICIT_LITTLE) == IDENTITY


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(st.binary(max_size=400))
def test_garbage_is_refused_or_read_and_never_crashes(syntax: str, garbage: bytes) -> None:
    with contextlib.suppress(InputRefused):
        read_identity(garbage, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(st.integers(min_value=1, max_value=100))
def test_a_data_set_cut_in_its_header_never_gains_a_uid(syntax: str, percent: int) -> None:
    raw = encode(dataset(), syntax)
    try:
        found = read_identity(raw[: len(raw) * percent // 101], syntax)
    except InputRefused:
        return
    assert all(uid in {"", whole} for uid, whole in zip(vars(found).values(), vars(IDENTITY).values(), strict=True))


def test_nesting_a_hundred_thousand_deep_is_refused() -> None:
    bomb = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(InputRefused):
        read_identity(bomb * 100_000, EXPLICIT_LITTLE)


def test_a_deflate_bomb_is_refused_within_bounded_memory() -> None:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = struct.pack("<HH2sHI", 8, 5, b"UN", 0, 0xFFFFFFF0)
    bomb = deflater.compress(head) + b"".join(deflater.compress(bytes(1 << 20)) for _ in range(300)) + deflater.flush()
    with pytest.raises(InputRefused):
        read_identity(bomb, DEFLATED)


def test_an_implicit_data_set_under_an_explicit_syntax_is_refused() -> None:
    with pytest.raises(InputRefused, match="not encoded as negotiated"):
        read_identity(encode(dataset(), IMPLICIT_LITTLE), EXPLICIT_LITTLE)


def test_it_agrees_with_pydicom_on_a_real_header() -> None:
    for path in pydicom.data.get_testdata_files("*CT_small*.dcm") + pydicom.data.get_testdata_files("MR_small*.dcm"):
        read = pydicom.dcmread(path, stop_before_pixels=True)
        with open(path, "rb") as file:  # noqa: PTH123 - pydicom gives names, not paths
            pydicom.filereader.read_preamble(file, force=False)
            pydicom.filereader._read_file_meta_info(file)
            encoded = file.read()
        found = read_identity(encoded, read.file_meta.TransferSyntaxUID)
        assert (found.sop_instance_uid, found.series_instance_uid) == (read.SOPInstanceUID, read.SeriesInstanceUID)
