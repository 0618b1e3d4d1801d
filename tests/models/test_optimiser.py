"""Muon on the kernels, AdamW on the rest."""

from __future__ import annotations

import torch

from models.network import NetworkShape, SharedNetwork
from models.optimiser import Optimiser


def _network() -> SharedNetwork:
    torch.manual_seed(0)
    return SharedNetwork(NetworkShape({"torso": 3}, filters=4, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=1))


def _with_gradients(network: SharedNetwork) -> None:
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)


def test_a_step_changes_every_parameter() -> None:
    network = _network()
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimiser = Optimiser(network, weight_decay=0.0)
    _with_gradients(network)
    optimiser.step(1e-2, 1e-2)
    unchanged = [name for name, value in network.named_parameters() if torch.equal(value, before[name])]
    assert not unchanged


def test_kernels_step_along_a_nearly_orthogonal_matrix() -> None:
    network = _network()
    kernel = network.encoder.downs[0].weight
    before = kernel.detach().clone()
    optimiser = Optimiser(network, weight_decay=0.0)
    _with_gradients(network)
    optimiser.step(1e-2, 1e-2)
    step = torch.linalg.svdvals((kernel.detach() - before).reshape(kernel.shape[0], -1))
    assert float(step.min()) > 0.4 * float(step.max())  # five Newton-Schulz steps leave them within 0.7 to 1.2


def test_kept_state_gives_the_same_next_step() -> None:
    networks = [_network(), _network()]
    optimisers = [Optimiser(network, weight_decay=0.01) for network in networks]
    for network, optimiser in zip(networks, optimisers, strict=True):
        _with_gradients(network)
        optimiser.step(1e-2, 1e-3)
    fresh = Optimiser(networks[1], weight_decay=0.01)
    fresh.load_state_dict(optimisers[1].state_dict())
    for network, optimiser in zip(networks, (optimisers[0], fresh), strict=True):
        _with_gradients(network)
        optimiser.step(1e-2, 1e-3)
    for name, value in networks[0].state_dict().items():
        torch.testing.assert_close(value, networks[1].state_dict()[name])
