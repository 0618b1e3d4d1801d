"""A faster way is used only where it gives what fp32 gives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from models.network import NetworkShape, SharedNetwork
from models.parity import choose_path, compare_paths

CPU = torch.device("cpu")


@pytest.fixture
def network() -> SharedNetwork:
    torch.manual_seed(5)
    shape = NetworkShape({"torso": 4}, filters=4, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=1)
    return SharedNetwork(shape).eval()


def test_network_agrees_with_itself(network: SharedNetwork) -> None:
    parity = compare_paths(network, "torso", CPU, precision="fp32")
    assert parity.agreement == 1.0
    assert parity.difference == 0.0


def test_bf16_of_a_sound_network_holds(network: SharedNetwork) -> None:
    assert compare_paths(network, "torso", CPU, precision="bf16").holds


def test_compiled_network_that_answers_otherwise_is_refused(network: SharedNetwork) -> None:
    def miscompile(original: SharedNetwork) -> SharedNetwork:
        other = copy.deepcopy(original)
        with torch.no_grad():
            other.heads["torso"].layers[0].bias.add_(torch.tensor([0.0, 3.0, 0.0, 0.0]))  # type: ignore[union-attr]
        return other

    running = choose_path(network, "torso", CPU, compiler=miscompile)
    assert running.network is network
    assert any(reason.startswith("compiled") for reason in running.refused)


def test_compiler_that_fails_is_said_and_done_without(network: SharedNetwork) -> None:
    def fail(_: SharedNetwork) -> SharedNetwork:
        raise RuntimeError("no toolchain")

    running = choose_path(network, "torso", CPU, compiler=fail)
    assert running.network is network
    assert running.refused[-1] == "compiled: RuntimeError"


def test_compiled_network_that_agrees_is_used(network: SharedNetwork) -> None:
    twin = copy.deepcopy(network)
    assert choose_path(network, "torso", CPU, compiler=lambda _: twin).network is twin


class Imprecise(SharedNetwork):
    """Answers the opposite in half precision."""

    def forward(self, x: Tensor, code: Tensor, anatomy: str) -> list[Tensor] | Tensor:
        """Logits."""
        logits = super().forward(x, code, anatomy)
        assert isinstance(logits, Tensor)
        return -logits if torch.is_autocast_enabled("cpu") else logits


class Compiled(SharedNetwork):
    """Has no length, as what torch compiles has none."""

    def __len__(self) -> int:
        raise TypeError("SharedNetwork does not support len()")


def test_compiled_network_is_asked_whatever_its_length(network: SharedNetwork) -> None:
    twin = Compiled(network.shape).eval()
    twin.load_state_dict(network.state_dict())
    running = choose_path(network, "torso", CPU, compiler=lambda _: twin)
    assert running.network is twin
    assert not running.refused


def test_precision_that_loses_labels_is_refused(network: SharedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.parity.choose_precision", lambda _: "bf16")
    running = choose_path(Imprecise(network.shape).eval(), "torso", CPU)
    assert running.precision == "fp32"
    assert running.refused[0].startswith("bf16")
