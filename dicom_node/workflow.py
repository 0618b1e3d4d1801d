"""The steps of a case in order: assemble, segment, encode, verify. The only file that knows all rooms.

Each step reads what the one before it left in the case's folder and leaves files and facts of its own; the facts are
JSON (paths, hashes, numbers), never arrays, so that any step can be repeated after a crash with the same result.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.durable_file import file_sha256
from dicom_node.errors import InputRefused, ResultHeld, ResultOutdated, SeriesRefused, SettingsError
from dicom_node.imaging.body import body_outline
from dicom_node.imaging.instances import find_instances, read_dataset
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.series import assemble, prove_series
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.delineation import Delineation, delineate
from dicom_node.results.identity import Provenance, frame_of_reference
from dicom_node.results.plausibility import Finding
from dicom_node.results.result_files import ResultFile, ResultFiles, encode_results, verify_results
from dicom_node.route.rules import Decision, Router
from dicom_node.segment.compression import compress_segmentation
from dicom_node.segment.exchange import StoredFolder, load_mask, load_segmentation, load_volume, save_mask, save_volume
from dicom_node.segment.inference_process import InferenceProcess
from models.card import Card, load_card

LOW_CONFIDENCE = 0.5
"""Mean probability inside a structure below which a person is told to look twice."""
HIGH_RIM_ENTROPY = 1.5
"""Mean entropy, in bits, at a structure's border above which a person is told to look twice.

Measured were 1.0 to 1.3 on a CT that the network knew, 1.0 to 1.4 on an MR that it did not, and 1.8 to 2.5 for a knee
in an image that shows none. Organs in the wrong place may lie below: 1.0 for a prostate called bladder.
"""


@dataclass(frozen=True)
class CaseFiles:
    """Where the files of one case lie.

    Attributes:
        root: The case's own folder.
    """

    root: Path

    @property
    def volume(self) -> Path:
        """The assembled volume; removed once the results are verified."""
        return self.root / "volume"

    @property
    def segmentation(self) -> Path:
        """The labels on the source slices, and the network's confidence."""
        return self.root / "segmentation"

    @property
    def outline(self) -> Path:
        """The body's outline."""
        return self.root / "outline.npy"

    @property
    def results(self) -> Path:
        """The DICOM objects."""
        return self.root / "results"


