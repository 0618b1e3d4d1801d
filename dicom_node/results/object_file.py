"""DICOM objects as the bytes of a file, and as durable files."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from dicom_node.durable_file import write_durably_with
from dicom_node.errors import InputRefused

Encoded = Path | bytes
"""A DICOM file: where it lies, or its bytes."""
_DAMAGE = (
    ArithmeticError, AttributeError, BytesLengthException, EOFError, LookupError, NotImplementedError, OSError,
    struct.error, TypeError, ValueError,
)  # fmt: skip
"""What pydicom and numpy raise on attributes that are missing, cut off or of another kind."""


def to_bytes(dataset: Dataset) -> bytes:
    """The DICOM file (PS3.10) of a data set that carries ``file_meta``."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_object(path: Path, dataset: Dataset) -> None:
    """Write a data set as a file that survives a power cut; the file never lies in memory as a whole.

    Raises:
        StorageFull: The disk has no room.
    """
    write_durably_with(path, lambda file: dataset.save_as(file, enforce_file_format=True))


def keep_encoded_elements(dataset: Dataset, *, implicit_vr: bool, items: Iterable[Dataset] = ()) -> None:
    """Have elements that are encoded already (little endian) written as they stand; pydicom would decode them first.

    Args:
        dataset: The whole object, with its SpecificCharacterSet.
        implicit_vr: How the elements are encoded, which is how the object will be.
        items: Sequence items within it that hold such elements.
    """
    characters = dataset.get("SpecificCharacterSet")
    encoding = convert_encodings(characters) if characters else default_encoding
    for part in (dataset, *items):
        part.set_original_encoding(implicit_vr, True, encoding)


def read_object(encoded: Encoded) -> FileDataset:
    """The data set of an encoded object.

    Raises:
        InputRefused: The bytes are no DICOM file.
    """
    try:
        return dcmread(BytesIO(encoded) if isinstance(encoded, bytes) else encoded)
    except (InvalidDicomError, EOFError) as error:
        name = "the object" if isinstance(encoded, bytes) else encoded.name
        raise InputRefused(f"{name} is not a readable DICOM file: {error}") from error


@contextmanager
def refusing_damage(kind: str) -> Iterator[None]:
    """Refuse an object that turns out to be damaged while it is read.

    Args:
        kind: What the message calls the object.

    Raises:
        InputRefused: Reading it failed in a way that damage explains.
    """
    try:
        yield
    except _DAMAGE as error:
        # what the exception says may quote a value of the data set
        raise InputRefused(
            f"the {kind} is damaged or incomplete and cannot be read ({type(error).__name__})"
        ) from error
