"""Instance normalisation with one affine per image kind.

All kernels of the network are shared between modalities; what differs is only the affine after each normalisation
(Dou et al. 2020, doi:10.1109/TMI.2019.2963882, with instance instead of batch statistics, so that nothing depends on
the batch). ``y = IN(x) * (c @ Gamma) + c @ Beta`` with c a one-hot or soft code.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGE_KINDS = ("CT", "MR", "unknown", "CT+MR")
"""Order of the columns of a code vector."""


def kind_code(kind: str, *, device: torch.device | str | None = None) -> Tensor:
    """One-hot code (1, 4) of an image kind; a kind that is not known gets the code of ``unknown``."""
    index = IMAGE_KINDS.index(kind) if kind in IMAGE_KINDS else IMAGE_KINDS.index("unknown")
    return nn.functional.one_hot(torch.tensor([index], device=device), len(IMAGE_KINDS)).float()


class ModalityInstanceNorm(nn.Module):
    """Instance normalisation of (B, C, D, H, W) whose affine is picked by a code (B, codes)."""

    def __init__(self, channels: int, codes: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(codes, channels))
        self.beta = nn.Parameter(torch.zeros(codes, channels))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalised x, in x's type; statistics and affine are per sample and channel."""
        samples, channels = x.shape[:2]
        gamma = (code.to(self.gamma.dtype) @ self.gamma).reshape(-1)
        beta = (code.to(self.beta.dtype) @ self.beta).reshape(-1)
        # One batch norm over (1, B*C) is instance norm with a different affine per sample, in one fused kernel.
        folded = x.reshape(1, samples * channels, *x.shape[2:]) if samples > 1 else x
        normalised = torch.batch_norm(folded, gamma, beta, None, None, True, 0.0, self.eps, False)
        return normalised.reshape(x.shape)


class BakedInstanceNorm(nn.Module):
    """What `ModalityInstanceNorm` becomes for one fixed code; takes and ignores a code."""

    def __init__(self, gamma: Tensor, beta: Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(gamma)
        self.beta = nn.Parameter(beta)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:  # noqa: ARG002 - called as the norm it replaces
        """Instance norm with the baked affine."""
        return nn.functional.instance_norm(x, weight=self.gamma, bias=self.beta, eps=self.eps)


def specialise_norms(network: nn.Module, code: Tensor) -> nn.Module:
    """A copy of `network` in which every modality norm is replaced by a plain instance norm for `code` (1, codes)."""
    baked = copy.deepcopy(network)
    for parent in list(baked.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ModalityInstanceNorm):
                weights = code.to(child.gamma)
                plain = BakedInstanceNorm(
                    (weights @ child.gamma).reshape(-1).detach().clone(),
                    (weights @ child.beta).reshape(-1).detach().clone(),
                    child.eps,
                )
                setattr(parent, name, plain)
    return baked


def count_parameters(network: nn.Module, names: Sequence[str] = ()) -> int:
    """Number of parameters; with `names`, only those whose name contains one of them."""
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not names or any(part in name for part in names)
    )
