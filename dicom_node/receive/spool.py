"""The spool: every received instance as one durable PS3.10 file, named by its UIDs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

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
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(identity.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(identity.sop_instance_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    if calling_ae:
        meta.SourceApplicationEntityTitle = calling_ae
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return SpoolFile(_PREAMBLE + buffer.getvalue(), encoded)


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
