"""Stages of a training, and maps that are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.plan import AnatomyPlan, Patch, Stage, TrainingPlan, read_plan, without_maps
from models.rendering import RenderingSettings

COARSE = Stage(0.5, (Patch((8, 16, 16), 6.0),))
FINE = Stage(1.0, (Patch((16, 32, 32), 4.0),))


def _anatomy(*stages: Stage) -> AnatomyPlan:
    return AnatomyPlan(1.0, {"one": 1.0, "two": 2.0}, stages, RenderingSettings(4.0))


@pytest.mark.parametrize(("done", "stage"), [(0.0, COARSE), (0.49, COARSE), (0.5, FINE), (1.0, FINE)])
def test_stage_follows_the_progress_and_its_patches_set_the_grid(done: float, stage: Stage) -> None:
    anatomy = _anatomy(COARSE, FINE)
    assert anatomy.at(done) == stage
    assert anatomy.on(stage.patches[0]).spacing == stage.patches[0].spacing


@pytest.mark.parametrize("stages", [(), (COARSE,), (FINE, COARSE)])
def test_stages_must_rise_to_the_end(stages: tuple[Stage, ...]) -> None:
    with pytest.raises(ValueError, match="until"):
        _anatomy(*stages)


def test_left_out_map_is_gone_and_the_others_stay() -> None:
    plan = without_maps(TrainingPlan({"torso": _anatomy(FINE)}), ["one"])
    assert dict(plan.anatomies["torso"].maps) == {"two": 2.0}


def test_no_anatomy_may_be_left_without_a_map() -> None:
    with pytest.raises(ValueError, match="no map left"):
        without_maps(TrainingPlan({"torso": _anatomy(FINE)}), ["one", "two"])


def test_base_gives_what_the_file_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        "[training]\nsteps = 7\nseed = 3\n[network]\nfilters = 4\n[anatomy.torso]\nshare = 1.0\nmaps = { one = 1.0 }\n"
        "[[anatomy.torso.stage]]\nuntil = 1.0\npatches = [{ spacing = 4.0, shape = [8, 16, 16], weight = 1.0 }]\n"
    )
    own = "[training]\nsteps = 9\n[anatomy.torso]\nmaps = { two = 2.0 }\n"
    (tmp_path / "own.toml").write_text(f'base = "base.toml"\n{own}')
    plan = read_plan(tmp_path / "own.toml")
    assert (plan.steps, plan.seed, plan.network["filters"]) == (9, 3, 4)
    assert plan.anatomies["torso"].maps == {"one": 1.0, "two": 2.0}
    assert plan.anatomies["torso"].stages == (Stage(1.0, (Patch((8, 16, 16), 4.0),)),)
