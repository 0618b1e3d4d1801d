"""Training of the shared network on rendered images; resumes exactly where it stopped."""

from __future__ import annotations

import json
import math
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.deformation import Geometry, chance
from models.label_map_sources import load_maps
from models.label_maps import LabelMap
from models.losses import ClassWeights, class_confusions, distillation_loss, segmentation_loss
from models.network import NetworkShape, SharedNetwork
from models.normalisation import kind_code
from models.rendering import Anatomy, RenderedPatch, RenderingSettings, deform, paint_image
from models.tissues import STRUCTURES, structure_label

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class AnatomyPlan:
    """What one anatomy is trained on: share of the steps, maps and patch shapes with weights, rendering, emphasis."""

    share: float
    maps: Mapping[str, float]
    patches: tuple[tuple[tuple[int, int, int], float], ...]
    rendering: RenderingSettings
    emphasis: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingPlan:
    """Everything a training run depends on besides the maps."""

    anatomies: Mapping[str, AnatomyPlan]
    steps: int = 5000
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 100
    average: float = 0.997
    distillation: float = 0.3
    distillation_after: float = 0.2
    balance: float = 0.5
    balance_until: float = 0.7
    unknown: float = 0.2
    fused: float = 0.08
    seed: int = 1
    threads: int = 1
    precision: str = "bf16"
    checkpoint_steps: int = 100
    network: Mapping[str, Any] = field(default_factory=dict)

    def shape(self) -> NetworkShape:
        """Shape of the network that the plan trains."""
        return NetworkShape({name: len(STRUCTURES[name]) + 1 for name in self.anatomies}, **self.network)


def read_plan(config: Path) -> TrainingPlan:
    """The plan in a TOML: ``[training]``, ``[network]`` and one ``[anatomy.NAME]`` per anatomy.

    Raises:
        ValueError: A key is unknown or missing; the message names it.
    """
    document = tomllib.loads(config.read_text(encoding="utf-8"))
    try:
        anatomies = {name: _read_anatomy(table) for name, table in document["anatomy"].items()}
        network = _with_tuples(document.get("network", {}))
        return TrainingPlan(anatomies, network=network, **document.get("training", {}))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{config}: expected a training configuration, got the problem {error}") from error


def _read_anatomy(table: Mapping[str, Any]) -> AnatomyPlan:
    rendering = dict(table["rendering"])
    geometry = Geometry(**_with_tuples(rendering.pop("geometry", {})))
    patches = tuple((tuple(entry["shape"]), float(entry["weight"])) for entry in table["patches"])
    return AnatomyPlan(
        float(table["share"]),
        dict(table["maps"]),
        patches,
        RenderingSettings(geometry=geometry, **_with_tuples(rendering)),
        dict(table.get("emphasis", {})),
    )


