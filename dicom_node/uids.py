"""UIDs and names that several rooms share: what a UID is, where its file lies, and how those of the node derive."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

from dicom_node.errors import InputRefused

IMPLEMENTATION_CLASS_UID = "2.25.137962408615173404521927306841153280642"
"""Which implementation wrote a file or speaks on an association (PS3.7 D.3.3.2)."""
IMPLEMENTATION_VERSION_NAME = "DICOM_NODE"

MANUFACTURER = "dicom-node"
"""Manufacturer of every result object."""

IMAGE_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image
)
"""SOP classes that the node takes by itself; ``[node] storage_classes`` adds to them."""
VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"

_NAMESPACE = UUID("6c0d5a0e-2f0b-5d3e-9a55-0d1c0f5b7a11")
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Whether a text is a UID: 1 to 64 characters, digits in groups parted by single full stops (PS3.5 9.1).

    Groups with leading zeros are let through: older devices send them, and they are as safe as a file name.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def derived_uid(case_id: str, role: str) -> str:
    """The UID of one role within a case: the same each time, another one for every case and role.

    A UUID of version 5 under 2.25 (PS3.5 B.2).

    Args:
        case_id: Identity of the case.
        role: What the UID names: ``seg/instance``, ``rtstruct/series``, ``tracking/Liver`` ...
    """
    return f"2.25.{uuid5(_NAMESPACE, f'{case_id}/{role}').int}"


def instance_path(root: Path, study: str, series: str, sop: str) -> Path:
    """Where the file of an instance lies: ``<root>/<study>/<series>/<sop>.dcm``.

    Raises:
        InputRefused: One of the three is no UID; nothing else ever becomes part of a path.
    """
    for keyword, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series), ("SOPInstanceUID", sop)):
        if not is_uid(uid):
            raise InputRefused(f"{keyword} is {uid[:80]!r}, which is not a UID (PS3.5 9.1)")
    return root / study / series / f"{sop}.dcm"
