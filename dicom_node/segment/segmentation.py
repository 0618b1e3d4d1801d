"""A segmentation: a label volume and how sure the network was. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.imaging.label_volume import LabelVolume


@dataclass(frozen=True)
class Segmentation:
    """What the network found in one volume.

    Attributes:
        label_volume: Labels on the slices of the source volume.
        confidence: By name of structure, the mean probability of the class over the voxels that were given it, 0 to 1;
            only structures that were found. It is the network's own measure, not an accuracy.
        rim_entropy: By name of structure, the mean entropy in bits of the probabilities over the voxels at its border:
            0 is sure, 1 two classes equally likely; only structures that were found.
        seconds: Wall-clock time by step: load, resample, network, clean, label.
        card: Name of the card.
        card_version: Its version.
        weights_sha256: Of the weights that were used.
    """

    label_volume: LabelVolume
    confidence: dict[str, float]
    rim_entropy: dict[str, float]
    seconds: dict[str, float]
    card: str
    card_version: str
    weights_sha256: str
