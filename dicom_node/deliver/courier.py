"""How results get to a destination and how it is asked what it has: by DIMSE messages, or by DICOMweb requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from dicom_node.deliver import dicomweb
from dicom_node.deliver.confirmation import Reference, confirm
from dicom_node.deliver.echo import EchoReport, echo
from dicom_node.deliver.sender import SendOutcome, send
from dicom_node.ledger import audit_facts
from dicom_node.ledger.audit_events import AuditEvent
from dicom_node.settings import Destination, DestinationTable, DicomwebDestinationTable
from dicom_node.uids import STUDY_ROOT_FIND

SENDERS_AT_ONCE: Final = 16
"""Deliveries that a worker makes at once to those who sent the images: many machines, one of which may hang."""


class Courier(Protocol):
    """What a delivery needs of a destination, however it is spoken to."""

    def send(self, files: Sequence[Path], *, before_each: Callable[[], None]) -> tuple[SendOutcome, ...]:
        """Bring PS3.10 files there; one outcome a file, in their order.

        ``before_each`` is called before each file; what it raises ends the sending.

        Raises:
            DeliveryFailed: Not reachable; nothing was sent.
            DeliveryRefused: It will never take anything, or a file is no DICOM file; nothing was sent.
            OSError: A file cannot be read.
        """

    def confirm(self, references: Sequence[Reference]) -> dict[str, bool] | None:
        """Whether each instance is there, by UID; None where the destination cannot be asked.

        Raises:
            DeliveryFailed: No answer, or none that says so.
        """

    def query(self, reference: Reference) -> AuditEvent:
        """What the audit trail is told of asking for an instance."""

    def echo(self) -> EchoReport:
        """Whether it answers, and what it takes; nothing is stored."""


@dataclass(frozen=True)
class DimseCourier:
    """C-STORE, C-FIND and C-ECHO."""

    destination: DestinationTable
    calling_ae: str

    def send(self, files: Sequence[Path], *, before_each: Callable[[], None]) -> tuple[SendOutcome, ...]:
        """See :class:`Courier`."""
        return send(self.destination, files, self.calling_ae, before_each=before_each)

    def confirm(self, references: Sequence[Reference]) -> dict[str, bool] | None:
        """See :class:`Courier`."""
        return confirm(self.destination, references, self.calling_ae)

    def query(self, reference: Reference) -> AuditEvent:
        """See :class:`Courier`."""
        return audit_facts.queried(self.destination, STUDY_ROOT_FIND, reference.keys)

    def echo(self) -> EchoReport:
        """See :class:`Courier`."""
        return echo(self.destination, self.calling_ae)


@dataclass(frozen=True)
class DicomwebCourier:
    """STOW-RS and QIDO-RS."""

    destination: DicomwebDestinationTable

    def send(self, files: Sequence[Path], *, before_each: Callable[[], None]) -> tuple[SendOutcome, ...]:
        """See :class:`Courier`."""
        return dicomweb.send(self.destination, files, before_each=before_each)

    def confirm(self, references: Sequence[Reference]) -> dict[str, bool] | None:
        """See :class:`Courier`."""
        return dicomweb.confirm(self.destination, references)

    def query(self, reference: Reference) -> AuditEvent:
        """See :class:`Courier`."""
        return audit_facts.searched(self.destination, dicomweb.query_uri(self.destination, reference))

    def echo(self) -> EchoReport:
        """See :class:`Courier`."""
        return dicomweb.echo(self.destination)


def courier_to(destination: Destination, calling_ae: str) -> Courier:
    """Who brings results to a destination.

    Args:
        destination: Where to.
        calling_ae: Our AE title, where it is spoken to by DIMSE.
    """
    if isinstance(destination, DicomwebDestinationTable):
        return DicomwebCourier(destination)
    return DimseCourier(destination, calling_ae)
