"""Reception without a network: a desk that arrivals are handed to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import sqlalchemy as sa

from dicom_node.ledger.intake import Association, Instance, Intake
from dicom_node.receive.identity import read_identity
from dicom_node.receive.spool import Spool, spool_file
from dicom_node.receive.storing import Answer, Arrival, Reception
from dicom_node.settings import LimitsTable

SENDER = Association("association", "listener", "SCANNER", "127.0.0.1", 0.0)
NO_LIMITS = LimitsTable(free_bytes=0)


class Desk:
    """A reception over a spool of its own, with the association that everything comes over."""

    def __init__(self, folder: Path, engine: sa.Engine, limits: LimitsTable = NO_LIMITS, **options: object) -> None:
        self.spool = Spool(folder / "spool")
        self.engine = engine
        self.intake = Intake(engine)
        self.reception = Reception(self.spool, self.intake, limits, now=lambda: 1000.0, **options)  # type: ignore[arg-type]

    def take(self, arrival: Arrival) -> Answer:
        return self.reception.store(arrival, lambda: SENDER)

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.spool.root.rglob("*") if path.is_file())


def arrival_of(path: Path) -> Arrival:
    """A file as a C-STORE request would bring it."""
    meta = pydicom.dcmread(path, stop_before_pixels=True).file_meta
    offset = 128 + 4 + 12 + meta.FileMetaInformationGroupLength
    return Arrival(
        str(meta.MediaStorageSOPClassUID),
        str(meta.MediaStorageSOPInstanceUID),
        str(meta.MediaStorageSOPClassUID),
        str(meta.TransferSyntaxUID),
        path.read_bytes()[offset:],
    )


def changed(arrival: Arrival, tmp_path: Path, change: Callable[[pydicom.Dataset], None]) -> Arrival:
    """The same instance with its data set changed."""
    spooled = Spool(tmp_path / "other").root / "object.dcm"
    desk_file = file_of(arrival)
    spooled.write_bytes(desk_file)
    dataset = pydicom.dcmread(spooled)
    change(dataset)
    dataset.save_as(spooled)
    return arrival_of(spooled)


def file_of(arrival: Arrival) -> bytes:
    """The file an arrival becomes in the spool."""
    identity = read_identity(arrival.encoded, arrival.transfer_syntax_uid)
    file = spool_file(identity, arrival.transfer_syntax_uid, "X", arrival.encoded)
    return file.head + file.encoded


def instance_record(uid: str) -> Instance:
    """The record of an instance of one series; there is no file of it."""
    return Instance(
        uid, "1.2.840.10008.5.1.4.1.1.2", "1.8", "1.9", "1.2.840.10008.1.2.1", "file", "0" * 64, 1, 1.0, "a"
    )
