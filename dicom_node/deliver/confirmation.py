"""Asking a destination whether it has what was sent: C-FIND at IMAGE level, Study Root (PS3.4 C.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.deliver.association import accepted_syntaxes, open_association
from dicom_node.deliver.sender import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dicom_node.errors import DeliveryFailed
from dicom_node.settings import DestinationTable
from dicom_node.uids import STUDY_ROOT_FIND

_PENDING = frozenset({0xFF00, 0xFF01})


@dataclass(frozen=True)
class Reference:
    """One instance, as a query names it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    @property
    def keys(self) -> dict[str, str]:
        """The identifier of the query that asks for it."""
        return {
            "QueryRetrieveLevel": "IMAGE",
            "StudyInstanceUID": self.study_instance_uid,
            "SeriesInstanceUID": self.series_instance_uid,
            "SOPInstanceUID": self.sop_instance_uid,
        }


def confirm(destination: DestinationTable, references: Sequence[Reference], calling_ae: str) -> dict[str, bool] | None:
    """Ask which instances a destination holds.

    Args:
        destination: Whom to ask.
        references: What to ask for.
        calling_ae: Our AE title.

    Returns:
        Whether it is there, by SOP Instance UID; None when the destination offers no Study Root C-FIND.

    Raises:
        DeliveryFailed: No association, or a query failed or was not answered.
        DeliveryRefused: The association was rejected for good.
    """
    contexts = [build_context(STUDY_ROOT_FIND, [EXPLICIT_LITTLE, IMPLICIT_LITTLE])]
    with open_association(destination, contexts, calling_ae) as association:
        if STUDY_ROOT_FIND not in accepted_syntaxes(association):
            return None
        # asked again where it is not listed: pynetdicom's reactor now and then takes an answer from the query's hands
        return {
            reference.sop_instance_uid: _is_there(association, reference) or _is_there(association, reference)
            for reference in references
        }


def _is_there(association: Association, reference: Reference) -> bool:
    query = Dataset()
    for keyword, value in reference.keys.items():
        setattr(query, keyword, value)
    there = False
    for answer, identifier in association.send_c_find(query, STUDY_ROOT_FIND):
        if "Status" not in answer:
            raise DeliveryFailed("the destination did not answer a C-FIND in time, or broke the connection")
        if answer.Status in _PENDING:
            # Some archives ignore the key and list the whole series.
            there = there or (
                identifier is not None and str(identifier.get("SOPInstanceUID", "")) == reference.sop_instance_uid
            )
        elif answer.Status != 0x0000:
            raise DeliveryFailed(f"the destination answered a C-FIND with status {answer.Status:04X}")
    return there
