"""The one source of chance of a rendering: numbers on the CPU, fields on the device that trains.

The same seed on the same kind of device renders the same image. Single numbers never come from an accelerator: asking
it for one would wait for all its work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Randomness:
    """Random numbers and fields; its state can be kept and restored."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._numbers = torch.Generator().manual_seed(seed)
        self._fields = torch.Generator(self.device).manual_seed(seed + 1)

    def uniform(self, low: float, high: float) -> float:
        """One uniform number."""
        return float(torch.rand((), generator=self._numbers)) * (high - low) + low

    def log_uniform(self, low: float, high: float) -> float:
        """One number whose logarithm is uniform."""
        return float(low * (high / low) ** self.uniform(0.0, 1.0))

    def normal(self) -> float:
        """One standard normal number."""
        return float(torch.randn((), generator=self._numbers))

    def chance(self, probability: float) -> bool:
        """True with `probability`."""
        return bool(torch.rand((), generator=self._numbers) < probability)

    def integer(self, low: int, high: int) -> int:
        """One whole number of low..high-1."""
        return int(torch.randint(low, high, (), generator=self._numbers))

    def pick(self, weights: Sequence[float]) -> int:
        """An index, with these weights."""
        return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=self._numbers))

    def pick_name(self, weights: Mapping[str, float]) -> str:
        """A key, with these weights."""
        names = list(weights)
        return names[self.pick([weights[name] for name in names])]

    def order(self, count: int) -> list[int]:
        """0..count-1 in random order."""
        return [int(index) for index in torch.randperm(count, generator=self._numbers)]

    def uniforms(self, count: int) -> Tensor:
        """Uniform numbers of [0, 1) on the CPU, for tables."""
        return torch.rand(count, generator=self._numbers)

    def normals(self, count: int) -> Tensor:
        """Standard normal numbers on the CPU, for tables."""
        return torch.randn(count, generator=self._numbers)

    def noise(self, shape: Sequence[int]) -> Tensor:
        """White Gaussian noise on the device."""
        return torch.randn(tuple(shape), generator=self._fields, device=self.device)

    def smooth(self, shape: Sequence[int], cell: float, channels: int = 1) -> Tensor:
        """Gaussian noise at a coarse grid of `cell` voxels, interpolated: (channels, D, H, W) on the device."""
        coarse = [max(2, round(n / cell) + 1) for n in shape]
        noise = self.noise((1, channels, *coarse))
        return nn.functional.interpolate(noise, size=tuple(shape), mode="trilinear", align_corners=True)[0]

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs to go on exactly here, on the same kind of device."""
        return {"numbers": self._numbers.get_state(), "fields": self._fields.get_state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self._numbers.set_state(state["numbers"])
        self._fields.set_state(state["fields"])
