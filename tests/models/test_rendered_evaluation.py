"""Measuring on rendered images: exact counts, hidden tissues, displaced pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models import rendered_evaluation
from models.deformation import Geometry
from models.network import NetworkShape, SharedNetwork
from models.rendered_evaluation import Overlaps, RenderedTest, rendered_dice
from models.rendering import RenderingSettings
from models.tissues import TORSO_STRUCTURES, Tissue
from tests.models.label_map_phantom import trunk_map

SETTINGS = RenderingSettings(4.0, Geometry(elastic_amplitude=0, organ_scale=0))
SHAPE = (16, 56, 64)


def _network() -> SharedNetwork:
    shape = NetworkShape({"torso": 26}, filters=4, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=1)
    torch.manual_seed(0)
    return SharedNetwork(shape).eval()


def test_dice_is_pooled_over_images() -> None:
    overlaps = Overlaps(("a", "b"))
    overlaps.add(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 0]))
    overlaps.add(torch.tensor([0, 1, 1, 1]), torch.tensor([1, 1, 1, 0]))
    assert overlaps.dice() == {"a": pytest.approx(2 * 3 / (5 + 4))}


def test_answer_of_an_oracle_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[Tensor] = []
    plain = rendered_evaluation.deform

    def remember(*arguments: object) -> object:
        anatomy = plain(*arguments)  # type: ignore[arg-type]
        labels.append(anatomy.label)
        return anatomy

    def answer(*_: object, **__: object) -> Tensor:
        return torch.nn.functional.one_hot(labels[-1].clamp(min=0), 26).movedim(-1, 0).float()

    monkeypatch.setattr(rendered_evaluation, "deform", remember)
    monkeypatch.setattr(rendered_evaluation, "predict_logits", answer)
    found = rendered_dice(_network(), trunk_map(), TORSO_STRUCTURES, SETTINGS, RenderedTest(("CT",), SHAPE, 3))
    assert found
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize("change", [
    {"shift_mm": 12.0}, {"hidden": {"MR": {Tissue.LIVER: Tissue.VISCERAL_FAT}}}, {"kinds": ("CT",)},
])  # fmt: skip
def test_every_option_changes_what_the_network_sees(change: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def remember(_: object, images: list[Tensor], *__: object) -> Tensor:
        seen.append(images[-1].clone())
        return torch.zeros(26, *SHAPE)

    monkeypatch.setattr(rendered_evaluation, "_asked", remember)
    values = {"kinds": ("CT", "MR"), "shape": SHAPE, "images": 1}
    for options in (values, values | change):
        rendered_dice(_network(), trunk_map(), TORSO_STRUCTURES, SETTINGS, RenderedTest(**options))  # type: ignore[arg-type]
    assert not torch.equal(*seen)
