"""Agreement of the network with a reference segmentation: Dice, surface Dice, HD95 and volume error per structure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from models.appearance import follow_image
from models.card import Card
from models.fusion_evaluation import FusionRow, fusion_table
from models.inference import load_network, predict_card, read_network
from models.label_map_sources import load_maps
from models.label_maps import LabelMap
from models.network import SharedNetwork
from models.nifti import Scan, read_nifti
from models.plan import read_plan
from models.release import listed_network
from models.rendered_evaluation import RenderedTest, rendered_dice
from models.rendering import RenderingSettings
from models.standardisation import standardise
from models.torso_names import SIDES

Array = npt.NDArray[np.float64]
_PAIRED = {
    "kidney": "Kidney", "femur": "Femur", "hip": "Pelvis", "iliopsoas": "Iliopsoas", "autochthon": "ErectorSpinae",
    "gluteus_maximus": "Gluteal", "gluteus_medius": "Gluteal", "gluteus_minimus": "Gluteal",
    "lung_upper_lobe": "Lung", "lung_middle_lobe": "Lung", "lung_lower_lobe": "Lung", "lung": "Lung",
}  # fmt: skip
TOTALSEGMENTATOR_NAMES: dict[str, str] = {
    "liver": "Liver", "spleen": "Spleen", "gallbladder": "Gallbladder", "pancreas": "Pancreas", "stomach": "Stomach",
    "aorta": "A_Aorta", "inferior_vena_cava": "V_Venacava_I", "urinary_bladder": "Bladder", "sacrum": "Sacrum",
    "heart": "Heart", "heart_myocardium": "Heart", "heart_atrium_left": "Heart", "heart_ventricle_left": "Heart",
    "heart_atrium_right": "Heart", "heart_ventricle_right": "Heart", "vertebrae": "Spine",
    "intervertebral_discs": "Spine",
    **{f"vertebrae_{part}{n}": "Spine" for part, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)},
    **{f"{name}_{side}": f"{ours}_{letter}" for name, ours in _PAIRED.items() for side, letter in SIDES},
}  # fmt: skip
"""TotalSegmentator's structure names (v1, v2 and MR) -> ours."""


@dataclass(frozen=True)
class Agreement:
    """One structure against its reference; distances in mm, volumes in ml."""

    structure: str
    dice: float
    surface_dice: float
    hd95_mm: float
    volume_ml: float
    reference_ml: float

    @property
    def volume_error(self) -> float:
        """Relative volume error, positive where too much was segmented."""
        return self.volume_ml / self.reference_ml - 1


def evaluate(  # noqa: PLR0913 - what is measured, and against what, are independent
    card: Card,
    image: Path,
    labels: Path,
    modality: str,
    *,
    table: Path | None = None,
    weights: Path | None = None,
    tolerance_mm: float = 3.0,
    finish: Callable[[Tensor], object] | None = None,
) -> list[Agreement]:
    """Agreement of the card's network with a reference label volume on the same grid as the image (both NIfTI).

    `table`: JSON of label -> name (ours or TotalSegmentator's); without it the labels are the card's, 1..N. `weights`:
    a file as training wrote it, instead of the card's. `finish` changes the scores (C, k, j, i) on the card's grid in
    place, before they become labels. Structures that the reference does not contain are left out.
    """
    scan, reference = read_nifti(image), read_nifti(labels)
    if scan.voxels.shape != reference.voxels.shape:
        raise ValueError(
            f"expected image and labels on one grid, got {scan.voxels.shape} and {reference.voxels.shape}: resample one"
        )
    names = read_names(card, table)
    truth = harmonise(reference.voxels, names, card.structures)
    found = segment(card_network(card, weights), card, scan, modality, finish)
    return compare(found, truth, card.structures, scan.spacing, tolerance_mm)


def rendered_columns(  # noqa: PLR0913 - as the command's options
    card: Card,
    configuration: Path,
    maps: Path,
    names: Sequence[str],
    *,
    images: int,
    weights: Path | None = None,
    unseen: bool = False,
) -> dict[str, dict[str, float]]:
    """Dice per structure on rendered images, by how the network is asked: CT, MR, either as unknown, both fused.

    `names`: the maps that are rendered; all of the card's anatomy in the configuration unless given. `unseen`: with
    contrasts that training never draws.
    """
    settings, sources = _rendering(card, configuration, maps, names)
    settings = replace(settings, contrast="unseen" if unseen else "trained")
    network = card_network(card, weights)
    tests = {
        "CT": RenderedTest(("CT",), card.window, images),
        "MR": RenderedTest(("MR",), card.window, images),
        "CT as unknown": RenderedTest(("CT",), card.window, images, told="unknown"),
        "MR as unknown": RenderedTest(("MR",), card.window, images, told="unknown"),
        "CT+MR": RenderedTest(("CT", "MR"), card.window, images),
    }
    return {key: rendered_dice(network, sources, card.structures, settings, test) for key, test in tests.items()}


def fused_rows(
    card: Card, configuration: Path, maps: Path, names: Sequence[str], *, images: int, weights: Path | None = None
) -> list[FusionRow]:
    """What a pair brings over either image; arguments as for `rendered_columns`."""
    settings, sources = _rendering(card, configuration, maps, names)
    return fusion_table(card_network(card, weights), sources, card.structures, settings, card.window, images=images)


