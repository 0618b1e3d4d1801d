"""Loading the shared network by its card, and sliding-window prediction in bounded memory."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from models.card import Card
from models.network import NetworkShape, SharedNetwork
from models.normalisation import kind_code
from models.standardisation import standardise

__all__ = [
    "choose_precision",
    "load_network",
    "predict_card",
    "predict_fused_logits",
    "predict_logits",
    "read_network",
    "standardise",
]

Forward = Callable[[Tensor], Tensor]
"""Windows (B, M, D, H, W) of M images -> logits (B, C, D, H, W)."""


def load_network(card: Card, *, device: torch.device | str = "cpu") -> SharedNetwork:
    """The network of a card, in fp32 and evaluation mode.

    Raises:
        ValueError: The weights file is missing or not the one the card names by SHA-256, or lacks the card's anatomy.
    """
    if not card.weights.is_file():
        raise ValueError(f"card {card.name!r}: its weights {card.weights} do not exist; install or export them")
    found = hashlib.sha256(card.weights.read_bytes()).hexdigest()
    if found != card.weights_sha256:
        raise ValueError(
            f"card {card.name!r}: expected weights with SHA-256 {card.weights_sha256}, "
            f"{card.weights.name} has {found}; restore the file that belongs to the card, or export the card anew"
        )
    network = read_network(card.weights)
    classes = network.shape.outputs.get(card.anatomy)
    if classes != len(card.structures) + 1:
        raise ValueError(
            f"card {card.name!r}: expected an output layer {card.anatomy!r} of {len(card.structures) + 1} classes, "
            f"the weights have {dict(network.shape.outputs)}"
        )
    return network.to(device)


def read_network(weights: Path) -> SharedNetwork:
    """The network in a safetensors file written by training, in fp32 and evaluation mode."""
    with safe_open(str(weights), framework="pt") as stored:
        header = (stored.metadata() or {}).get("shape")
        if header is None:
            raise ValueError(f"{weights}: expected the network's shape in the header, got none; export it by training")
        values: dict[str, Any] = json.loads(header)
        tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
    shape = NetworkShape.from_header(values)
    network = SharedNetwork(shape)
    network.load_state_dict(tensors)
    return network.eval()


@cache
def choose_precision(device: str = "cpu") -> str:
    """The precision to run in: "bf16" where the hardware multiplies it, else "fp32".

    Decided by what the hardware is and not by a measurement: an image done twice on a machine gets the same labels.
    """
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text(encoding="ascii", errors="replace").split()) if flags.is_file() else set()
    return "bf16" if words & {"avx512_bf16", "amx_bf16"} else "fp32"


def predict_card(
    network: SharedNetwork, image: Tensor, kind: str, card: Card, *, precision: str = "auto", window_batch: int = 1
) -> Tensor:
    """Scores (C, k, j, i), fp32, of a standardised image of `kind` as a card asks for them.

    The logits of the image; with the card's test-time options their mean over the mirrored image, over the code of
    unknown modality and over finer and coarser grids. What the image says of it is not in it yet (`models.appearance`).
    """
    codes = [kind, "unknown"] if card.averaging.as_unknown and kind == "MR" else [kind]
    views = [False, True] if card.averaging.flip_left_right else [False]
    total: Tensor | None = None
    for zoom, code, flipped in itertools.product(card.averaging.zooms, codes, views):
        seen = _zoomed(image[None], [max(1, round(n * zoom)) for n in image.shape])[0]
        logits = predict_logits(
            network, seen.flip(-1) if flipped else seen, kind_code(code, device=image.device), card.anatomy,
            window=card.window, window_batch=window_batch, precision=precision,
        )  # fmt: skip
        logits = _zoomed(logits.flip(-1) if flipped else logits, image.shape)
        total = logits if total is None else total.add_(logits)
    assert total is not None
    return total.div_(len(card.averaging.zooms) * len(codes) * len(views))


def _zoomed(volumes: Tensor, extent: Sequence[int]) -> Tensor:
    """Volumes (C, k, j, i) on a grid of another `extent` over the same space."""
    if tuple(volumes.shape[1:]) == tuple(extent):
        return volumes
    return nn.functional.interpolate(volumes[None], size=tuple(extent), mode="trilinear", align_corners=False)[0]


def predict_logits(  # noqa: PLR0913 - the window is four independent choices
    network: SharedNetwork,
    image: Tensor,
    code: Tensor,
    anatomy: str,
    *,
    window: tuple[int, int, int] = (32, 80, 96),
    overlap: float = 0.5,
    window_batch: int = 1,
    precision: str = "auto",
) -> Tensor:
    """Logits (C, k, j, i), fp32, of a standardised image (k, j, i) on the card's grid.

    `code` (1, 4) over ``IMAGE_KINDS``. Windows overlap by the share `overlap` and are blended with Gaussian weights;
    how many run at once (`window_batch`) changes speed and memory, not the result. An axis shorter than the window is
    padded by replication to the network's stride only. Memory: one fp32 accumulator of C volumes.
    """

    def forward(windows: Tensor) -> Tensor:
        logits = network(windows, code.expand(windows.shape[0], -1), anatomy)
        assert isinstance(logits, Tensor)
        return logits

    tiling = _Tiling(window, overlap, window_batch, network.shape.stride)
    return _slide(image[None], forward, tiling, network.shape.outputs[anatomy], precision)


def predict_fused_logits(  # noqa: PLR0913 - as predict_logits
    network: SharedNetwork,
    images: Sequence[Tensor],
    kinds: Sequence[str],
    anatomy: str,
    *,
    window: tuple[int, int, int] = (32, 80, 96),
    overlap: float = 0.5,
    window_batch: int = 1,
    precision: str = "auto",
) -> Tensor:
    """As `predict_logits`, from several images (k, j, i) of one patient on one grid, for instance CT and MR."""
    if len({tuple(image.shape) for image in images}) != 1:
        raise ValueError(
            f"expected images on one grid, got the shapes {[tuple(i.shape) for i in images]}: resample first"
        )

    def forward(windows: Tensor) -> Tensor:
        logits = network.forward_fused([part[:, None] for part in windows.unbind(1)], kinds, anatomy)
        assert isinstance(logits, Tensor)
        return logits

    tiling = _Tiling(window, overlap, window_batch, network.shape.stride)
    return _slide(torch.stack(list(images)), forward, tiling, network.shape.outputs[anatomy], precision)


@dataclass(frozen=True)
class _Tiling:
    """How windows cover a volume."""

    window: tuple[int, int, int]
    overlap: float
    batch: int
    stride: int

    def fitted(self, extent: Sequence[int]) -> tuple[int, ...]:
        """The window, shortened on short axes to the next multiple of the stride."""
        return tuple(min(w, -(-n // self.stride) * self.stride) for w, n in zip(self.window, extent, strict=True))

    def corners(self, extent: Sequence[int]) -> list[tuple[int, ...]]:
        """First voxels of the windows; the last window of an axis ends at the volume's edge."""
        axes = []
        for size, length in zip(self.fitted(extent), extent, strict=True):
            room = max(0, length - size)
            count = 1 if room == 0 else 1 + -(-room // max(1, int(size * (1 - self.overlap))))
            axes.append([round(room * n / max(1, count - 1)) for n in range(count)])
        return list(itertools.product(*axes))


def _slide(images: Tensor, forward: Forward, tiling: _Tiling, classes: int, precision: str) -> Tensor:
    """Blended logits (C, k, j, i) of images (M, k, j, i)."""
    device = images.device
    chosen = choose_precision(device.type) if precision == "auto" else precision
    size = tiling.fitted(images.shape[1:])
    padded, inner = _pad(images.float(), size)
    total = torch.zeros((classes, *padded.shape[1:]), device=device)
    weight_sum = torch.zeros(padded.shape[1:], device=device)
    weight = _gaussian(size).to(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16"):
        for corners in _batches(tiling.corners(padded.shape[1:]), tiling.batch):
            boxes = [tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True)) for corner in corners]
            logits = forward(torch.stack([padded[(slice(None), *box)] for box in boxes])).float()
            for box, part in zip(boxes, logits, strict=True):
                total[(slice(None), *box)] += part * weight
                weight_sum[box] += weight
    total /= weight_sum
    return total[(slice(None), *inner)]


def _pad(images: Tensor, size: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """Images replicated to at least `size`, and where the original lies in them."""
    missing = [max(0, n - length) for n, length in zip(size, images.shape[1:], strict=True)]
    before = [m // 2 for m in missing]
    inner = tuple(slice(b, b + n) for b, n in zip(before, images.shape[1:], strict=True))
    for axis, (m, b) in enumerate(zip(missing, before, strict=True), start=1):
        if m:
            index = (torch.arange(images.shape[axis] + m) - b).clamp(0, images.shape[axis] - 1)
            images = images.index_select(axis, index.to(images.device))
    return images, inner


@cache
def _gaussian(size: tuple[int, ...]) -> Tensor:
    """Blending weights of a window: Gaussian with an eighth of the window as sigma, never below a thousandth."""
    weight = torch.ones(())
    for n in size:
        axis = torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
        weight = weight[..., None] * axis
    return weight.clamp(min=1e-3)


def _batches(corners: list[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    for first in range(0, len(corners), max(1, size)):
        yield corners[first : first + max(1, size)]