@dataclass(frozen=True)
class CaseWork:
    """The work on one case.

    Attributes:
        case_id: Its identity; every UID that is generated derives from it.
        card_name: Card that segments it.
        created_at: When the case was opened, seconds since the epoch; the date and time of its results.
        instances: Files of its source instances.
        files: Where its own files lie.
        inference: The process the network runs in.
        timeout_seconds: How long segmentation may take before that process is killed.
        profiles: How results are made for those who receive them; each once.
        facts: What the steps so far noted: hashes of the folders they left.
    """

    case_id: str
    card_name: str
    created_at: float
    instances: tuple[Path, ...]
    files: CaseFiles
    inference: InferenceProcess
    timeout_seconds: float
    profiles: tuple[Profile, ...]
    facts: Mapping[str, Any]

    def assemble(self) -> dict[str, Any]:
        """Prove the series whole and decode it into a volume.

        Raises:
            SeriesRefused: It is not one volume.
            InputRefused: It holds objects that are no images, or has no frame of reference.
        """
        discovery = find_instances(self.instances)
        if discovery.passed_over:
            reasons = sorted({item.reason for item in discovery.passed_over})
            raise InputRefused(f"{len(discovery.passed_over)} of {len(self.instances)} objects: {'; '.join(reasons)}")
        plan = prove_series(discovery.instances)
        volume = assemble(plan)
        frame_of_reference(volume)  # no result could be written without one: better said now than after segmentation
        stored = save_volume(volume, self.files.volume)
        return {"volume_sha256": stored.sha256, "slices": volume.geometry.shape[0], "remarks": list(plan.remarks)}

    def segment(self) -> dict[str, Any]:
        """Have the network label the volume.

        Raises:
            SegmentationFailed: The network or its process failed, or took too long.
        """
        reply = self.inference.request(
            StoredFolder(self.files.volume, self.facts["volume_sha256"]),
            self.card_name,
            self.files.segmentation,
            timeout_seconds=self.timeout_seconds,
        )
        segmentation = load_segmentation(reply.segmentation)
        return {
            "segmentation_sha256": reply.segmentation.sha256,
            "confidence": segmentation.confidence,
            "rim_entropy": segmentation.rim_entropy,
            "inference": {"device": reply.device, "seconds": reply.seconds, "peak_bytes": reply.peak_bytes},
        }

    def encode(self) -> dict[str, Any]:
        """Examine the labels and write what each profile asks for.

        A profile that cannot be served ("refused", by its identity) keeps nothing from the others.

        Raises:
            InputRefused: No structure was found, or no profile can be served.
            ResultHeld: The labels cannot be right.
        """
        outline = self._outline()
        delineation = self._delineation(outline)
        found = [structure.name for _, structure in delineation.labels.present()]
        if not found:
            raise InputRefused(f"the card {self.card_name} found none of its structures in this series")
        if delineation.objections:
            raise ResultHeld(f"not sent, a person has to look: {'; '.join(delineation.objections)}")
        results, notes, refused = [], list[str](), dict[str, str]()
        for profile in self.profiles:
            try:
                written = self._written(delineation, profile)
            except (InputRefused, SettingsError) as refusal:
                if len(self.profiles) == len(refused) + 1:
                    raise
                refused[profile.identity] = refusal.message
                notes.append(f"a destination gets nothing: {refusal.message}")
            else:
                results += [_described(file, profile) for files in written for file in files.files]
                notes += [note for files in written for note in files.notes]
        return {
            "structures": found,
            "outline_sha256": None if outline is None else save_mask(outline, self.files.outline),
            "results": results,
            "refused": refused,
            "verified": None,  # what an earlier attempt verified is not what lies there now
            "warnings": list(delineation.warnings),
            "notes": list(dict.fromkeys(notes)),
        }

    def verify(self) -> dict[str, Any]:
        """Decode the results from their bytes and compare them with the labels.

        Raises:
            VerificationFailed: A result does not hold the labels.
            ResultOutdated: The results were encoded by another version of the node.
        """
        if not is_of_this_version(self.facts):
            raise ResultOutdated("the results were made by an earlier version of the node; they are made anew")
        files = [
            ResultFile(Path(result["path"]), result["kind"], Profile.model_validate(result["made_by"]))
            for result in self.facts["results"]
        ]
        sha256 = self.facts["outline_sha256"]
        outline = None if sha256 is None else load_mask(self.files.outline, sha256)
        verified = verify_results(files, self._delineation(outline))
        least = {
            kind: min(item.least_dice for item in verified if item.kind == kind) for kind in {v.kind for v in verified}
        }
        return {"verified": least, "released": "with warnings" if self.facts["warnings"] else "without warnings"}

    def tidy(self) -> None:
        """Remove the volume, which can be assembled again; labels and probability stay with the case, compressed."""
        shutil.rmtree(self.files.volume, ignore_errors=True)
        self.files.outline.unlink(missing_ok=True)
        if self.files.segmentation.is_dir():
            compress_segmentation(self.files.segmentation)

    def _outline(self) -> npt.NDArray[np.uint8] | None:
        """The body's outline, where a profile wants it in a structure set."""
        if not any(profile.external and "RTSTRUCT" in profile.results for profile in self.profiles):
            return None
        return body_outline(self._volume())

    def _delineation(self, outline: npt.NDArray[np.uint8] | None) -> Delineation:
        segmentation = load_segmentation(StoredFolder(self.files.segmentation, self.facts["segmentation_sha256"]))
        labels = segmentation.label_volume
        return replace(delineate(self._volume(), labels, outline), doubts=tuple(self._doubts(labels)))

    def _volume(self) -> Volume:
        return load_volume(StoredFolder(self.files.volume, self.facts["volume_sha256"]))

    def _doubts(self, labels: LabelVolume) -> Iterator[Finding]:
        for label, structure in labels.present():
            confidence = self.facts["confidence"].get(structure.name)
            if confidence is None:
                yield Finding(label, structure.name, "warning", "The network alone did not find it.")
            elif confidence < LOW_CONFIDENCE:
                text = f"The network is not sure of it (mean probability {confidence:.2f})."
                yield Finding(label, structure.name, "warning", text)
            entropy = self.facts.get("rim_entropy", {}).get(structure.name, 0.0)
            if entropy > HIGH_RIM_ENTROPY:
                text = f"The network is not sure of its border (mean entropy {entropy:.2f} bits)."
                yield Finding(label, structure.name, "warning", text)

    def _written(self, delineation: Delineation, profile: Profile) -> list[ResultFiles]:
        return [
            encode_results(delineation, self._provenance(), self._target(variant), variant)
            for variant in profile.variants
        ]

    def _target(self, profile: Profile) -> Path:
        """Folder and stem of the objects made by a profile."""
        folder = self.files.results / profile.identity if profile.identity else self.files.results
        return folder / self.case_id

    def _provenance(self) -> Provenance:
        card = card_named(self.card_name)
        return Provenance(
            case_id=self.case_id,
            card=card.name,
            version=card.version,
            weights_sha256=card.weights_sha256,
            created=datetime.fromtimestamp(self.created_at).astimezone(),
        )


