"""A small planar network whose parts are shared between CT and MR, or each modality's own: for the ablation alone.

The parts are those along which published methods divide a U-shaped network: the early encoder, the deep encoder, the
decoder with its output layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Part = Literal["early", "deep", "late"]
Norm = Literal["batch", "instance", "domain batch", "domain instance"]
MODALITIES = 2


@dataclass(frozen=True)
class Sharing:
    """Which parts each modality has for itself, and the normalisation within the parts that are shared."""

    own: frozenset[Part] = frozenset()
    norm: Norm = "instance"


class ModalityNorm(nn.Module):
    """Batch or instance norm of (B, C, H, W), with one set of parameters or one per modality."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        kind = nn.BatchNorm2d if norm.endswith("batch") else nn.InstanceNorm2d
        sets = MODALITIES if norm.startswith("domain") else 1
        self.sets = nn.ModuleList(kind(channels, affine=True) for _ in range(sets))

    def forward(self, x: Tensor, modality: int) -> Tensor:
        """Normalised x."""
        normalised: Tensor = self.sets[modality if len(self.sets) > 1 else 0](x)
        return normalised


class _Block(nn.Module):
    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ModalityNorm(channels, norm) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor, modality: int) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(torch.relu(norm(y, modality)))
        return x + y


class _Early(nn.Module):
    def __init__(self, filters: int, norm: Norm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, filters, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([_Block(filters, norm), _Block(2 * filters, norm)])
        self.down = nn.Conv2d(filters, 2 * filters, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor, modality: int) -> list[Tensor]:
        first = self.blocks[0](self.stem(x), modality)
        return [first, self.blocks[1](self.down(first), modality)]


class _Deep(nn.Module):
    def __init__(self, filters: int, norm: Norm) -> None:
        super().__init__()
        widths = (2 * filters, 4 * filters, 8 * filters)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.blocks = nn.ModuleList(_Block(width, norm) for width in widths[1:])

    def forward(self, x: Tensor, modality: int) -> list[Tensor]:
        features = []
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = block(down(x), modality)
            features.append(x)
        return features


class _Late(nn.Module):
    def __init__(self, filters: int, classes: int, norm: Norm) -> None:
        super().__init__()
        widths = (4 * filters, 2 * filters, filters)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2, bias=False) for width in widths)
        self.blocks = nn.ModuleList(_Block(width, norm) for width in widths)
        self.norm = ModalityNorm(filters, norm)
        self.head = nn.Conv2d(filters, classes, 1)

    def forward(self, features: list[Tensor], modality: int) -> Tensor:
        x = features[-1]
        for up, block, skip in zip(self.ups, self.blocks, features[-2::-1], strict=True):
            x = block(up(x) + skip, modality)
        logits: Tensor = self.head(torch.relu(self.norm(x, modality)))
        return logits


class AblationNetwork(nn.Module):
    """`forward(x, modality)`: (B, 1, H, W) of one modality (0 CT, 1 MR), H and W multiples of 8 -> logits."""

    def __init__(self, classes: int, sharing: Sharing, *, filters: int = 16) -> None:
        super().__init__()

        def copies(part: Part) -> int:
            return MODALITIES if part in sharing.own else 1

        self.classes = classes
        self.mixed = not sharing.own and not sharing.norm.startswith("domain")
        self.early = nn.ModuleList(_Early(filters, sharing.norm) for _ in range(copies("early")))
        self.deep = nn.ModuleList(_Deep(filters, sharing.norm) for _ in range(copies("deep")))
        self.late = nn.ModuleList(_Late(filters, classes, sharing.norm) for _ in range(copies("late")))

    def forward_both(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Logits of a batch of each modality.

        In one batch where nothing is a modality's own, so that plain batch norm sees in training the mixture that it
        uses afterwards.
        """
        if self.mixed:
            return list(torch.split(self(torch.cat(list(images)), 0), [len(batch) for batch in images]))
        return [self(batch, modality) for modality, batch in enumerate(images)]

    def forward(self, x: Tensor, modality: int) -> Tensor:
        """Logits (B, classes, H, W)."""
        early, deep, late = (parts[modality % len(parts)] for parts in (self.early, self.deep, self.late))
        features = early(x, modality)
        features += deep(features[-1], modality)
        logits: Tensor = late(features, modality)
        return logits
