"""A PS3.10 file that arrives in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import InputRefused
from dicom_node.receive.dicomweb.file_form import MOST_META_BYTES, ArrivingFile, FileMeta
from tests.receive.desk import arrival_of

PREFIX = bytes(128) + b"DICM"
PRIVATE = b"\x02\x00\x02\x01OB\x00\x00"


def taken(content: bytes, size: int) -> ArrivingFile:
    file = ArrivingFile()
    for at in range(0, len(content), size):
        file.take(content[at : at + size])
    return file


@pytest.mark.parametrize("size", [1, 7, 133, 1 << 20])
def test_the_data_set_is_what_follows_the_meta_however_it_is_cut(ct_files: list[Path], size: int) -> None:
    sent = arrival_of(ct_files[0])
    file = taken(ct_files[0].read_bytes()[: 4096 + size], size)
    assert file.meta == FileMeta(sent.sop_class_uid, sent.sop_instance_uid, sent.transfer_syntax_uid)
    assert file.encoded
    assert sent.encoded.startswith(file.encoded)


def test_a_wrong_group_length_does_no_harm(ct_files: list[Path]) -> None:
    content = bytearray(ct_files[0].read_bytes())
    content[140:144] = b"\xff\xff\xff\x7f"
    assert taken(bytes(content), 1 << 20).encoded == arrival_of(ct_files[0]).encoded


def test_a_missing_group_length_does_no_harm(ct_files: list[Path]) -> None:
    content = ct_files[0].read_bytes()
    assert taken(content[:132] + content[144:], 1 << 20).encoded == arrival_of(ct_files[0]).encoded


def test_no_more_is_kept_of_a_uid_than_tells_that_it_is_none() -> None:
    """A request of thousands of parts would hold them all, beyond every limit, until it is answered."""
    uid = b"\x02\x00\x03\x00UI" + (60_000).to_bytes(2, "little") + b"1" * 60_000
    meta = taken(PREFIX + uid + bytes(12), 1 << 20).meta
    assert meta is not None
    assert meta.sop_instance_uid == "1" * 65


def test_an_address_in_the_meta_does_no_harm(ct_files: list[Path]) -> None:
    """Source Presentation Address (0002,0026) is a UR: its length has four bytes (PS3.10 7.1)."""
    content = ct_files[0].read_bytes()
    end = len(content) - len(arrival_of(ct_files[0]).encoded)
    address = b"\x02\x00\x26\x00UR\x00\x00" + (20).to_bytes(4, "little") + b"https://host/studies/"[:20]
    assert taken(content[:end] + address + content[end:], 1 << 20).encoded == arrival_of(ct_files[0]).encoded


@pytest.mark.parametrize(
    "content",
    [
        b"no prefix" * 100,
        PREFIX + PRIVATE + (1 << 31).to_bytes(4, "little") + bytes(MOST_META_BYTES),
        PREFIX + (PRIVATE + bytes(4)) * 10_000,
    ],
    ids=["no prefix", "an element without end", "elements without end"],
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_what_is_no_file_is_refused(content: bytes, size: int) -> None:
    with pytest.raises(InputRefused):
        taken(content, size)
