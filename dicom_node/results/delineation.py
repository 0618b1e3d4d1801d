"""What is delivered of a series: its labels, the body's outline, and what a person should know of each structure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.body import body_outline
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.results.plausibility import Finding, examine

EXTERNAL = "External"


@dataclass(frozen=True)
class Delineation:
    """Labels of a series, ready to be encoded for any destination.

    Attributes:
        volume: The source.
        labels: What was segmented, on its slices.
        outlined: The same with the body's outline as an overlay, for structure sets; ``labels`` where there is none.
        findings: What is noteworthy, doubtful or wrong about the labels.
    """

    volume: Volume
    labels: LabelVolume
    outlined: LabelVolume
    findings: tuple[Finding, ...]

    @property
    def remarks(self) -> dict[int, str]:
        """What the description of each label says: where it is cut by the field of view, what is doubtful."""
        texts: dict[int, list[str]] = defaultdict(list)
        for finding in self.findings:
            texts[finding.label].append(finding.text if finding.severity == "note" else f"CHECK: {finding.text}")
        return {label: "; ".join(found) for label, found in texts.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful, by structure."""
        return tuple(f"{item.name}: {item.text}" for item in self.findings if item.severity == "warning")

    @property
    def objections(self) -> tuple[str, ...]:
        """Why nobody should receive this unseen."""
        return tuple(f"{item.name}: {item.text}" for item in self.findings if item.severity == "hold")


def delineate(volume: Volume, labels: LabelVolume, *, external: bool) -> Delineation:
    """Examine labels, and outline the body.

    Args:
        volume: The source; its voxels are read for the outline.
        labels: On its slices.
        external: Whether structure sets are to have the body's outline. Labels with a structure of type EXTERNAL keep
            theirs.
    """
    outlined = _with_outline(volume, labels) if external else labels
    return Delineation(volume=volume, labels=labels, outlined=outlined, findings=examine(labels))


def _with_outline(volume: Volume, labels: LabelVolume) -> LabelVolume:
    structures = [structure for layer in labels.layers for structure in layer.structures.values()]
    if any(structure.interpreted_type == "EXTERNAL" for structure in structures):
        return labels
    body = body_outline(volume)
    if not body.any():
        return labels
    number = max(label for layer in labels.layers for label in layer.structures) + 1
    if number > 255:
        body = body.astype("uint16")
    body *= number
    overlay = LabelVolume(body, labels.geometry, {number: load_anatomy()[EXTERNAL]})
    return replace(labels, overlays=(*labels.overlays, overlay))
