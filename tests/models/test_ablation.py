"""The ablation: what is shared is counted right, everybody sees the same, the table says what was measured."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from models.ablation import (
    DISTILLED,
    INDIVIDUAL,
    METHODS,
    OURS,
    PLAIN,
    AblationPlan,
    Outcome,
    Scans,
    mean_dice,
    render_scans,
    run_ablation,
    summarise,
)
from models.ablation_network import AblationNetwork, Sharing
from models.normalisation import count_parameters
from tests.models.label_map_phantom import trunk_map

TINY = AblationPlan(scans=1, tests=1, shape=(4, 32, 40), steps=2, slices=2, filters=4, precision="fp32")


def _parameters(name: str) -> int:
    method = next(method for method in METHODS if method.name == name)
    return count_parameters(AblationNetwork(26, method.sharing, filters=4))


def test_individual_networks_are_two() -> None:
    assert _parameters(INDIVIDUAL) == 2 * _parameters(PLAIN)


def test_own_norms_cost_next_to_nothing() -> None:
    assert _parameters(OURS) / _parameters(INDIVIDUAL) <= 0.52


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_what_is_own_does_not_learn_from_the_other_modality(method: object) -> None:
    network = AblationNetwork(3, method.sharing, filters=4)  # type: ignore[attr-defined]
    network(torch.randn(2, 1, 16, 16), 0).sum().backward()
    untouched = {name for name, value in network.named_parameters() if value.grad is None}
    own = [part for part in ("early", "deep", "late") if part in method.sharing.own]  # type: ignore[attr-defined]
    expected = {name for name, _ in network.named_parameters() if any(name.startswith(f"{part}.1.") for part in own)}
    expected |= {name for name, _ in network.named_parameters() if ".sets.1." in name}
    assert untouched == expected


def test_plain_batch_norm_sees_both_modalities_in_one_batch() -> None:
    network = AblationNetwork(3, Sharing(norm="batch"), filters=4).train()
    ct, mr = torch.randn(2, 1, 16, 16) + 3, torch.randn(2, 1, 16, 16) - 3
    together = torch.cat(network.forward_both([ct, mr]))
    torch.testing.assert_close(together, AblationNetwork.forward(network, torch.cat([ct, mr]), 0))


def test_scans_of_the_modalities_are_of_different_bodies() -> None:
    ct, mr = (render_scans([trunk_map()], kind, 1, TINY, 1) for kind in ("CT", "MR"))
    assert ct.images.shape == (4, 32, 40)
    assert not torch.equal(ct.labels, mr.labels)


def test_labels_are_numbered_by_the_plan_and_other_structures_are_background() -> None:
    plan = replace(TINY, structures=("Spine", "Liver"))
    found, whole = (render_scans([trunk_map()], "CT", 2, p, 1).labels for p in (plan, TINY))
    assert torch.equal(found == 1, whole == TINY.structures.index("Spine") + 1)
    assert torch.equal(found == 2, whole == TINY.structures.index("Liver") + 1)
    assert torch.equal(found < 0, whole < 0)
    assert bool((whole == TINY.structures.index("Kidney_L") + 1).any())
    assert int(found.max()) == 2


def test_every_method_is_run_on_every_seed_and_repeats_exactly() -> None:
    methods = [method for method in METHODS if method.name in (OURS, DISTILLED)]
    first, second = (
        run_ablation([trunk_map()], trunk_map(), seeds=(1, 2), plan=TINY, methods=methods) for _ in range(2)
    )
    assert [(o.method, o.seed) for o in first] == [(OURS, 1), (DISTILLED, 1), (OURS, 2), (DISTILLED, 2)]
    assert first == second


def test_network_that_knows_the_answer_has_dice_one() -> None:
    class Oracle(AblationNetwork):
        def forward(self, x: torch.Tensor, modality: int) -> torch.Tensor:
            labels = x[:, 0].round().long()
            return torch.nn.functional.one_hot(labels, 26).permute(0, 3, 1, 2).float() * (1 + modality)

    labels = torch.randint(0, 4, (3, 8, 8), generator=torch.Generator().manual_seed(1))
    scans = Scans(labels.float(), labels)
    assert mean_dice(Oracle(26, Sharing(), filters=4), scans, 0) == 1.0


def test_table_pairs_differences_by_seed() -> None:
    outcomes = [Outcome(OURS, seed, (0.6 + seed / 100, 0.4), 10) for seed in (1, 2, 3, 4)]
    outcomes += [Outcome("other", seed, (0.5 + seed / 100, 0.3), 20) for seed in (1, 2, 3, 4)]
    ours, other = summarise(outcomes)
    assert ours.over_ours == 0.0
    assert other.over_ours == pytest.approx(-0.1)
    assert other.over_ours_ci == pytest.approx(0.0, abs=1e-9)
    assert other.mean == pytest.approx(0.4125)
    # t(0.975, 3) = 3.182; the means are 0.405, 0.41, 0.415, 0.42
    assert other.mean_ci == pytest.approx(3.182 * math.sqrt(5 / 12) * 0.01 / 2, rel=0.01)
