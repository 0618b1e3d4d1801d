"""What the bridge remembers of a series, as text in Orthanc's metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from dicom_node.errors import SettingsError


@dataclass(frozen=True)
class Note:
    """How far a series has come.

    Attributes:
        state: "" (nothing yet), "asked" (a person wants it handed over, whatever its age and whatever was before), or
            "handed over": the node has acknowledged every image.
        digest: Of the instances that the series had then; another digest now means that images came since.
        images: How many the node acknowledged.
        at: When, seconds since the epoch.
    """

    state: Literal["", "asked", "handed over"] = ""
    digest: str = ""
    images: int = 0
    at: float = 0.0

    @property
    def text(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))


def read_note(text: str | None) -> Note:
    """The note that a text is; an empty one where there is none.

    Raises:
        SettingsError: The text is not the bridge's: somebody else uses this metadata.
    """
    if not text:
        return Note()
    try:
        note = Note(**json.loads(text))
    except (TypeError, ValueError) as error:
        message = "the metadata of this number belongs to somebody else; set another DicomNode.Metadata"
        raise SettingsError(message) from error
    return note


def digest_of(instances: Sequence[str]) -> str:
    """A digest of a set of instances, by their Orthanc identifiers."""
    return hashlib.sha256("\n".join(sorted(instances)).encode()).hexdigest()[:32]
