"""Whether a faster way of running a network gives what fp32 gives, tried on a made-up image when it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.inference import choose_precision, predict_logits
from models.network import SharedNetwork
from models.normalisation import kind_code
from models.randomness import Randomness

SAMPLE = (16, 48, 48)
"""Voxels of the made-up image."""
LEAST_AGREEMENT = 0.97
"""Share of voxels that must get the same label."""
MOST_DIFFERENCE = 0.05
"""Largest mean difference of a class's probability."""


@dataclass(frozen=True)
class Parity:
    """How a faster way compares with fp32: share of voxels with the same label, mean difference of probabilities."""

    agreement: float
    difference: float

    @property
    def holds(self) -> bool:
        """Whether the faster way may be used."""
        return self.agreement >= LEAST_AGREEMENT and self.difference <= MOST_DIFFERENCE


def sample_image(device: torch.device | str = "cpu", shape: tuple[int, int, int] = SAMPLE) -> Tensor:
    """A fixed image (k, j, i) with blobs at several scales, standardised: something for every layer to work on."""
    random = Randomness(11)
    image = sum(random.smooth(shape, cell)[0] * weight for cell, weight in ((12, 1.0), (4, 0.5), (2, 0.25)))
    assert isinstance(image, Tensor)
    return ((image - image.mean()) / image.std()).to(device)


def compare_paths(
    network: SharedNetwork,
    anatomy: str,
    device: torch.device,
    *,
    precision: str,
    faster: SharedNetwork | None = None,
    window: tuple[int, int, int] = SAMPLE,
) -> Parity:
    """Parity of a precision (and of a compiled network, `faster`) with the network in fp32, on one window."""
    image, code = sample_image(device, window), kind_code("CT", device=device)
    reference = predict_logits(network, image, code, anatomy, window=window, precision="fp32")
    found = predict_logits(
        network if faster is None else faster, image, code, anatomy, window=window, precision=precision
    )
    agreement = float((reference.argmax(0) == found.argmax(0)).float().mean())
    difference = float((reference.softmax(0) - found.softmax(0)).abs().mean(dim=(1, 2, 3)).max())
    return Parity(agreement, difference)


@dataclass(frozen=True)
class RunningNetwork:
    """How a network is run: itself or compiled, and in which precision; why a faster way was not taken."""

    network: SharedNetwork
    precision: str
    refused: tuple[str, ...] = ()


def choose_path(
    network: SharedNetwork,
    anatomy: str,
    device: torch.device,
    *,
    compiler: Callable[[SharedNetwork], SharedNetwork] | None = None,
    window: tuple[int, int, int] = SAMPLE,
) -> RunningNetwork:
    """The fastest way whose results are those of fp32.

    bf16 where the hardware multiplies it; compiled where a `compiler` is given. A way that fails the comparison, or
    fails altogether, is left, and said. A network is compiled for a `window`, and compared on it.
    """
    refused: list[str] = []
    precision = choose_precision(device.type)
    if precision != "fp32":
        parity = compare_paths(network, anatomy, device, precision=precision)
        if not parity.holds:
            refused.append(f"{precision}: {parity.agreement:.3f} of the labels, {parity.difference:.3f} apart")
            precision = "fp32"
    if compiler is not None:
        try:
            compiled = compiler(network)
            parity = compare_paths(network, anatomy, device, precision=precision, faster=compiled, window=window)
        except RuntimeError as error:  # what torch's compilers raise, each with its own text
            refused.append(f"compiled: {type(error).__name__}")
        else:
            if parity.holds:
                return RunningNetwork(compiled, precision, tuple(refused))
            refused.append(f"compiled: {parity.agreement:.3f} of the labels, {parity.difference:.3f} apart")
    return RunningNetwork(network, precision, tuple(refused))
