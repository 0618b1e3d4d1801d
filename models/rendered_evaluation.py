"""Agreement on rendered images: what the network makes of a body whose labels are exact, in any contrast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.hiding import Hidden, hide
from models.inference import predict_fused_logits, predict_logits
from models.label_maps import LabelMap
from models.network import SharedNetwork
from models.normalisation import IMAGE_KINDS, kind_code
from models.randomness import Randomness
from models.rendering import Anatomy, RenderingSettings, deform, paint_image
from models.tissues import structure_label
from models.warping import shifted

SEED = 20_261
"""Not training's."""


@dataclass(frozen=True)
class RenderedTest:
    """What is rendered, and how the network is asked.

    `kinds`: one kind, or two that are fused (of the same anatomy). `shape`: voxels (k, j, i) of each image. `told`: the
    kind the network is told instead of a single image's own. `shift_mm`: how far the second image is displaced, in a
    random direction. `hidden`: tissues that cannot be told apart in an image.
    """

    kinds: tuple[str, ...]
    shape: tuple[int, int, int]
    images: int = 8
    told: str | None = None
    shift_mm: float = 0.0
    hidden: Hidden | None = None


class Overlaps:
    """Voxels per structure that were found, are true, and are both, over any number of images."""

    def __init__(self, structures: Sequence[str]) -> None:
        self._structures = structures
        self._counts = np.zeros((3, len(structures) + 1))

    def add(self, found: Tensor, true: Tensor) -> None:
        """Count one image's known voxels."""
        rows = (found[found == true], found, true)
        classes = len(self._structures) + 1
        self._counts += np.stack([torch.bincount(row, minlength=classes).cpu().numpy() for row in rows])

    def dice(self) -> dict[str, float]:
        """Dice of every structure that was there."""
        both, found, true = self._counts
        return {
            name: float(2 * both[label] / (found[label] + true[label]))
            for label, name in enumerate(self._structures, start=1)
            if true[label] > 0
        }


def rendered_dice(
    network: SharedNetwork,
    sources: LabelMap | Iterable[LabelMap],
    structures: Sequence[str],
    settings: RenderingSettings,
    test: RenderedTest,
) -> dict[str, float]:
    """Dice per structure, pooled over random renderings of one map or, in turn, of several.

    Args:
        network: In evaluation mode.
        sources: A map the network was trained on measures new contrasts and deformations of a seen body.
        structures: The network's, in the order of its outputs from 1.
        settings: Rendering, as in training.
        test: What is rendered.
    """
    maps = [sources] if isinstance(sources, LabelMap) else list(sources)
    settings = replace(settings, geometry=replace(settings.geometry, cropped=0.0, focus=()), narrow_ct=0.0)
    overlaps = Overlaps(structures)
    for n in range(test.images):
        source = maps[n % len(maps)]
        random = Randomness(SEED + 10 * n)  # the same bodies however they are looked at, and the same looks
        anatomy = deform(source, test.shape, settings, random)
        images = [
            _painted(anatomy, kind, settings, test, Randomness(SEED + 10 * n + 1 + IMAGE_KINDS.index(kind)))
            for kind in test.kinds
        ]
        direction = torch.tensor([random.normal() for _ in range(3)])
        if test.shift_mm and len(images) > 1:
            move = direction / direction.norm() * test.shift_mm / settings.spacing
            images[1] = shifted(images[1][None, None], move.tolist())[0, 0]
        logits = _asked(network, images, source.anatomy, test)
        known = anatomy.label >= 0
        overlaps.add(logits.argmax(0)[known], _renumbering(source.anatomy, structures)[anatomy.label[known]])
    return overlaps.dice()


def _painted(
    anatomy: Anatomy, kind: str, settings: RenderingSettings, test: RenderedTest, random: Randomness
) -> Tensor:
    tissue = hide(anatomy.tissue, (test.hidden or {}).get(kind, {}))
    told = test.told if test.told and len(test.kinds) == 1 else kind
    return paint_image(replace(anatomy, tissue=tissue), (kind, told), settings, random).image[0, 0]


def _asked(network: SharedNetwork, images: Sequence[Tensor], anatomy: str, test: RenderedTest) -> Tensor:
    if len(images) > 1:
        return predict_fused_logits(network, images, test.kinds, anatomy, window=test.shape)
    return predict_logits(network, images[0], kind_code(test.told or test.kinds[0]), anatomy, window=test.shape)


def _renumbering(anatomy: str, structures: Sequence[str]) -> Tensor:
    """Training's label -> the network's output; structures that it lacks are background."""
    numbers = torch.zeros(256, dtype=torch.long)
    for output, name in enumerate(structures, start=1):
        numbers[structure_label(anatomy, name)] = output
    return numbers
