"""The training configuration: what is rendered, which network, how it is optimised."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.deformation import Geometry
from models.network import NetworkShape
from models.rendering import RenderingSettings
from models.tissues import STRUCTURES

Shape = tuple[int, int, int]
"""Voxels (k, j, i) of a patch."""


@dataclass(frozen=True)
class Patch:
    """One kind of patch: voxels (k, j, i), edge of the voxels in mm, how often it is drawn."""

    shape: Shape
    spacing: float
    weight: float = 1.0


@dataclass(frozen=True)
class Stage:
    """The patches of an anatomy until a share of the plan's steps.

    A coarse grid first shows whole bodies at a fraction of the cost; the kernels go on to learn on the finer one.
    """

    until: float
    patches: tuple[Patch, ...]


@dataclass(frozen=True)
class AnatomyPlan:
    """What one anatomy is trained on: share of the steps, maps with weights, stages, rendering, emphasis."""

    share: float
    maps: Mapping[str, float]
    stages: tuple[Stage, ...]
    rendering: RenderingSettings
    emphasis: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the stages cover the training."""
        ends = [stage.until for stage in self.stages]
        if not ends or ends != sorted(ends) or ends[-1] < 1.0:
            raise ValueError(f"expected stages with rising `until`, the last at 1.0, got {ends}")

    def at(self, done: float) -> Stage:
        """The stage after a share of the steps."""
        return next((stage for stage in self.stages if done < stage.until), self.stages[-1])

    def on(self, patch: Patch) -> RenderingSettings:
        """The rendering on a patch's grid."""
        return replace(self.rendering, spacing=patch.spacing)


@dataclass(frozen=True)
class TrainingPlan:
    """Everything a training run depends on besides the maps.

    `batch`: patches of each modality in a step, `mr_weight`: the share of the MR in their loss. `learning_rate` is the
    kernels' (Muon), `affine_rate` that of everything else (AdamW). `fused`: share of the steps that see a pair, one of
    it `dropped` at times, tissues `hidden` in one of the two with this chance per group, the MR displaced by
    `misaligned_mm` (one sigma, per axis). `start`: weights to begin from instead of chance, relative to the
    configuration.
    """

    anatomies: Mapping[str, AnatomyPlan]
    steps: int = 5000
    batch: int = 1
    mr_weight: float = 0.5
    learning_rate: float = 6e-3
    affine_rate: float = 4e-3
    weight_decay: float = 1e-2
    warm_up: int = 50
    average: float = 0.997
    distillation: float = 0.3
    distillation_after: float = 0.2
    balance: float = 0.5
    balance_until: float = 0.7
    unknown: float = 0.2
    swapped: float = 0.02
    fused: float = 0.08
    dropped: float = 0.3
    hidden: float = 0.25
    misaligned_mm: float = 2.0
    seed: int = 1
    threads: int = 1
    precision: str = "bf16"
    checkpoint_steps: int = 100
    picture_steps: int = 500
    start: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """SHA-256 of everything in the plan: a checkpoint belongs to one plan."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def shape(self) -> NetworkShape:
        """Shape of the network that the plan trains."""
        return NetworkShape({name: len(STRUCTURES[name]) + 1 for name in self.anatomies}, **self.network)


def read_plan(config: Path) -> TrainingPlan:
    """The plan in a TOML: ``[training]``, ``[network]`` and one ``[anatomy.NAME]`` per anatomy.

    ``base = "OTHER.toml"``, beside it, gives what the file itself does not say.

    Raises:
        ValueError: A key is unknown or missing; the message names it.
    """
    try:
        document = _read_document(config)
        anatomies = {name: _read_anatomy(table) for name, table in document["anatomy"].items()}
        training = dict(document.get("training", {}))
        if training.get("start"):
            training["start"] = str(config.parent / training["start"])
        return TrainingPlan(anatomies, network=_with_tuples(document.get("network", {})), **training)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{config}: expected a training configuration, got the problem {error}") from error


def _read_document(config: Path) -> dict[str, Any]:
    document = tomllib.loads(config.read_text(encoding="utf-8"))
    base = document.pop("base", None)
    return document if base is None else _over(_read_document(config.parent / base), document)


def _over(base: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """`document` over `base`, table by table; anything but a table replaces what was there."""
    merged = dict(base)
    for key, value in document.items():
        merged[key] = _over(base.get(key, {}), value) if isinstance(value, dict) else value
    return merged


def without_maps(plan: TrainingPlan, left_out: Collection[str]) -> TrainingPlan:
    """The plan with some maps left out: to measure on what was never seen, or for their licences.

    Raises:
        ValueError: No anatomy has such a map, or one would have none left.
    """
    known = {name for anatomy in plan.anatomies.values() for name in anatomy.maps}
    if unknown := sorted(set(left_out) - known):
        raise ValueError(f"expected maps of the plan ({', '.join(sorted(known))}), got {', '.join(unknown)}")
    anatomies = {}
    for name, anatomy in plan.anatomies.items():
        maps = {key: weight for key, weight in anatomy.maps.items() if key not in left_out}
        if not maps:
            raise ValueError(f"without {', '.join(sorted(left_out))} the anatomy {name} has no map left")
        anatomies[name] = replace(anatomy, maps=maps)
    return replace(plan, anatomies=anatomies)


def _read_anatomy(table: Mapping[str, Any]) -> AnatomyPlan:
    rendering = dict(table.get("rendering", {}))
    geometry = Geometry(**_with_tuples(rendering.pop("geometry", {})))
    stages = tuple(_read_stage(entry) for entry in table["stage"])
    return AnatomyPlan(
        float(table["share"]),
        dict(table["maps"]),
        stages,
        RenderingSettings(stages[-1].patches[0].spacing, geometry, **_with_tuples(rendering)),
        dict(table.get("emphasis", {})),
    )


def _read_stage(table: Mapping[str, Any]) -> Stage:
    patches = tuple(
        Patch(tuple(entry["shape"]), float(entry["spacing"]), float(entry["weight"])) for entry in table["patches"]
    )
    return Stage(float(table["until"]), patches)


def _with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """TOML's lists as tuples, so that the plan is hashable and frozen."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
