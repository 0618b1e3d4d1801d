"""Training goes on exactly where it stopped, and learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.inference import read_network
from models.rendering import RenderingSettings
from models.training import AnatomyPlan, Trainer, TrainingPlan, read_plan
from tests.models.label_map_phantom import trunk_map


def _plan(**changes: object) -> TrainingPlan:
    torso = AnatomyPlan(1.0, {"trunk": 1.0}, (((8, 32, 40), 1.0),), RenderingSettings(6.0))
    values: dict[str, object] = {
        "steps": 40, "warm_up": 2, "learning_rate": 4e-3, "precision": "fp32", "distillation_after": 0.0, "fused": 0.2,
        "network": {"filters": 4, "blocks_down": (1, 1, 1), "blocks_up": (1, 1), "supervised_levels": 2},
    }  # fmt: skip
    return TrainingPlan({"torso": torso}, **(values | changes))  # type: ignore[arg-type]


def _trainer(**changes: object) -> Trainer:
    return Trainer(_plan(**changes), {"trunk": trunk_map()})


def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    straight = _trainer()
    for _ in range(4):
        straight.run_step()
    first = _trainer()
    for _ in range(2):
        first.run_step()
    first.save(tmp_path)
    second = _trainer(seed=99)  # everything must come from the checkpoint
    second.load(tmp_path)
    for _ in range(2):
        second.run_step()
    assert second.step == straight.step
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(straight.average[name], second.average[name]), name


def test_training_lowers_the_loss() -> None:
    trainer = _trainer(fused=0.0, steps=400, average=0.9)
    losses = [trainer.run_step()["loss"] for _ in range(20)]
    assert sum(losses[-4:]) < 0.97 * sum(losses[:4])


def test_saved_weights_are_the_average_in_half_precision(tmp_path: Path) -> None:
    trainer = _trainer()
    trainer.run_step()
    trainer.save(tmp_path)
    network = read_network(tmp_path / "weights.safetensors")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, trainer.average[name].half().float())


def test_learning_rate_warms_up_and_falls() -> None:
    trainer = _trainer()
    rates = []
    for step in range(40):
        trainer.step = step
        rates.append(trainer.learning_rate())
    assert rates[0] < rates[1] <= max(rates)
    assert rates[-1] < 0.05 * max(rates)


def test_shipped_configuration_is_readable() -> None:
    plan = read_plan(Path(__file__).parents[2] / "models/cards/training.toml")
    assert set(plan.anatomies) == {"torso", "knee"}
    assert not plan.anatomies["torso"].rendering.geometry.mirrored
    assert plan.anatomies["knee"].rendering.geometry.mirrored


def test_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("[training]\nlerning_rate = 1\n[anatomy]\n")
    with pytest.raises(ValueError, match="lerning_rate"):
        read_plan(tmp_path / "t.toml")