def _with_tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """TOML's lists as tuples, so that the plan is hashable and frozen."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


class Trainer:
    """A network in training: weights, their running average, optimiser, random state and step."""

    def __init__(self, plan: TrainingPlan, maps: Mapping[str, LabelMap]) -> None:
        self.plan = plan
        self.maps = maps
        torch.manual_seed(plan.seed)
        self.network = SharedNetwork(plan.shape())
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.step = 0

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to a hundredth."""
        plan = self.plan
        if self.step < plan.warm_up:
            return plan.learning_rate * (self.step + 1) / plan.warm_up
        done = min(1.0, self.step / max(1, plan.steps))
        return plan.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def run_step(self) -> dict[str, float]:
        """One optimiser step on a CT and an MR patch (or on one fused pair); returns the losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        name = _pick({a: p.share for a, p in self.plan.anatomies.items()}, self.generator)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.precision == "bf16"):
            losses = self._fused(name) if chance(self.plan.fused, self.generator) else self._both(name)
        total = losses.pop("total")
        total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
        self._update_average()
        self.step += 1
        return {"loss": float(total.detach())} | {
            f"{name}_{key}": float(value.detach()) for key, value in losses.items()
        }

    def _both(self, name: str) -> dict[str, Tensor]:
        """Losses of one CT and one MR patch of different anatomies, and the distillation between them."""
        losses: dict[str, Tensor] = {}
        confusions = []
        for kind in ("CT", "MR"):
            told = "unknown" if chance(self.plan.unknown, self.generator) else kind
            patch = self._paint(name, self._deform(name), (kind, told))
            logits = self.network(patch.image, kind_code(told), name)
            losses[kind] = segmentation_loss(logits, patch.label, patch.unsettled, self._weights(name))
            if self._distils():
                confusions.append(class_confusions(logits[0], patch.label))
        losses["total"] = 0.5 * (losses["CT"] + losses["MR"])
        if confusions:
            losses["KD"] = distillation_loss(confusions[0], confusions[1])
            losses["total"] = losses["total"] + self.plan.distillation * losses["KD"]
        return losses

    def _fused(self, name: str) -> dict[str, Tensor]:
        """Loss of one anatomy seen by both modalities at once."""
        anatomy = self._deform(name)
        patches = [self._paint(name, anatomy, (kind, kind)) for kind in ("CT", "MR")]
        logits = self.network.forward_fused([p.image for p in patches], ["CT", "MR"], name)
        assert isinstance(logits, list)  # a network in training
        loss = segmentation_loss(logits, anatomy.label[None], anatomy.unsettled, self._weights(name))
        return {"fused": loss, "total": loss}

    def _weights(self, name: str) -> ClassWeights:
        """Balance helps small structures to appear and then gives way, so that their size comes out right."""
        done = self.step / max(1, self.plan.steps)
        balance = self.plan.balance * max(0.0, 1 - done / self.plan.balance_until)
        emphasis = self.plan.anatomies[name].emphasis
        return ClassWeights(balance, {structure_label(name, key): factor for key, factor in emphasis.items()})

    def _distils(self) -> bool:
        return self.plan.distillation > 0 and self.step >= self.plan.distillation_after * self.plan.steps

    def _deform(self, name: str) -> Anatomy:
        plan = self.plan.anatomies[name]
        source = self.maps[_pick(plan.maps, self.generator)]
        shape = plan.patches[_pick_index([weight for _, weight in plan.patches], self.generator)][0]
        return deform(source, shape, plan.rendering, self.generator)

    def _paint(self, name: str, anatomy: Anatomy, kinds: tuple[str, str]) -> RenderedPatch:
        return paint_image(anatomy, kinds, self.plan.anatomies[name].rendering, self.generator)

    def _update_average(self) -> None:
        keep = min(self.plan.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)

    def save(self, folder: Path) -> None:
        """Write the checkpoint (for going on) and the averaged weights (for use), each under its final name at once."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        export_weights(self.average, self.network.shape, folder / "weights.safetensors")

    def load(self, folder: Path) -> None:
        """Go on from `save`'s checkpoint."""
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.step = state["step"]


def export_weights(weights: Mapping[str, Tensor], shape: NetworkShape, path: Path) -> None:
    """Weights as fp16 safetensors with the network's shape in the header."""
    header = {"shape": json.dumps(shape.to_header())}
    half = {name: value.to(torch.float16).contiguous() for name, value in weights.items()}
    temporary = path.with_suffix(".tmp")
    save_file(half, str(temporary), metadata=header)
    temporary.replace(path)


def train(
    config: Path,
    *,
    maps: Path,
    out: Path,
    resume: bool = False,
    minutes: float | None = None,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Path:
    """Train as `config` says on the label maps under the folder `maps`; returns the averaged weights.

    Checkpoints go to `out` every ``checkpoint_steps``, harmonised maps to ``out/maps``; with `resume`, training goes on
    from there. It stops at the plan's steps, or earlier after `minutes`.
    """
    plan = read_plan(config)
    torch.set_num_threads(plan.threads)
    names = {name for anatomy in plan.anatomies.values() for name in anatomy.maps}
    trainer = Trainer(plan, load_maps(maps, sorted(names), cache=out / "maps"))
    if resume and (out / "checkpoint.pt").exists():
        trainer.load(out)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    while trainer.step < plan.steps and time.monotonic() < deadline:
        losses = trainer.run_step()
        if progress is not None:
            progress(trainer.step, losses)
        if trainer.step % plan.checkpoint_steps == 0:
            trainer.save(out)
    trainer.save(out)
    _log.info("training_stopped", step=trainer.step, weights=str(out / "weights.safetensors"))
    return out / "weights.safetensors"


def _pick(weights: Mapping[str, float], generator: torch.Generator) -> str:
    names = list(weights)
    return names[_pick_index([weights[name] for name in names], generator)]


def _pick_index(weights: list[float], generator: torch.Generator) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=generator))
