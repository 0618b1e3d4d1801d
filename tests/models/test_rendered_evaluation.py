"""Measuring on rendered images: exact counts, hidden tissues, displaced pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import evaluation, rendered_evaluation
from models.card import load_card
from models.deformation import Geometry
from models.network import NetworkShape, SharedNetwork
from models.rendered_evaluation import Overlaps, RenderedTest, rendered_dice
from models.rendering import RenderingSettings
from models.tissues import TORSO_STRUCTURES, Tissue
from models.training import export_weights
from tests.models.label_map_phantom import knee_map, trunk_map

CONFIGURATION = Path(__file__).parents[2] / "models/cards/training.toml"
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


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a tiny network as training writes them."""
    torch.manual_seed(3)
    shape = NetworkShape({"torso": 26, "knee": 16}, filters=4, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=1)
    export_weights(SharedNetwork(shape).state_dict(), shape, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_columns_are_the_ways_to_ask(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "load_maps", lambda *_: {"trunk": trunk_map()})
    columns = evaluation.rendered_columns(
        load_card("torso"), CONFIGURATION, tmp_path, ["trunk"], images=1, weights=weights
    )
    assert list(columns) == ["CT", "MR", "CT as unknown", "MR as unknown", "CT+MR"]
    assert all({"Liver", "Spine"} <= set(dice) for dice in columns.values())


def test_maps_of_another_anatomy_are_refused(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "load_maps", lambda *_: {"trunk": trunk_map()})
    with pytest.raises(ValueError, match="maps of the knee"):
        evaluation.rendered_columns(load_card("knee"), CONFIGURATION, tmp_path, ["x"], images=1, weights=weights)


def test_fusion_is_measured_alone_and_over_misregistration(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "load_maps", lambda *_: {"knee": knee_map()})
    card = replace(load_card("knee"), spacing_mm=(2.0,) * 3, window=(32, 32, 32))
    rows = evaluation.fused_rows(card, CONFIGURATION, tmp_path, ["knee"], images=1, weights=weights)
    assert [(row.images, row.shift_mm) for row in rows] == [
        ("CT", 0), ("MR", 0), *(("CT+MR", shift) for shift in (0, 1, 2, 3, 4)),
    ]  # fmt: skip
    assert all(0 <= row.bone <= 1 and 0 <= row.cartilage <= 1 for row in rows)