def _rendering(
    card: Card, configuration: Path, maps: Path, names: Sequence[str]
) -> tuple[RenderingSettings, list[LabelMap]]:
    """Rendering of an anatomy on the card's grid, and the maps (reading them takes minutes)."""
    anatomies = read_plan(configuration).anatomies
    if card.anatomy not in anatomies:
        raise ValueError(f"{configuration} renders no {card.anatomy}, which the card {card.name} is for")
    plan = anatomies[card.anatomy]
    wanted = list(names) or sorted(plan.maps)
    sources = list(load_maps(maps, wanted).values())
    if other := [source.name for source in sources if source.anatomy != card.anatomy]:
        raise ValueError(f"expected maps of the {card.anatomy}, got {', '.join(other)}")
    return replace(plan.rendering, spacing=card.spacing_mm[0]), sources


def card_network(card: Card, weights: Path | None = None) -> SharedNetwork:
    """The card's network, or one of other weights (a training's) that answers the card's structures."""
    return load_network(card) if weights is None else listed_network(read_network(weights), [card])


def read_names(card: Card, table: Path | None) -> dict[int, str]:
    """Label -> structure name of the card, from a JSON table (ours or TotalSegmentator's names) or the card itself."""
    if table is None:
        return dict(enumerate(card.structures, start=1))
    stored: Mapping[str, str] = json.loads(table.read_text(encoding="utf-8"))
    renamed = {int(label): TOTALSEGMENTATOR_NAMES.get(name, name) for label, name in stored.items()}
    return {label: name for label, name in renamed.items() if name in card.structures}


def harmonise(
    voxels: npt.NDArray[np.float32], names: Mapping[int, str], structures: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """Reference labels with the card's numbers."""
    lookup = np.zeros(int(max(voxels.max(), max(names, default=0))) + 1, np.uint8)
    for label, name in names.items():
        if name in structures:
            lookup[label] = structures.index(name) + 1
    return np.asarray(lookup[np.round(voxels).astype(np.intp).clip(0)])


def segment(
    network: SharedNetwork, card: Card, scan: Scan, modality: str, finish: Callable[[Tensor], object] | None = None
) -> npt.NDArray[np.uint8]:
    """Labels of the card on the scan's own grid; `finish` as for `evaluate`."""
    grid = [max(1, round(n * s / t)) for n, s, t in zip(scan.voxels.shape, scan.spacing, card.spacing_mm, strict=True)]
    volume = torch.from_numpy(scan.voxels)[None, None]
    small = _resample(volume, grid)[0, 0]
    image = standardise(small, modality)
    logits = predict_card(network, image, modality, card)
    follow_image(logits, image, card.appearance)
    if finish is not None:
        finish(logits)
    return _argmax_on(logits, scan.voxels.shape)


def _resample(volume: Tensor, grid: Sequence[int]) -> Tensor:
    """Averaged where the grid gets coarser (point sampling would alias), then trilinear."""
    coarser = [min(n, g) for n, g in zip(volume.shape[2:], grid, strict=True)]
    if any(g < 0.75 * n for n, g in zip(volume.shape[2:], coarser, strict=True)):
        volume = nn.functional.interpolate(volume, size=coarser, mode="area")
    return nn.functional.interpolate(volume, size=list(grid), mode="trilinear", align_corners=False)


def _argmax_on(logits: Tensor, shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Class per voxel after trilinear interpolation of the logits, in slabs so that memory stays bounded."""
    planes = nn.functional.interpolate(
        logits.permute(2, 3, 0, 1).flatten(0, 1), size=shape[0], mode="linear", align_corners=False
    )
    rows, columns = logits.shape[2:]
    labels = np.empty(tuple(shape), np.uint8)
    for k in range(shape[0]):
        plane = planes[..., k].reshape(rows, columns, -1).permute(2, 0, 1)[None]
        fine = nn.functional.interpolate(plane, size=tuple(shape[1:]), mode="bilinear", align_corners=False)
        labels[k] = fine[0].argmax(0).to(torch.uint8).numpy()
    return labels


def compare(
    found: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.uint8],
    structures: Sequence[str],
    spacing: tuple[float, float, float],
    tolerance_mm: float,
) -> list[Agreement]:
    """Agreement per structure that the reference contains."""
    results = []
    millilitres = float(np.prod(spacing)) / 1000
    for label, name in enumerate(structures, start=1):
        a, b = found == label, truth == label
        if not b.any():
            continue
        dice = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
        surface, hd95 = surface_agreement(a, b, spacing, tolerance_mm)
        results.append(Agreement(name, dice, surface, hd95, float(a.sum()) * millilitres, float(b.sum()) * millilitres))
    return results


def surface_agreement(
    a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], spacing: tuple[float, float, float], tolerance_mm: float
) -> tuple[float, float]:
    """Share of both surfaces within `tolerance_mm` of each other, and the 95th percentile of the distances in mm."""
    if not a.any() or not b.any():
        return 0.0, float("inf")
    edges = [mask & ~ndimage.binary_erosion(mask, border_value=1) for mask in (a, b)]
    if not (edges[0].any() and edges[1].any()):
        return 0.0, float("inf")
    there = ndimage.distance_transform_edt(~edges[1], sampling=spacing)[edges[0]]
    back = ndimage.distance_transform_edt(~edges[0], sampling=spacing)[edges[1]]
    both = np.concatenate([there, back])
    return float((both <= tolerance_mm).mean()), float(max(np.percentile(there, 95), np.percentile(back, 95)))
