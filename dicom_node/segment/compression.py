"""A stored segmentation in little room, for as long as its case is kept. Torch-free.

``segmentation.npz`` holds the very ``.npy`` files that it replaces, deflated, and the document stays as it is. The
document's SHA-256 of each array therefore holds for both forms, and so does the checkpoint's of the document.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_node.durable_file import fsync_directory, write_durably
from dicom_node.errors import SegmentationFailed
from dicom_node.segment.exchange import (
    SEGMENTATION_FILE,
    StoredFolder,
    array_hashes,
    check_file,
    described_segmentation,
    read_document,
)
from dicom_node.segment.segmentation import Segmentation

COMPRESSED_FILE = "segmentation.npz"
_CHUNK_BYTES = 2**20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError)
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the same content gives the same file


def compress_segmentation(stored: StoredFolder | Path) -> None:
    """Replace the arrays of a stored segmentation by one compressed file.

    The ``.npy`` files go only once that file is durable under its final name and has been read back. After a crash at
    any moment one of the two forms is whole, and doing it again finishes it; done twice, it changes nothing.

    Args:
        stored: As :func:`~dicom_node.segment.exchange.save_segmentation` returned it, or its folder.

    Raises:
        SegmentationFailed: The folder is unfinished or was changed; nothing was removed.
        StorageFull: No room for the compressed file; nothing was removed.
    """
    folder, document = read_document(stored, SEGMENTATION_FILE)
    hashes = array_hashes(document)
    if not _holds(folder / COMPRESSED_FILE, hashes):
        for name, sha256 in hashes.items():
            check_file(folder / f"{name}.npy", sha256)
        write_durably(folder / COMPRESSED_FILE, _deflated([folder / f"{name}.npy" for name in hashes]))
        if not _holds(folder / COMPRESSED_FILE, hashes):
            raise SegmentationFailed(f"{folder / COMPRESSED_FILE} does not hold what was written to it")
    for name in hashes:
        (folder / f"{name}.npy").unlink(missing_ok=True)
    fsync_directory(folder)


def load_compressed(stored: StoredFolder | Path) -> Segmentation:
    """A compressed segmentation, its arrays read into memory and checked against the document.

    Args:
        stored: With a SHA-256 the document is checked too.

    Raises:
        SegmentationFailed: The folder is unfinished, not compressed, or was changed.
    """
    folder, document = read_document(stored, SEGMENTATION_FILE)
    path, hashes = folder / COMPRESSED_FILE, array_hashes(document)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _array(archive, name, sha256) for name, sha256 in hashes.items()}
    except FileNotFoundError as error:
        raise SegmentationFailed(f"{path} is missing") from error
    except _DAMAGE as error:
        raise SegmentationFailed(f"{path} is not what was written: {error}") from error
    return described_segmentation(document, arrays)


def _array(archive: zipfile.ZipFile, name: str, sha256: str) -> npt.NDArray[Any]:
    content = archive.read(f"{name}.npy")
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"expected SHA-256 {sha256} of {name}.npy, got {found}")
    array: npt.NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _holds(path: Path, hashes: dict[str, str]) -> bool:
    """Whether a compressed file holds every array, bit by bit."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(_member_sha256(archive, f"{name}.npy") == sha256 for name, sha256 in hashes.items())
    except (FileNotFoundError, *_DAMAGE):
        return False


def _member_sha256(archive: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with archive.open(name) as member:
        while chunk := member.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class _Outbox(io.RawIOBase):
    """What was written to it, to be taken away piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._pieces.append(bytes(content))
        return len(self._pieces[-1])

    def take(self) -> Iterator[bytes]:
        yield from self._pieces
        self._pieces.clear()


def _deflated(paths: list[Path]) -> Iterator[bytes]:
    """A zip archive of files, in pieces; as :func:`numpy.savez_compressed` lays it out."""
    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w") as archive:
        for path in paths:
            entry = zipfile.ZipInfo(path.name, _EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as member:
                while chunk := source.read(_CHUNK_BYTES):
                    member.write(chunk)
                    yield from outbox.take()
    yield from outbox.take()
