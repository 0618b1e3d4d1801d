"""The weights that are shipped: small, of the cards' shape, and able."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.card import Card, list_cards, list_variants, load_card
from models.inference import load_network
from models.label_map_sources import SOURCES, load_maps
from models.normalisation import IMAGE_KINDS, count_parameters
from models.plan import read_plan
from models.rendered_evaluation import RenderedTest, rendered_dice
from models.tissues import STRUCTURES

CONFIGURATION = Path(__file__).parents[2] / "models/cards/training.toml"


@pytest.fixture(params=list_variants())
def card(request: pytest.FixtureRequest) -> Card:
    return load_card(request.param)


def test_card_names_the_networks_structures_in_its_order(card: Card) -> None:
    trained = STRUCTURES[card.anatomy]
    assert list(card.structures) == [name for name in trained if name in card.structures]
    network = load_network(card)
    assert network.shape.outputs[card.anatomy] == len(card.structures) + 1


def test_card_works_on_the_grid_it_was_trained_on(card: Card) -> None:
    plan = read_plan(CONFIGURATION.with_name("finetuning.toml")).anatomies[card.anatomy]
    assert card.spacing_mm in [(patch.spacing,) * 3 for patch in plan.at(1.0).patches]
    assert all(size % load_network(card).shape.stride == 0 for size in card.window)


def test_one_small_file_serves_every_card() -> None:
    files = {load_card(name).weights for name in list_cards()}
    assert len(files) == 1
    assert files.pop().stat().st_size <= 12e6


def test_one_network_is_about_half_of_two() -> None:
    network = load_network(load_card("torso"))
    affine = count_parameters(network, ("gamma", "beta"))
    one_modality = count_parameters(network) - affine * (len(IMAGE_KINDS) - 1) / len(IMAGE_KINDS)
    assert count_parameters(network) / (2 * one_modality) < 0.52


def test_card_says_what_it_was_trained_on_and_how_good_it_is(card: Card) -> None:
    assert all(entry["licence"] for entry in card.document["training"]["map"])
    assert card.document["limits"]["text"]
    assert card.document["quality"]


def test_card_names_every_map_that_its_anatomy_was_trained_on(card: Card) -> None:
    trained = read_plan(CONFIGURATION.with_name("finetuning.toml")).anatomies[card.anatomy].maps
    assert {entry["name"] for entry in card.document["training"]["map"]} == set(trained)


def test_weights_trained_on_share_alike_maps_carry_that_licence(card: Card) -> None:
    plan = read_plan(CONFIGURATION.with_name("finetuning.toml"))
    trained = {name for anatomy in plan.anatomies.values() for name in anatomy.maps}
    assert any("share-alike" in SOURCES[name].attribution for name in trained)
    assert "CC BY-SA" in card.document["weights"]["licence"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source", "structures", "shape"), [
    ("torso", "spl_abdominal", ("Liver", "Spine", "ErectorSpinae_L"), (32, 80, 96)),
    ("knee", "spl_knee", ("Femur", "Tibia"), (48, 64, 64)),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_shipped_weights_segment_rendered_images(
    test_data: Path, name: str, source: str, structures: tuple[str, ...], shape: tuple[int, int, int], kind: str
) -> None:
    settings = read_plan(CONFIGURATION).anatomies[name].rendering
    label_map = load_maps(test_data, [source])[source]
    card = load_card(name)
    found = rendered_dice(load_network(card), label_map, card.structures, settings, RenderedTest((kind,), shape, 4))
    for structure in structures:
        assert found[structure] > 0.6, structure
