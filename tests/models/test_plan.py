"""Stages of a training, and maps that are left out."""

from __future__ import annotations

import pytest

from models.plan import AnatomyPlan, Stage, TrainingPlan, without_maps
from models.rendering import RenderingSettings

COARSE = Stage(0.5, 6.0, (((8, 16, 16), 1.0),))
FINE = Stage(1.0, 4.0, (((16, 32, 32), 1.0),))


def _anatomy(*stages: Stage) -> AnatomyPlan:
    return AnatomyPlan(1.0, {"one": 1.0, "two": 2.0}, stages, RenderingSettings(4.0))


@pytest.mark.parametrize(("done", "stage"), [(0.0, COARSE), (0.49, COARSE), (0.5, FINE), (1.0, FINE)])
def test_stage_follows_the_progress_and_sets_the_grid(done: float, stage: Stage) -> None:
    found, settings = _anatomy(COARSE, FINE).at(done)
    assert found == stage
    assert settings.spacing == stage.spacing


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
