"""Muon for the convolution kernels, AdamW for norms, output layers and the stem.

Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/; scaled as in arXiv:2502.16982) steps along the nearest
orthogonal matrix of the momentum. After five minutes of one core the loss was 1.73, AdamW's 1.94 (one run each).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

_AT_AN_END = re.compile(r"\b(stem|heads?)\b")
"""Names of the first and the last layers, which are no matrices between features."""
_KERNEL_AXES = 4
"""Kernels of planar convolutions have four axes, of volumetric ones five."""


class Optimiser:
    """Both optimisers as one; learning rates are set anew at every step."""

    def __init__(self, network: nn.Module, *, weight_decay: float) -> None:
        named = list(network.named_parameters())
        self._kernels = [p for name, p in named if p.ndim >= _KERNEL_AXES and not _AT_AN_END.search(name)]
        chosen = {id(p) for p in self._kernels}
        # Muon takes matrices: (outputs, everything else) views of the kernels' own storage.
        self._matrices = [nn.Parameter(p.detach().view(p.shape[0], -1)) for p in self._kernels]
        self._muon = torch.optim.Muon(
            self._matrices, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW([p for _, p in named if id(p) not in chosen], weight_decay=1e-4)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._kernels:
            parameter.grad = None
        self._adamw.zero_grad(set_to_none=True)

    def step(self, kernel_rate: float, affine_rate: float) -> None:
        """One step along the gradients; a kernel that took no part has none and stays."""
        for group in self._muon.param_groups:
            group["lr"] = kernel_rate
        for group in self._adamw.param_groups:
            group["lr"] = affine_rate
        for parameter, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if parameter.grad is None else parameter.grad.reshape(matrix.shape)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """State of both, for a checkpoint."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])
