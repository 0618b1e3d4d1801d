"""What a training run writes for TensorBoard: losses, learning rate, renderings with target and answer beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import structlog
import torch

from models.normalisation import kind_code
from models.preview import colours, gray_levels
from models.training import MODALITIES, Trainer

_log = structlog.get_logger(__name__)

SCALAR_STEPS = 10
"""Losses are written every so many steps, averaged over them."""


class TrainingLog:
    """Event files under ``<out>/events``; nothing where TensorBoard is not installed, which is said once."""

    def __init__(self, out: Path) -> None:
        self._sums: dict[str, list[float]] = {}
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra of the training machine
        except ImportError:
            _log.warning("no_tensorboard", install="pip install 'dicom-node[train]'")
            self._writer = None
        else:
            self._writer = SummaryWriter(str(out / "events"))

    def note(self, trainer: Trainer, losses: Mapping[str, float]) -> None:
        """Called after every step."""
        if self._writer is None:
            return
        for name, value in losses.items():
            self._sums.setdefault(name, []).append(value)
        if trainer.step % SCALAR_STEPS == 0:
            for name, values in self._sums.items():
                self._writer.add_scalar(f"loss/{name}", sum(values) / len(values), trainer.step)
            self._writer.add_scalar("rate_factor", trainer.rate_factor(), trainer.step)
            self._sums.clear()
        if trainer.step % trainer.plan.picture_steps == 0:
            for name in trainer.plan.anatomies:
                for kind in MODALITIES:
                    self._writer.add_image(
                        f"{name}/{kind}", picture(trainer, name, kind), trainer.step, dataformats="HWC"
                    )
            self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def picture(trainer: Trainer, name: str, kind: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The middle plane of a new rendering: image, target, answer, as (rows, columns, 3).

    It draws from a source of chance of its own, so that looking does not change the training.
    """
    patch = trainer.example(name, kind)
    trainer.network.eval()
    with torch.inference_mode():
        logits = trainer.network(patch.image, kind_code(kind, device=trainer.device), name)
    k = patch.image.shape[2] // 2
    gray = gray_levels(patch.image[0, 0, k].cpu().numpy(), kind)
    target, answer = (colours()[volume[0, k].cpu().numpy()] for volume in (patch.label, logits.argmax(1)))
    return np.concatenate([np.repeat(gray[..., None], 3, axis=-1), target, answer], axis=1)
