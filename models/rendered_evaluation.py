"""Agreement on rendered images: what the network makes of a body whose labels are exact, in any contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from models.inference import predict_fused_logits, predict_logits
from models.label_maps import LabelMap
from models.network import SharedNetwork
from models.normalisation import kind_code
from models.rendering import RenderingSettings, deform, paint_image
from models.tissues import structure_label

SEED = 20_261
"""Not training's."""


@dataclass(frozen=True)
class RenderedTest:
    """What is rendered: one kind or two (fused, of the same anatomy), voxels (k, j, i) of each image, how many."""

    kinds: tuple[str, ...]
    shape: tuple[int, int, int]
    images: int = 8


def rendered_dice(
    network: SharedNetwork,
    source: LabelMap,
    structures: Sequence[str],
    settings: RenderingSettings,
    test: RenderedTest,
) -> dict[str, float]:
    """Dice per structure, pooled over random renderings of a map.

    Args:
        network: In evaluation mode.
        source: The map; a map the network was trained on measures new contrasts and deformations of a seen body.
        structures: The network's, in the order of its outputs from 1.
        settings: Rendering, as in training.
        test: What is rendered.
    """
    generator = torch.Generator().manual_seed(SEED)
    counts = np.zeros((3, len(structures) + 1))
    settings = replace(settings, geometry=replace(settings.geometry, cropped=0.0, focus=()))
    renumbered = _renumbering(source.anatomy, structures)
    for _ in range(test.images):
        anatomy = deform(source, test.shape, settings, generator)
        patches = [paint_image(anatomy, (kind, kind), settings, generator) for kind in test.kinds]
        images = [patch.image[0, 0] for patch in patches]
        if len(images) == 1:
            logits = predict_logits(network, images[0], kind_code(test.kinds[0]), source.anatomy, window=test.shape)
        else:
            logits = predict_fused_logits(network, images, test.kinds, source.anatomy, window=test.shape)
        known = anatomy.label >= 0
        counts += _overlaps(logits.argmax(0)[known], renumbered[anatomy.label[known]], len(structures) + 1)
    return {
        name: float(2 * counts[0, label] / (counts[1, label] + counts[2, label]))
        for label, name in enumerate(structures, start=1)
        if counts[2, label] > 0
    }


def _renumbering(anatomy: str, structures: Sequence[str]) -> torch.Tensor:
    """Training's label -> the network's output; structures that it lacks are background."""
    numbers = torch.zeros(256, dtype=torch.long)
    for output, name in enumerate(structures, start=1):
        numbers[structure_label(anatomy, name)] = output
    return numbers


def _overlaps(
    found: torch.Tensor, truth: torch.Tensor, classes: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(3, classes): voxels in common, found, true."""
    rows = (found[found == truth], found, truth)
    return np.stack([torch.bincount(row, minlength=classes).numpy().astype(np.float64) for row in rows])
