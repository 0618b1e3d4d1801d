"""What is delivered of a series: its labels, the body's outline, and what a person should know of each structure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import InputRefused
from dicom_node.imaging.label_file import MAX_LABEL
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.results.plausibility import Finding, examine

EXTERNAL = "EXTERNAL"


@dataclass(frozen=True)
class Delineation:
    """Labels of a series, ready to be encoded for any destination.

    Attributes:
        volume: The source.
        labels: What was segmented, on its slices.
        outlined: The same with the body's outline as an overlay, for structure sets; ``labels`` where there is none.
        doubts: What is doubtful beside what the labels themselves show: the network's own uncertainty.
    """

    volume: Volume
    labels: LabelVolume
    outlined: LabelVolume
    doubts: tuple[Finding, ...] = ()

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is noteworthy, doubtful or wrong about the labels."""
        return (*examine(self.labels), *self.doubts)

    @property
    def remarks(self) -> dict[int, str]:
        """What the description of each label says: where it is cut by the field of view, what is doubtful."""
        texts: dict[int, list[str]] = defaultdict(list)
        for finding in self.findings:
            texts[finding.label].append(finding.text if finding.severity == "note" else f"CHECK: {finding.text}")
        return {label: " ".join(found) for label, found in texts.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful, by structure."""
        return tuple(f"{item.name}: {item.text}" for item in self.findings if item.severity == "warning")

    @property
    def objections(self) -> tuple[str, ...]:
        """Why nobody should receive this unseen."""
        return tuple(f"{item.name}: {item.text}" for item in self.findings if item.severity == "hold")


def delineate(volume: Volume, labels: LabelVolume, outline: npt.NDArray[np.uint8] | None) -> Delineation:
    """Put labels and the body's outline together.

    Args:
        volume: The source.
        labels: On its slices.
        outline: (k, j, i) 1 inside the body, as :func:`~dicom_node.imaging.body.body_outline` finds it; None for
            structure sets without. Labels with a structure of type EXTERNAL keep theirs.

    Raises:
        InputRefused: Every label is taken.
    """
    structures = [structure for layer in labels.layers for structure in layer.structures.values()]
    has_one = any(structure.interpreted_type == EXTERNAL for structure in structures)
    if outline is None or has_one or not outline.any():
        return Delineation(volume=volume, labels=labels, outlined=labels)
    number = _free_label(labels)
    body = outline * np.uint8(number) if number < 256 else outline * np.uint16(number)
    overlay = LabelVolume(body, labels.geometry, {number: load_anatomy()["External"]})
    outlined = replace(labels, overlays=(*labels.overlays, overlay))
    return Delineation(volume=volume, labels=labels, outlined=outlined)


def _free_label(labels: LabelVolume) -> int:
    """The lowest label that no structure of any layer has."""
    taken = {label for layer in labels.layers for label in layer.structures}
    free = next((label for label in range(1, MAX_LABEL + 1) if label not in taken), None)
    if free is None:
        raise InputRefused(f"all {MAX_LABEL} labels are taken, so none is left for the body's outline")
    return free
