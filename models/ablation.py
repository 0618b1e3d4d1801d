"""The proof of the method: ways of learning from unpaired CT and MR, side by side on the same few rendered scans.

Every method sees the same images in the same order, for the same number of steps; only what is shared between the
modalities differs. Few fixed scans, as in a hospital that begins, not the endless rendering that trains the shipped
network. Tested on a body that no training scan came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from models.ablation_network import MODALITIES, AblationNetwork, Norm, Part, Sharing
from models.label_map_sources import load_maps
from models.label_maps import LabelMap
from models.losses import ClassWeights, class_confusions, distillation_loss, segmentation_loss
from models.normalisation import count_parameters
from models.optimiser import Optimiser
from models.randomness import Randomness
from models.rendering import RenderingSettings, render_patch
from models.tissues import STRUCTURES, structure_label

KINDS = ("CT", "MR")


@dataclass(frozen=True)
class Method:
    """One way of learning: what is shared, and the weight of the distillation between the modalities."""

    name: str
    sharing: Sharing
    distillation: float = 0.0


def _streams(name: str, *own: Part) -> Method:
    return Method(name, Sharing(frozenset(own)))


def _shared(name: str, norm: Norm, distillation: float = 0.0) -> Method:
    return Method(name, Sharing(norm=norm), distillation)


OURS, DISTILLED, PLAIN, INDIVIDUAL = "ours", "ours + distillation", "joint, plain instance norm", "individual networks"
METHODS = (
    _streams(INDIVIDUAL, "early", "deep", "late"),
    _shared("joint, plain batch norm", "batch"),
    _shared(PLAIN, "instance"),
    _shared("domain-specific batch norm", "domain batch"),
    _streams("streams 1: own early layers", "early"),
    _streams("streams 2: own encoders", "early", "deep"),
    _streams("streams 3: own decoders", "late"),
    _streams("streams 4: own early layers and decoders", "early", "late"),
    _shared(OURS, "domain instance"),
    _shared(DISTILLED, "domain instance", 0.5),
)
"""Streams 1 to 4: a dual-stream network divided in four ways after Valindria 2018 (doi:10.1109/WACV.2018.00066). The
abstract alone was at hand: which parts are whose is our reading."""


@dataclass(frozen=True)
class AblationPlan:
    """What is segmented on which images, scans per modality to learn from and to test on, and the optimisation.

    As in a hospital that begins: fourteen large structures, two MR sequences.
    """

    structures: tuple[str, ...] = (
        "Liver", "Spleen", "Kidney_L", "Kidney_R", "Stomach", "A_Aorta", "Lung_L", "Lung_R", "Spine", "Sacrum",
        "Pelvis_L", "Pelvis_R", "ErectorSpinae_L", "ErectorSpinae_R",
    )  # fmt: skip
    sequences: tuple[str, ...] = ("t1_fat_sat", "t2")
    scans: int = 16
    tests: int = 12
    shape: tuple[int, int, int] = (16, 56, 72)
    spacing: float = 6.0
    steps: int = 600
    slices: int = 6
    learning_rate: float = 1e-2
    warm_up: float = 0.2
    balance: float = 0.4
    filters: int = 16
    precision: str = "bf16"


@dataclass(frozen=True)
class Scans:
    """Planes of one modality: images (N, H, W), labels (N, H, W) by the plan's order, with the maps' negative marks."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Outcome:
    """Dice of one method and seed: mean over the structures, for CT and for MR; its number of parameters."""

    method: str
    seed: int
    dice: tuple[float, float]
    parameters: int

    @property
    def mean(self) -> float:
        """Mean of both modalities."""
        return sum(self.dice) / MODALITIES


@dataclass(frozen=True)
class Row:
    """One method over all seeds: mean Dice, half widths of 95 % confidence intervals (t), difference to ours."""

    method: str
    parameters: int
    ct: float
    mr: float
    mean: float
    mean_ci: float
    over_ours: float
    over_ours_ci: float


TRAIN_MAPS = ("spl_abdominal", "hubmap_female_torso", "hubmap_male_torso", "bodyparts3d_torso")
TEST_MAP = "totalsegmentator_torso"


def load_ablation_maps(folder: Path) -> tuple[list[LabelMap], LabelMap]:
    """The bodies that every method learns from, and the one it is tested on.

    Raises:
        ValueError: A map is not under `folder`.
    """
    maps = load_maps(folder, (*TRAIN_MAPS, TEST_MAP))
    return [maps[name] for name in TRAIN_MAPS], maps[TEST_MAP]


