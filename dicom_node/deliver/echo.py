"""Whether a destination answers, and what it would take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pynetdicom.presentation import build_context

from dicom_node.deliver.association import accepted_syntaxes, open_association
from dicom_node.deliver.sender import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicom_node.errors import DeliveryFailed
from dicom_node.settings import DestinationTable
from dicom_node.uids import (
    LABEL_MAP_SEGMENTATION,
    RT_STRUCTURE_SET,
    SECONDARY_CAPTURE,
    SEGMENTATION,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    VERIFICATION,
)

RESULT_CLASSES: Final = (
    SEGMENTATION,
    LABEL_MAP_SEGMENTATION,
    RT_STRUCTURE_SET,
    SECONDARY_CAPTURE,
)
_PROOFS = (STUDY_ROOT_FIND, STORAGE_COMMITMENT)


@dataclass(frozen=True)
class EchoReport:
    """What a destination said.

    Attributes:
        reachable: It accepted the association and answered C-ECHO with Success.
        accepted: Whether it takes each SOP class that this node produces, by UID.
        confirms: Whether it can be asked (Study Root C-FIND) what it holds.
        commits: Whether it can be asked to commit to what it stored (Storage Commitment Push Model).
        negotiates: Whether ``accepted`` is its own word; a DICOMweb service says what it takes only when it is sent it.
        reason: Why it is not reachable; empty otherwise.
    """

    reachable: bool
    accepted: dict[str, bool] = field(default_factory=dict)
    confirms: bool = False
    commits: bool = False
    negotiates: bool = True
    reason: str = ""


def echo(destination: DestinationTable, calling_ae: str) -> EchoReport:
    """Send a C-ECHO and find out which of our SOP classes a destination accepts; nothing is stored."""
    syntaxes = [EXPLICIT_LITTLE, IMPLICIT_LITTLE]
    contexts = [build_context(sop_class, syntaxes) for sop_class in (*RESULT_CLASSES, *_PROOFS)]
    try:
        with open_association(destination, contexts, calling_ae) as association:
            accepted = accepted_syntaxes(association)
            # Asked over the accepted association: a peer without Verification still is reachable.
            status = association.send_c_echo().get("Status") if VERIFICATION in accepted else 0x0000
    except DeliveryFailed as error:
        return EchoReport(reachable=False, reason=error.message)
    return EchoReport(
        reachable=status == 0x0000,
        accepted={sop_class: sop_class in accepted for sop_class in RESULT_CLASSES},
        confirms=STUDY_ROOT_FIND in accepted,
        commits=STORAGE_COMMITMENT in accepted,
        reason="" if status == 0x0000 else "C-ECHO was not answered with Success",
    )
