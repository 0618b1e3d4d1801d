"""Training of the shared network on rendered images; resumes exactly where it stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.hiding import draw_hidden, hide
from models.label_map_sources import load_maps
from models.label_maps import LabelMap
from models.losses import ClassWeights, class_confusions, distillation_loss, segmentation_loss
from models.network import NetworkShape, ResidualBlock, SharedNetwork
from models.normalisation import kind_code
from models.optimiser import Optimiser
from models.plan import TrainingPlan, read_plan, without_maps
from models.randomness import Randomness
from models.rendering import RenderedPatch, RenderingSettings, deform, paint_image, photograph
from models.tissues import structure_label
from models.warping import shifted

_log = structlog.get_logger(__name__)

MODALITIES: tuple[str, ...] = ("CT", "MR")


class Trainer:
    """A network in training: weights, their running average, optimiser, source of chance and step."""

    def __init__(self, plan: TrainingPlan, maps: Mapping[str, LabelMap], *, device: torch.device | str = "cpu") -> None:
        self.plan = plan
        self.maps = maps
        self.device = torch.device(device)
        torch.manual_seed(plan.seed)
        self.network = SharedNetwork(plan.shape()).to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimiser = Optimiser(self.network, weight_decay=plan.weight_decay)
        self.random = Randomness(plan.seed, self.device)
        self.step = 0

    def begin_from(self, weights: Path) -> None:
        """Begin from given weights instead of chance; residual blocks that they lack begin as identities.

        Raises:
            ValueError: They are another network's.
        """
        stored = _identities(self.network) | load_file(weights)
        self.network.load_state_dict(_matching(stored, self.network.state_dict()))
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    @property
    def done(self) -> float:
        """Share of the plan's steps that are made."""
        return min(1.0, self.step / max(1, self.plan.steps))

    def rate_factor(self) -> float:
        """Linear warm-up, then a cosine to a hundredth."""
        if self.step < self.plan.warm_up:
            return (self.step + 1) / self.plan.warm_up
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.done))

    def run_step(self) -> dict[str, float]:
        """One optimiser step on CT and MR patches (or on fused pairs); returns the losses."""
        plan = self.plan
        name = self.random.pick_name({anatomy: p.share for anatomy, p in plan.anatomies.items()})
        self.network.train()
        self.optimiser.zero_grad()
        losses = self._fused(name) if self.random.chance(plan.fused) else self._unpaired(name)
        total = losses.pop("total")
        total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if bool(torch.isfinite(norm)):
            factor = self.rate_factor()
            self.optimiser.step(plan.learning_rate * factor, plan.affine_rate * factor)
        self._update_average()
        self.step += 1
        return {"loss": float(total.detach())} | {
            f"{name}_{key}": float(value.detach()) for key, value in losses.items()
        }

    def _unpaired(self, name: str) -> dict[str, Tensor]:
        """Losses of CT and MR patches of different anatomies, and the distillation between the modalities."""
        shape, settings = self._stage(name)
        kinds = [kind for kind in MODALITIES for _ in range(self.plan.batch)]
        patches = [self._patch(name, shape, settings, kind) for kind in kinds]
        images = torch.cat([patch.image for patch in patches])
        codes = torch.cat([kind_code(patch.kind, device=self.device) for patch in patches])
        with self._half():
            logits = self.network(images, codes, name)
        assert isinstance(logits, list)  # a network in training
        each = self._losses(name, logits, patches)
        losses = {
            kind: torch.stack([e for e, k in zip(each, kinds, strict=True) if k == kind]).mean() for kind in MODALITIES
        }
        losses["total"] = torch.lerp(losses["CT"], losses["MR"], self.plan.mr_weight)
        if self._distils():
            labels = torch.cat([patch.label for patch in patches])
            half = self.plan.batch
            confusions = [class_confusions(logits[0][part], labels[part]) for part in (slice(half), slice(half, None))]
            losses["KD"] = distillation_loss(confusions[0], confusions[1])
            losses["total"] = losses["total"] + self.plan.distillation * losses["KD"]
        return losses

    def _fused(self, name: str) -> dict[str, Tensor]:
        """Loss of an anatomy seen by both modalities, slightly misregistered; at times one of them is missing."""
        shape, settings = self._stage(name)
        anatomy = deform(self._map(name), shape, settings, self.random)
        kinds = MODALITIES
        if self.random.chance(self.plan.dropped):
            kinds = (MODALITIES[self.random.integer(0, 2)],)
        pair = len(kinds) > 1
        hidden = draw_hidden(MODALITIES, self.plan.hidden if pair else 0.0, self.random)
        patches = []
        for kind in kinds:
            seen = replace(anatomy, tissue=hide(anatomy.tissue, hidden[kind]))
            patches.append(paint_image(seen, (kind, kind), settings, self.random))
        images = [patch.image for patch in patches]
        if pair:
            far = self.plan.misaligned_mm / settings.spacing
            images[1] = shifted(images[1], [self.random.normal() * far for _ in range(3)])
        with self._half():
            logits = self.network.forward_fused(images, kinds, name, code="CT+MR")
        assert isinstance(logits, list)  # a network in training
        # A CT may be narrower than the body, an MR never is: the last patch's label holds what any of them shows.
        loss = self._losses(name, logits, [patches[-1]])[0]
        return {"fused": loss, "total": loss}

    def _half(self) -> torch.autocast:
        """For the network alone: what renders and what compares needs full precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16")

    def _losses(self, name: str, logits: Sequence[Tensor], patches: Sequence[RenderedPatch]) -> list[Tensor]:
        weights = self._weights(name)
        return [
            segmentation_loss([level[n : n + 1] for level in logits], patch.label, patch.unsettled, weights)
            for n, patch in enumerate(patches)
        ]

    def _weights(self, name: str) -> ClassWeights:
        """Balance helps small structures to appear and then gives way, so that their size comes out right."""
        balance = self.plan.balance * max(0.0, 1 - self.done / self.plan.balance_until)
        emphasis = self.plan.anatomies[name].emphasis
        return ClassWeights(balance, {structure_label(name, key): factor for key, factor in emphasis.items()})

    def _distils(self) -> bool:
        return self.plan.distillation > 0 and self.done >= self.plan.distillation_after

    def _stage(self, name: str) -> tuple[tuple[int, int, int], RenderingSettings]:
        """Shape and rendering of the next patches."""
        anatomy = self.plan.anatomies[name]
        patches = anatomy.at(self.done).patches
        patch = patches[self.random.pick([patch.weight for patch in patches])]
        return patch.shape, anatomy.on(patch)

    def _map(self, name: str) -> LabelMap:
        return self.maps[self.random.pick_name(self.plan.anatomies[name].maps)]

    def _patch(self, name: str, shape: tuple[int, int, int], settings: RenderingSettings, kind: str) -> RenderedPatch:
        """One rendered patch; it is told to be of its kind, unknown, or at times of the other kind."""
        told = kind
        if self.random.chance(self.plan.unknown):
            told = "unknown"
        elif self.random.chance(self.plan.swapped):
            told = MODALITIES[1 - MODALITIES.index(kind)]
        source = self._map(name)
        if kind == "CT" and source.image is not None and self.random.chance(settings.own_ct):
            return photograph(source, shape, told, settings, self.random)
        return paint_image(deform(source, shape, settings, self.random), (kind, told), settings, self.random)

    def example(self, name: str, kind: str) -> RenderedPatch:
        """A patch to look at, from a source of chance of its own."""
        anatomy = self.plan.anatomies[name]
        patch = anatomy.at(self.done).patches[0]
        settings = anatomy.on(patch)
        random = Randomness(self.step, self.device)
        source = self.maps[random.pick_name(anatomy.maps)]
        return paint_image(deform(source, patch.shape, settings, random), (kind, kind), settings, random)

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
            "random": self.random.state(),
            "step": self.step,
            "plan": self.plan.fingerprint(),
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        export_weights(self.average, self.network.shape, folder / "weights.safetensors")

    def load(self, folder: Path) -> None:
        """Go on from `save`'s checkpoint; on a CPU exactly so.

        Raises:
            ValueError: It is a checkpoint of another plan.
        """
        state = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
        if state.get("plan") != self.plan.fingerprint():
            raise ValueError(
                f"{folder} holds a training of another plan: train into another folder, from its weights with --start"
            )
        self.network.load_state_dict(state["network"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.restore(state["random"])
        self.step = state["step"]


def _identities(network: nn.Module) -> dict[str, Tensor]:
    """Values of a network's residual blocks with which each passes on its input."""
    values: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, ResidualBlock):
            values |= module.state_dict(prefix=f"{name}.")
            values[f"{name}.conv2.weight"] = torch.zeros_like(module.conv2.weight)
    return values