def run_ablation(
    train_maps: Sequence[LabelMap],
    test_map: LabelMap,
    *,
    seeds: Sequence[int],
    plan: AblationPlan | None = None,
    methods: Sequence[Method] = METHODS,
    progress: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Every method on every seed; a seed stands for other scans, other initial weights and another order."""
    plan = plan or AblationPlan()
    outcomes = []
    for seed in seeds:
        learnt_from = [render_scans(train_maps, kind, plan.scans, plan, seed) for kind in KINDS]
        tested_on = [render_scans([test_map], kind, plan.tests, plan, 10_000 + seed) for kind in KINDS]
        for method in methods:
            network = learn(method, learnt_from, plan, seed)
            dice = tuple(mean_dice(network, scans, modality) for modality, scans in enumerate(tested_on))
            outcome = Outcome(method.name, seed, (dice[0], dice[1]), count_parameters(network))
            outcomes.append(outcome)
            if progress is not None:
                progress(outcome)
    return outcomes


def render_scans(maps: Sequence[LabelMap], kind: str, count: int, plan: AblationPlan, seed: int) -> Scans:
    """Fixed scans of one modality, map after map; CT and MR of one seed are of different (unpaired) anatomies."""
    random = Randomness(1000 * seed + KINDS.index(kind))
    settings = RenderingSettings(plan.spacing, plausible_mr=1.0, equations_mr=0.0, sequences=plan.sequences)
    settings = replace(settings, geometry=replace(settings.geometry, cropped=0.0))
    patches = [render_patch(maps[n % len(maps)], plan.shape, kind, settings, random) for n in range(count)]
    labels = torch.cat([patch.label[0] for patch in patches])
    return Scans(torch.cat([patch.image[0, 0] for patch in patches]), _numbered(labels, plan.structures))


def _numbered(labels: Tensor, structures: Sequence[str]) -> Tensor:
    """Labels of the torso with the numbers of some structures: 1, 2, ... in their order; the others are background."""
    numbers = torch.zeros(len(STRUCTURES["torso"]) + 1, dtype=torch.long)
    for number, name in enumerate(structures, start=1):
        numbers[structure_label("torso", name)] = number
    return torch.where(labels < 0, labels, numbers[labels.clamp(min=0)])


def learn(method: Method, scans: Sequence[Scans], plan: AblationPlan, seed: int) -> AblationNetwork:
    """A network trained by the method, in evaluation mode."""
    torch.manual_seed(seed)
    network = AblationNetwork(len(plan.structures) + 1, method.sharing, filters=plan.filters)
    optimiser = Optimiser(network, weight_decay=1e-2)
    order = torch.Generator().manual_seed(seed)
    for step in range(plan.steps):
        done = step / plan.steps
        rate = plan.learning_rate * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * done))
        optimiser.zero_grad()
        distils = method.distillation > 0 and done >= plan.warm_up
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.precision == "bf16"):
            loss = _loss(network, scans, plan, method.distillation if distils else 0.0, order)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step(rate, 0.6 * rate)
    return network.eval()


def _loss(
    network: AblationNetwork, scans: Sequence[Scans], plan: AblationPlan, distillation: float, order: torch.Generator
) -> Tensor:
    losses, confusions = [], []
    chosen = [torch.randint(len(source.images), (plan.slices,), generator=order) for source in scans]
    images = [source.images[planes][:, None] for source, planes in zip(scans, chosen, strict=True)]
    for source, planes, answer in zip(scans, chosen, network.forward_both(images), strict=True):
        logits = answer[:, :, None]
        label = source.labels[planes][:, None].clamp(min=-1)  # what a map leaves unsettled teaches nothing here
        losses.append(segmentation_loss([logits], label, weights=ClassWeights(plan.balance)))
        if distillation:
            confusions.append(class_confusions(logits, label))
    total = torch.stack(losses).mean()
    if confusions:
        total = total + distillation * distillation_loss(confusions[0], confusions[1])
    return total


def mean_dice(network: AblationNetwork, scans: Scans, modality: int) -> float:
    """Dice, voxels of all test scans pooled per structure, averaged over the structures that are there."""
    classes = network.classes
    hit, sizes = np.zeros(classes), np.zeros(classes)
    with torch.inference_mode():
        for image, label in zip(torch.split(scans.images, 32), torch.split(scans.labels, 32), strict=True):
            found = network(image[:, None], modality).argmax(1)
            known = label >= 0
            found, true = found[known], label[known]
            hit += torch.bincount(true[found == true], minlength=classes).numpy()
            sizes += (torch.bincount(found, minlength=classes) + torch.bincount(true, minlength=classes)).numpy()
    present = np.flatnonzero(torch.bincount(scans.labels[scans.labels > 0], minlength=classes).numpy())
    return float(np.mean(2 * hit[present] / sizes[present]))


def summarise(outcomes: Sequence[Outcome], *, reference: str = OURS) -> list[Row]:
    """One row per method, in the order of the outcomes; differences are paired by seed."""
    by_method: dict[str, dict[int, Outcome]] = {}
    for outcome in outcomes:
        by_method.setdefault(outcome.method, {})[outcome.seed] = outcome
    return [_row(results, by_method[reference]) for results in by_method.values()]


def _row(results: Mapping[int, Outcome], ours: Mapping[int, Outcome]) -> Row:
    means = np.array([results[seed].mean for seed in results])
    over = np.array([results[seed].mean - ours[seed].mean for seed in results])
    ct, mr = np.mean([outcome.dice for outcome in results.values()], axis=0)
    first = next(iter(results.values()))
    return Row(
        first.method, first.parameters, float(ct), float(mr), float(means.mean()), _half_width(means),
        float(over.mean()), _half_width(over),
    )  # fmt: skip


def _half_width(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Half the 95 % confidence interval of a mean, by Student's t."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