def _described(file: ResultFile, profile: Profile) -> dict[str, Any]:
    dataset = read_dataset(file.path, stop_before_pixels=True)
    return {
        "kind": file.kind,
        "path": str(file.path.absolute()),
        "sha256": file_sha256(file.path),
        "sop_instance_uid": str(dataset.SOPInstanceUID),
        "sop_class_uid": str(dataset.SOPClassUID),
        "profile": profile.identity,
        "made_by": file.profile.model_dump(mode="json"),
    }


def is_of_this_version(facts: Mapping[str, Any]) -> bool:
    """Whether the facts of a case tell what :meth:`CaseWork.encode` of this version tells of its results."""
    described = all({"profile", "made_by"} <= result.keys() for result in facts.get("results", ()))
    return {"results", "refused", "outline_sha256", "warnings"} <= facts.keys() and described


def is_unchanged(result: Mapping[str, Any]) -> bool:
    """Whether a result file, as :meth:`CaseWork.encode` noted it, is still what was written."""
    path = Path(result["path"])
    return path.is_file() and file_sha256(path) == result["sha256"]


def read_headers(paths: Iterable[Path]) -> Iterator[Dataset]:
    """Every attribute but the pixels of each file, for routing; one at a time, a series may have many thousands.

    Raises:
        InputRefused: A file is damaged.
    """
    return (read_dataset(path, stop_before_pixels=True) for path in paths)


def card_named(name: str) -> Card:
    """A card of the package, or of a file.

    Raises:
        SettingsError: There is none, or it is damaged.
    """
    try:
        return load_card(name)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def decide_series(router: Router, headers: Iterable[Dataset], sender: str) -> Decision:
    """The decision that every instance of a series leads to.

    Raises:
        InputRefused: No rule takes the series.
        SeriesRefused: Instances of the series lead to different decisions.
    """
    decisions: dict[tuple[object, ...], Decision] = {}
    for header in headers:
        decision = router.decide(header, sender)
        decisions.setdefault((decision.rule, decision.card, decision.destinations, decision.priority), decision)
    if len(decisions) != 1:
        names = ", ".join(sorted({f'"{outcome[0]}"' for outcome in decisions}))
        raise SeriesRefused(
            f"the images of this series lead to different decisions (rules {names}); conditions have to depend on "
            "what all images of a series share",
            kind="rules-disagree",
        )
    return next(iter(decisions.values()))


def case_identity(sop_instance_uids: Sequence[str], card_name: str | None) -> str:
    """SHA-256 over the SOP Instance UIDs, the card and its weights: the same work has the same identity everywhere.

    Args:
        sop_instance_uids: In any order.
        card_name: None where no card could be chosen.
    """
    card = card_named(card_name) if card_name else None
    parts = [*sorted(sop_instance_uids), *((card.name, card.weights_sha256) if card else ("no card",))]
    return hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()
