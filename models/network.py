"""The shared network: one SegResNetDS-shaped trunk for every modality and anatomy.

Shape after MONAI's ``SegResNetDS`` (Myronenko, arXiv:1810.11654): residual blocks, filters doubling at each level, skip
connections added. Shared: all kernels. Own to each (anatomy, image kind): the affines of the norms. Own to each
anatomy: the output layers (Boutillon et al., arXiv:2207.13502).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.normalisation import IMAGE_KINDS, ModalityInstanceNorm, kind_code, specialise_norms


@dataclass(frozen=True)
class NetworkShape:
    """What must be known to build a network that a weights file fits."""

    outputs: Mapping[str, int]
    """Anatomy name -> number of classes with background; the order of the mapping orders the norm codes."""
    filters: int = 16
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    blocks_up: tuple[int, ...] = (1, 1, 1)
    supervised_levels: int = 3
    kinds: tuple[str, ...] = field(default=IMAGE_KINDS)

    def __post_init__(self) -> None:
        """Check that the levels fit each other."""
        levels = len(self.blocks_down)
        if len(self.blocks_up) != levels - 1 or not 1 <= self.supervised_levels <= levels - 1:
            raise ValueError(
                f"expected {levels - 1} blocks_up and 1 to {levels - 1} supervised levels for {levels} blocks_down, "
                f"got {len(self.blocks_up)} and {self.supervised_levels}"
            )

    @classmethod
    def from_header(cls, values: Mapping[str, Any]) -> NetworkShape:
        """The shape from what `to_header` gave, after a way through JSON."""
        return cls(
            outputs={str(name): int(classes) for name, classes in values["outputs"].items()},
            filters=int(values["filters"]),
            blocks_down=tuple(values["blocks_down"]),
            blocks_up=tuple(values["blocks_up"]),
            supervised_levels=int(values["supervised_levels"]),
        )

    def to_header(self) -> dict[str, Any]:
        """What a weights file must say for the network to be built again."""
        return {
            "outputs": dict(self.outputs),
            "filters": self.filters,
            "blocks_down": list(self.blocks_down),
            "blocks_up": list(self.blocks_up),
            "supervised_levels": self.supervised_levels,
        }

    @property
    def stride(self) -> int:
        """Volumes must be a multiple of this along each axis."""
        return int(2 ** (len(self.blocks_down) - 1))

    @property
    def anatomies(self) -> tuple[str, ...]:
        """Anatomy names in code order."""
        return tuple(self.outputs)


class ResidualBlock(nn.Module):
    """norm-relu-conv twice, added to the input."""

    def __init__(self, channels: int, codes: int) -> None:
        super().__init__()
        self.norm1 = ModalityInstanceNorm(channels, codes)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = ModalityInstanceNorm(channels, codes)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """(B, C, D, H, W) -> the same shape."""
        y = self.conv1(torch.relu_(self.norm1(x, code)))
        added: Tensor = x + self.conv2(torch.relu_(self.norm2(y, code)))
        return added


class Encoder(nn.Module):
    """Residual blocks and strided convolutions; gives the features of every level, finest first."""

    def __init__(self, shape: NetworkShape, codes: int) -> None:
        super().__init__()
        channels = [shape.filters * 2**level for level in range(len(shape.blocks_down))]
        self.stem = nn.Conv3d(1, channels[0], 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, codes) for _ in range(count))
            for width, count in zip(channels, shape.blocks_down, strict=True)
        )
        self.downs = nn.ModuleList(
            nn.Conv3d(width, 2 * width, 3, stride=2, padding=1, bias=False) for width in channels[:-1]
        )

    def forward(self, x: Tensor, code: Tensor) -> list[Tensor]:
        """(B, 1, D, H, W) -> features per level."""
        x = self.stem(x)
        features: list[Tensor] = []
        for level, blocks in enumerate(self.levels):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, code)
            features.append(x)
            if level < len(self.downs):
                x = self.downs[level](x)
        return features


class Decoder(nn.Module):
    """Upsampling, added skips and residual blocks; gives the features of every level, finest first."""

    def __init__(self, shape: NetworkShape, codes: int) -> None:
        super().__init__()
        channels = [shape.filters * 2**level for level in range(len(shape.blocks_down))]
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(2 * width, width, 2, stride=2, bias=False) for width in channels[:-1]
        )
        self.levels = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, codes) for _ in range(count))
            for width, count in zip(channels[:-1], shape.blocks_up, strict=True)
        )

    def forward(self, features: list[Tensor], code: Tensor) -> list[Tensor]:
        """Encoder features, finest first -> decoder features, finest first (without the coarsest)."""
        x = features[-1]
        decoded: list[Tensor] = []
        for level in reversed(range(len(self.ups))):
            x = self.ups[level](x) + features[level]
            for block in self.levels[level]:  # type: ignore[attr-defined]
                x = block(x, code)
            decoded.append(x)
        return decoded[::-1]


class Head(nn.Module):
    """Output layer of one anatomy: norm, relu, 1x1x1 convolution at each supervised level."""

    def __init__(self, shape: NetworkShape, codes: int, classes: int) -> None:
        super().__init__()
        widths = [shape.filters * 2**level for level in range(shape.supervised_levels)]
        self.norms = nn.ModuleList(ModalityInstanceNorm(width, codes) for width in widths)
        self.layers = nn.ModuleList(nn.Linear(width, classes) for width in widths)

    def forward(self, features: Tensor, code: Tensor, level: int) -> Tensor:
        """Logits (B, classes, D, H, W) of one level, in fp32."""
        x = torch.relu_(self.norms[level](features, code))
        # A linear layer over channels: the bf16 backward of a 1x1x1 Conv3d aborts on some shapes (torch 2.13, CPU).
        layer = self.layers[level]
        flat = x.float().flatten(2).transpose(1, 2)
        with torch.autocast(x.device.type, enabled=False):
            logits = layer(flat)
        return logits.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])  # type: ignore[no-any-return]


class SharedNetwork(nn.Module):
    """Encoder, decoder and one head per anatomy.

    `forward(x, code, anatomy)` takes x (B, 1, D, H, W) with D, H, W multiples of ``shape.stride``, `code` (B, 4) over
    `IMAGE_KINDS` and the anatomy's name; in training it returns a list of logits, finest first (deep supervision),
    in evaluation the finest logits alone (B, classes, D, H, W).
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        codes = len(shape.kinds) * len(shape.anatomies)
        self.encoder = Encoder(shape, codes)
        self.decoder = Decoder(shape, codes)
        self.heads = nn.ModuleDict({name: Head(shape, codes, n) for name, n in shape.outputs.items()})

    def forward(self, x: Tensor, code: Tensor, anatomy: str) -> list[Tensor] | Tensor:
        """Logits; see the class."""
        full = self.full_code(code.to(x.device), anatomy)
        return self._decode(self.encoder(x, full), full, anatomy)

    def forward_fused(
        self, images: Sequence[Tensor], kinds: Sequence[str], anatomy: str, *, code: str = ""
    ) -> list[Tensor] | Tensor:
        """Logits from several registered images (B, 1, D, H, W) of the same patients, for instance one CT and one MR.

        Each image goes through the one encoder with its own code; the features are averaged at every level and
        decoded with the CT+MR code. A single image falls back to `forward`, unless `code` names the decoder's code.
        """
        if len(images) != len(kinds) or not images:
            raise ValueError(f"expected as many kinds as images and at least one, got {len(images)} and {len(kinds)}")
        samples = images[0].shape[0]
        device = images[0].device
        codes = torch.cat([kind_code(kind, device=device).expand(samples, -1) for kind in kinds])
        if len(images) == 1 and not code:
            return self(images[0], codes, anatomy)  # type: ignore[no-any-return]
        features = self.encoder(torch.cat(list(images)), self.full_code(codes, anatomy))
        fused = [f.reshape(len(images), samples, *f.shape[1:]).mean(0) for f in features]
        full = self.full_code(kind_code(code or "CT+MR", device=device).expand(samples, -1), anatomy)
        return self._decode(fused, full, anatomy)

    def full_code(self, code: Tensor, anatomy: str) -> Tensor:
        """(B, kinds) of one anatomy -> (B, anatomies * kinds), zero for the other anatomies."""
        if anatomy not in self.shape.outputs:
            raise ValueError(f"expected an anatomy of {self.shape.anatomies}, got {anatomy!r}")
        kinds = len(self.shape.kinds)
        first = self.shape.anatomies.index(anatomy) * kinds
        full = code.new_zeros(code.shape[0], kinds * len(self.shape.anatomies))
        full[:, first : first + kinds] = code
        return full

    def specialise(self, kind: str, anatomy: str) -> nn.Module:
        """A copy with plain instance norms for one image kind and anatomy; it is called with the same arguments."""
        return specialise_norms(self, self.full_code(kind_code(kind), anatomy))

    def _decode(self, features: list[Tensor], full: Tensor, anatomy: str) -> list[Tensor] | Tensor:
        decoded = self.decoder(features, full)
        head = self.heads[anatomy]
        if not self.training:
            return head(decoded[0], full, 0)  # type: ignore[no-any-return]
        return [head(decoded[level], full, level) for level in range(self.shape.supervised_levels)]
