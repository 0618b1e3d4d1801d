"""Sliding windows: independent of batching, right at the edges; weights are checked by hash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.card import Averaging, load_card
from models.inference import load_network, predict_card, predict_fused_logits, predict_logits
from models.network import NetworkShape, SharedNetwork
from models.normalisation import kind_code

CT = kind_code("CT")


@pytest.fixture(scope="module")
def network() -> SharedNetwork:
    torch.manual_seed(5)
    shape = NetworkShape({"torso": 4}, filters=4, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=1)
    return SharedNetwork(shape).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(19, 33, 27, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", [2, 5, 64])
def test_window_batch_does_not_change_the_result(network: SharedNetwork, image: torch.Tensor, batch: int) -> None:
    one, many = (
        predict_logits(network, image, CT, "torso", window=(8, 16, 16), window_batch=n, precision="fp32")
        for n in (1, batch)
    )
    assert one.shape == (4, *image.shape)
    torch.testing.assert_close(one, many, atol=1e-4, rtol=1e-4)


def test_window_that_holds_the_volume_is_one_plain_forward(network: SharedNetwork) -> None:
    image = torch.randn(8, 16, 24)
    with torch.inference_mode():
        expected = network(image[None, None], CT, "torso")[0]
    found = predict_logits(network, image, CT, "torso", window=(32, 32, 32), precision="fp32")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 3), (7, 16, 9), (2, 40, 41)])
def test_any_size_is_padded_and_cropped_back(network: SharedNetwork, shape: tuple[int, int, int]) -> None:
    logits = predict_logits(network, torch.randn(shape), CT, "torso", window=(16, 16, 16), precision="fp32")
    assert logits.shape == (4, *shape)
    assert bool(torch.isfinite(logits).all())


def test_bf16_agrees_with_fp32(network: SharedNetwork, image: torch.Tensor) -> None:
    full, half = (
        predict_logits(network, image, CT, "torso", window=(8, 16, 16), precision=precision)
        for precision in ("fp32", "bf16")
    )
    assert float((full.argmax(0) == half.argmax(0)).float().mean()) > 0.98


def test_fused_prediction_takes_images_of_one_grid(network: SharedNetwork, image: torch.Tensor) -> None:
    fused = predict_fused_logits(network, [image, image + 1], ["CT", "MR"], "torso", window=(8, 16, 16))
    assert fused.shape == (4, *image.shape)
    with pytest.raises(ValueError, match="one grid"):
        predict_fused_logits(network, [image, image[1:]], ["CT", "MR"], "torso")


def test_other_weights_than_the_cards_are_refused(tmp_path: Path) -> None:
    card = load_card("torso")
    changed = tmp_path / "shared.safetensors"
    content = bytearray(card.weights.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="SHA-256"):
        load_network(replace(card, weights=changed))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not exist"):
        load_network(replace(load_card("torso"), weights=tmp_path / "none.safetensors"))


def test_zooms_answer_on_the_cards_grid(network: SharedNetwork, image: torch.Tensor) -> None:
    card = replace(load_card("torso"), window=(8, 16, 16), averaging=Averaging())
    plain = predict_card(network, image, "CT", card, precision="fp32")
    finer = predict_card(network, image, "CT", replace(card, averaging=Averaging(zooms=(1.5,))), precision="fp32")
    both = predict_card(network, image, "CT", replace(card, averaging=Averaging(zooms=(1.0, 1.5))), precision="fp32")
    assert finer.shape == plain.shape
    assert not torch.allclose(finer, plain, atol=1e-3)
    torch.testing.assert_close(both, (plain + finer) / 2, atol=1e-4, rtol=1e-4)


def test_averaging_is_the_mean_of_their_views(network: SharedNetwork, image: torch.Tensor) -> None:
    card = replace(load_card("torso"), window=(8, 16, 16), averaging=Averaging(flip_left_right=True, as_unknown=True))
    views = [
        predict_logits(network, image.flip(-1) if flipped else image, kind_code(kind), "torso", window=(8, 16, 16),
                       precision="fp32")
        for kind in ("MR", "unknown") for flipped in (False, True)
    ]  # fmt: skip
    expected = (views[0] + views[1].flip(-1) + views[2] + views[3].flip(-1)) / 4
    found = predict_card(network, image, "MR", card, precision="fp32")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    plain = predict_card(network, image, "MR", replace(card, averaging=Averaging()), precision="fp32")
    torch.testing.assert_close(plain, views[0])
    ct = predict_card(network, image, "CT", replace(card, averaging=Averaging(as_unknown=True)), precision="fp32")
    alone = predict_card(network, image, "CT", replace(card, averaging=Averaging()), precision="fp32")
    torch.testing.assert_close(ct, alone)  # a CT is standardised otherwise than what is unknown


def test_missing_image_of_a_pair_leaves_the_single_ones_answer(network: SharedNetwork, image: torch.Tensor) -> None:
    alone = predict_logits(network, image, CT, "torso", window=(8, 16, 16), precision="fp32")
    left = predict_fused_logits(network, [image], ["CT"], "torso", window=(8, 16, 16), precision="fp32")
    torch.testing.assert_close(left, alone)
