"""Associations that the node opens (PS3.2 A.4.2.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_node.conformance.contexts import Activity
from dicom_node.conformance.document import Block, Section, Table
from dicom_node.conformance.words import context_blocks


def initiation(initiated: Sequence[Activity]) -> Section:
    """Every activity with what it proposes, and what answers lead to."""
    return Section(
        "Association initiation policy",
        (
            (
                "An association is opened for each activity and released at its end. Verification is proposed each "
                "time, so that a peer that accepts nothing else still answers."
            ),
        ),
        tuple(
            Section(item.name, (item.when, *context_blocks(item.contexts), *_ANSWERS.get(item.name, ())))
            for item in initiated
        ),
    )


_ANSWERS: Final[dict[str, tuple[Block, ...]]] = {
    "Store results": (
        (
            "Each SOP class is proposed in the transfer syntax of its file, and in a second context in the other one: "
            "segmentations and secondary captures are Explicit VR, structure sets Implicit VR Little Endian, because a "
            "long contour exceeds the 64 kB of an explicit DS value. A label map segmentation goes only to a "
            "destination that accepts it; else the binary segmentation of the same labels goes in its place."
        ),
        Table(
            ("C-STORE status", "what the node does"),
            (
                ("0000", "takes the instance as stored, and has its arrival confirmed"),
                ("0001, 0107, 0116, Bxxx", "as above; the warning is on record"),
                ("0117, 0122, 0124, A9xx, Cxxx", "does not send this instance again; a person sees the delivery held"),
                ("A7xx and any other", "sends it again after the pauses of retry_seconds, then holds the delivery"),
                ("none in time, or the association ends", "sends again what was not answered, after the same pauses"),
            ),
        ),
    ),
    "Confirm arrival by query": (
        (
            "C-FIND, Study Root, level IMAGE, with the single values of StudyInstanceUID, SeriesInstanceUID and "
            "SOPInstanceUID. No other key is sent, none is asked for."
        ),
        Table(
            ("C-FIND status", "what the node does"),
            (
                ("FF00, FF01", "compares the SOP Instance UID of the match"),
                ("0000", "takes what was listed as arrived; what was not is asked for once more, then again later"),
                ("any other", "asks again later"),
            ),
        ),
    ),
    "Request storage commitment": (
        (
            "N-ACTION (action type 1). A report that does not come within commitment_seconds leads to a query and "
            "another request, and so does any status but 0000 (a query alone, where the destination says auto); "
            "instances reported as failed are sent again. A request without an answer is sent again under its "
            "transaction UID."
        ),
    ),
    "Report storage commitment": (
        (
            "N-EVENT-REPORT (event type 1 or 2), as SCP by role selection (PS3.7 D.3.3.4). Any status but 0000 leads "
            "to another attempt."
        ),
    ),
}