def _matching(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights for a network, as fp32.

    Raises:
        ValueError: They are another network's.
    """
    other = [name for name, value in wanted.items() if name not in stored or stored[name].shape != value.shape]
    if other:
        raise ValueError(f"the weights to start from do not fit the network of the plan: {', '.join(other[:4])}")
    return {name: stored[name].float() for name in wanted}


def export_weights(weights: Mapping[str, Tensor], shape: NetworkShape, path: Path) -> None:
    """Weights as fp16 safetensors with the network's shape in the header."""
    header = {"shape": json.dumps(shape.to_header())}
    half = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in weights.items()}
    temporary = path.with_suffix(".tmp")
    save_file(half, str(temporary), metadata=header)
    temporary.replace(path)


def train(  # noqa: PLR0913 - a run's place, length and observers are independent
    config: Path,
    *,
    maps: Path,
    out: Path,
    resume: bool = False,
    minutes: float | None = None,
    device: str = "cpu",
    without: Collection[str] = (),
    start: Path | None = None,
    observers: Sequence[Callable[[Trainer, Mapping[str, float]], None]] = (),
) -> Path:
    """Train as `config` says on the label maps under the folder `maps`; returns the averaged weights.

    Checkpoints go to `out` every ``checkpoint_steps``, harmonised maps to ``out/maps``; with `resume`, training goes on
    from there. It stops at the plan's steps, or earlier after `minutes`. Maps named by `without` are left out.
    `start`: weights to begin from instead of the plan's. `observers` are called after every step with its losses.
    """
    plan = without_maps(read_plan(config), without)
    if start is not None:
        plan = replace(plan, start=str(start))
    torch.set_num_threads(plan.threads)
    names = {name for anatomy in plan.anatomies.values() for name in anatomy.maps}
    trainer = Trainer(plan, load_maps(maps, sorted(names), cache=out / "maps"), device=device)
    if resume and (out / "checkpoint.pt").exists():
        trainer.load(out)
    elif plan.start:
        trainer.begin_from(Path(plan.start))
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    while trainer.step < plan.steps and time.monotonic() < deadline:
        losses = trainer.run_step()
        for observe in observers:
            observe(trainer, losses)
        if trainer.step % plan.checkpoint_steps == 0:
            trainer.save(out)
    trainer.save(out)
    _log.info("training_stopped", step=trainer.step, weights=str(out / "weights.safetensors"))
    return out / "weights.safetensors"
