"""The spool: every received instance as one durable PS3.10 file, named by its UIDs."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.durable_file import make_directory_durably, write_durably
from dicom_node.receive.identity import Identity
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, instance_path

_PREAMBLE = bytes(128) + b"DICM"


@dataclass(frozen=True)
class SpoolFile:
    """The bytes of one file as they go into the spool.

    Attributes:
        head: Preamble, prefix and file meta (PS3.10 7.1).
        encoded: The data set exactly as it was received.
    """

    head: bytes
    encoded: bytes

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.head) + len(self.encoded)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the whole file."""
        digest = hashlib.sha256(self.head)
        digest.update(self.encoded)
        return digest.hexdigest()


def spool_file(identity: Identity, transfer_syntax_uid: str, calling_ae: str, encoded: bytes) -> SpoolFile:
    """Put a received data set into PS3.10 form; the data set itself is not touched.

    Args:
        identity: Which instance it is.
        transfer_syntax_uid: How it is encoded.
        calling_ae: Who sent it (SourceApplicationEntityTitle).
        encoded: The data set as it came.
    """
    elements = [
        _element(0x0001, b"OB", b"\x00\x01"),
        _element(0x0002, b"UI", identity.sop_class_uid.encode("ascii")),
        _element(0x0003, b"UI", identity.sop_instance_uid.encode("ascii")),
        _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii")),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
    ]
    if calling_ae:
        elements.append(_element(0x0016, b"AE", calling_ae.encode("ascii", "replace")))
    meta = b"".join(elements)
    return SpoolFile(_PREAMBLE + _element(0x0000, b"UL", struct.pack("<I", len(meta))) + meta, encoded)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """An element of group 0002: explicit VR little endian, padded to even length (PS3.10 7.1, PS3.5 7.1.2)."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    header = struct.pack("<HH2s", 0x0002, number, vr)
    length = struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return header + length + value


class Spool:
    """The folder of received instances.

    Args:
        root: ``<home>/spool``; made where it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()  # paths go on record, and other processes may run elsewhere
        make_directory_durably(self.root)

    def path_of(self, identity: Identity) -> Path:
        """Where the file of an instance lies.

        Raises:
            InputRefused: One of its UIDs is no UID.
        """
        return instance_path(
            self.root, identity.study_instance_uid, identity.series_instance_uid, identity.sop_instance_uid
        )

    def write(self, identity: Identity, file: SpoolFile) -> Path:
        """Write a file; once this returns it outlives power loss.

        Raises:
            InputRefused: One of its UIDs is no UID.
            StorageFull: No room; nothing is left of the attempt.
            OSError: Any other failure of the file system.
        """
        path = self.path_of(identity)
        write_durably(path, _pieces(file))
        return path

    def sweep(self) -> int:
        """Remove what a killed writer left unfinished; returns how many files. Only while nobody writes."""
        leftovers = [path for path in self.root.rglob(".*.part") if path.is_file()]
        for path in leftovers:
            path.unlink()
        return len(leftovers)


def _pieces(file: SpoolFile) -> Iterator[bytes]:
    yield file.head
    yield file.encoded
