"""What became of the instances of a request, and how the answer says it (PS3.18 10.5.3, Annex I.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from dicom_node.receive.dicomweb.file_form import FileMeta
from dicom_node.receive.storing import SUCCESS, Answer

DICOM_JSON: Final = "application/dicom+json"
_RETRIEVE_URL, _REFERENCED, _FAILED, _OTHER_FAILURES = "00081190", "00081199", "00081198", "0008119A"
_SOP_CLASS, _SOP_INSTANCE, _FAILURE_REASON = "00081150", "00081155", "00081197"


@dataclass
class Outcome:
    """The answers to the parts of one request, in their order."""

    stored: list[FileMeta] = field(default_factory=list)
    failed: list[tuple[FileMeta, Answer]] = field(default_factory=list)
    unnamed: list[Answer] = field(default_factory=list)
    """Failures of parts that do not say which instance they are."""

    def add(self, meta: FileMeta | None, answer: Answer) -> None:
        """Note the answer to one part."""
        if meta is None or not meta.sop_instance_uid:
            self.unnamed.append(answer)
        elif answer.status == SUCCESS:
            self.stored.append(meta)
        else:
            self.failed.append((meta, answer))

    @property
    def parts(self) -> int:
        """How many parts were answered."""
        return len(self.stored) + len(self.failed) + len(self.unnamed)

    @property
    def http_status(self) -> int:
        """200 all stored, 202 some, 409 none (PS3.18 Table 10.5.3-1)."""
        if not self.stored:
            return 409
        return 202 if self.failed or self.unnamed else 200

    def document(self) -> bytes:
        """The Store Instances Response Module in DICOM JSON (PS3.18 F.2).

        There is no Retrieve URL in it: this node keeps images to segment them, and gives none back.
        """
        sequences = {
            _REFERENCED: [_reference(meta) for meta in self.stored],
            _FAILED: [{**_reference(meta), **_failure(answer)} for meta, answer in self.failed],
            _OTHER_FAILURES: [_failure(answer) for answer in self.unnamed],
        }
        module: dict[str, object] = {_RETRIEVE_URL: {"vr": "UR"}}
        module |= {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
        return json.dumps(module).encode()


def _reference(meta: FileMeta) -> dict[str, object]:
    return {
        _SOP_CLASS: {"vr": "UI", "Value": [meta.sop_class_uid]},
        _SOP_INSTANCE: {"vr": "UI", "Value": [meta.sop_instance_uid]},
    }


def _failure(answer: Answer) -> dict[str, object]:
    return {_FAILURE_REASON: {"vr": "US", "Value": [answer.status]}}
