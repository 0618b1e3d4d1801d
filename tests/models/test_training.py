"""Training goes on exactly where it stopped, and learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import training
from models.inference import read_network
from models.normalisation import kind_code
from models.plan import AnatomyPlan, Patch, Stage, TrainingPlan, read_plan
from models.rendering import RenderingSettings
from models.training import Trainer, export_weights, train
from models.training_log import TrainingLog
from tests.models.label_map_phantom import trunk_map

SHIPPED = Path(__file__).parents[2] / "models/cards/training.toml"


def _plan(**changes: object) -> TrainingPlan:
    stage = Stage(1.0, (Patch((8, 32, 40), 6.0),))
    torso = AnatomyPlan(1.0, {"trunk": 1.0}, (stage,), RenderingSettings(6.0))
    values: dict[str, object] = {
        "steps": 40, "warm_up": 2, "precision": "fp32", "distillation_after": 0.0, "fused": 0.2,
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
    second = _trainer()
    second.random.uniform(0, 1)  # everything must come from the checkpoint
    second.load(tmp_path)
    for _ in range(2):
        second.run_step()
    assert second.step == straight.step
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(straight.average[name], second.average[name]), name


def test_checkpoint_of_another_plan_is_not_gone_on_with(tmp_path: Path) -> None:
    _trainer().save(tmp_path)
    with pytest.raises(ValueError, match="another plan"):
        _trainer(steps=41).load(tmp_path)


def test_only_the_network_runs_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    plain = training.deform

    def remember(*arguments: object) -> object:
        seen.append(torch.is_autocast_enabled("cpu"))
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "deform", remember)
    for fused in (0.0, 1.0):
        _trainer(fused=fused, precision="bf16").run_step()
    assert seen
    assert not any(seen)


def test_label_of_a_pair_holds_what_the_mr_shows_beside_a_narrow_ct(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[torch.Tensor] = []
    monkeypatch.setattr(
        Trainer, "_losses", lambda _, __, logits, patches: labels.append(patches[0].label) or [logits[0].sum()]
    )
    trainer = _trainer(fused=1.0, dropped=0.0, hidden=0.0)
    torso = trainer.plan.anatomies["torso"]
    narrow = replace(torso, rendering=replace(torso.rendering, narrow_ct=1.0))
    trainer.plan = replace(trainer.plan, anatomies={"torso": narrow})
    anatomies = []
    plain = training.deform
    monkeypatch.setattr(training, "deform", lambda *a: anatomies.append(plain(*a)) or anatomies[-1])
    trainer.run_step()
    assert torch.equal(labels[0][0], anatomies[0].label)


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
        rates.append(trainer.rate_factor())
    assert rates[0] < rates[1] <= max(rates)
    assert rates[-1] < 0.05 * max(rates)


@pytest.mark.parametrize("name", ["training.toml", "continuation.toml", "finetuning.toml"])
def test_shipped_configurations_are_readable(name: str) -> None:
    plan = read_plan(SHIPPED.with_name(name))
    assert set(plan.anatomies) == {"torso", "knee"}
    assert not plan.anatomies["torso"].rendering.geometry.mirrored
    assert plan.anatomies["knee"].rendering.geometry.mirrored


def test_training_begins_from_weights_it_is_given(tmp_path: Path) -> None:
    first = _trainer(seed=7)
    export_weights(first.average, first.network.shape, tmp_path / "w.safetensors")
    second = _trainer()
    second.begin_from(tmp_path / "w.safetensors")
    for name, value in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], value.half().float())


def test_blocks_that_the_weights_lack_begin_as_identities(tmp_path: Path) -> None:
    network = {"filters": 4, "blocks_down": (0, 1, 1), "blocks_up": (1, 1), "supervised_levels": 2}
    first = _trainer(network=network)
    export_weights(first.network.state_dict(), first.network.shape, tmp_path / "w.safetensors")
    second = _trainer()
    second.begin_from(tmp_path / "w.safetensors")
    image, code = torch.randn(1, 1, 8, 16, 16), kind_code("MR")
    with torch.inference_mode():
        before = read_network(tmp_path / "w.safetensors")(image, code, "torso")
        after = second.network.eval()(image, code, "torso")
        torch.testing.assert_close(after, before)
    second.run_step()
    assert float(second.network.state_dict()["encoder.levels.0.0.conv2.weight"].abs().max()) > 0


def test_share_of_the_mr_in_the_loss() -> None:
    losses = _trainer(fused=0.0, distillation=0.0, mr_weight=0.8).run_step()
    assert losses["loss"] == pytest.approx(0.2 * losses["torso_CT"] + 0.8 * losses["torso_MR"], rel=1e-4)


def test_weights_of_another_network_are_no_start(tmp_path: Path) -> None:
    other = _trainer(network={"filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1), "supervised_levels": 2})
    export_weights(other.average, other.network.shape, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="do not fit"):
        _trainer().begin_from(tmp_path / "w.safetensors")


@pytest.mark.parametrize("dropped", [0.0, 1.0])
def test_fused_steps_learn_from_a_pair_and_from_what_is_left_of_one(dropped: float) -> None:
    trainer = _trainer(fused=1.0, dropped=dropped, hidden=0.0)
    before = trainer.network.encoder.stem.weight.clone()
    losses = trainer.run_step()
    assert set(losses) == {"loss", "torso_fused"}
    assert not torch.equal(before, trainer.network.encoder.stem.weight)


def test_batch_is_of_each_modality() -> None:
    losses = _trainer(batch=2, fused=0.0).run_step()
    assert {"torso_CT", "torso_MR", "torso_KD"} < set(losses)
    assert losses["loss"] > 0


def test_looking_at_the_training_does_not_change_it(tmp_path: Path) -> None:
    blind, seen = _trainer(picture_steps=1), _trainer(picture_steps=1)
    log = TrainingLog(tmp_path)
    for _ in range(2):
        blind.run_step()
        log.note(seen, seen.run_step())
    log.close()
    assert list((tmp_path / "events").iterdir())
    for name, value in blind.network.state_dict().items():
        assert torch.equal(value, seen.network.state_dict()[name]), name


def test_map_to_leave_out_must_be_one_of_the_plan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="atlantis"):
        train(SHIPPED, maps=tmp_path, out=tmp_path, without=["atlantis"])


def test_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("[training]\nlerning_rate = 1\n[anatomy]\n")
    with pytest.raises(ValueError, match="lerning_rate"):
        read_plan(tmp_path / "t.toml")
