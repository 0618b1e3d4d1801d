"""Released weights carry the outputs that the cards list, and the cards their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from models.card import load_card
from models.inference import load_network, read_network
from models.network import NetworkShape, SharedNetwork
from models.normalisation import kind_code
from models.release import release_weights
from models.tissues import KNEE_STRUCTURES
from models.training import export_weights

KEPT = ("Femur", "Patella", "Gastrocnemius")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "k.toml"
    path.write_text(
        f"""
name = "k"
version = "1"
anatomy = "knee"
modalities = ["MR"]
structures = {list(KEPT)}
spacing_mm = [1.0, 1.0, 1.0]
window = [8, 8, 8]
[weights]
file = "w/k.safetensors"
sha256 = ""
"""
    )
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    shape = NetworkShape({"knee": len(KNEE_STRUCTURES) + 1}, filters=4, blocks_down=(1, 1), blocks_up=(1,),
                         supervised_levels=1)  # fmt: skip
    export_weights(SharedNetwork(shape).state_dict(), shape, tmp_path / "trained.safetensors")
    return tmp_path / "trained.safetensors"


def test_outputs_are_those_of_the_listed_structures(card: Path, trained: Path) -> None:
    release_weights(trained, [card])
    rows = [0, *(KNEE_STRUCTURES.index(name) + 1 for name in KEPT)]
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        whole = read_network(trained)(x, kind_code("MR"), "knee")
        listed = load_network(load_card(str(card)))(x, kind_code("MR"), "knee")
    torch.testing.assert_close(listed, whole[:, rows])


def test_card_gets_the_hash_of_the_file(card: Path, trained: Path) -> None:
    digest = release_weights(trained, [card])
    released = load_card(str(card))
    assert released.weights_sha256 == digest == hashlib.sha256(released.weights.read_bytes()).hexdigest()


def test_card_without_a_hash_line_is_named(card: Path, trained: Path) -> None:
    card.write_text(card.read_text().replace('sha256 = ""', "sha256 = ''"))
    with pytest.raises(ValueError, match=r"k\.toml: expected one line"):
        release_weights(trained, [card])
