"""How a series stands, for a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicom_node.orthanc_bridge.archive import ArchivedSeries
from dicom_node.orthanc_bridge.note import Note
from dicom_node.orthanc_bridge.selection import is_too_old

NOT_FOR_THE_NODE: Final = "not for the node"


@dataclass(frozen=True)
class Standing:
    """How a series stands.

    Attributes:
        state: "arriving", "waiting", "delayed", "handing over", "handed over", "left alone" (it came too early; a
            person may ask for it), "not for the node".
        reason: In plain words, where it is not obvious.
        images: How many are being handed over, or were.
        at: Since when, or when the next attempt is made; seconds since the epoch, 0 where it does not matter.
    """

    state: str
    reason: str = ""
    images: int = 0
    at: float = 0.0


def standing_at_rest(series: ArchivedSeries, note: Note, since: float) -> Standing:
    """How a series stands that is not waiting to be handed over.

    Args:
        series: It may be for the node.
        note: What is remembered of it.
        since: Series whose last image came before are left alone, seconds since the epoch.
    """
    if note.state == "handed over":
        return Standing("handed over", images=note.images, at=note.at)
    if not series.is_stable:
        return Standing("arriving", "more images may come")
    if note.state == "" and is_too_old(series, since):
        return Standing("left alone", "it came before the time that DicomNode.Since names")
    return Standing("waiting")
