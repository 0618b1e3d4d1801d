"""The segmenter: what the network sees, and where its answer lands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dicom_node.errors import InputRefused, SegmentationFailed, SettingsError
from dicom_node.imaging.volume import Volume
from dicom_node.segment import segmenter as segmenter_module
from dicom_node.segment.bordering import beside_border
from dicom_node.segment.segmenter import Segmenter, network_image
from models.card import Card, load_card
from models.network import NetworkShape, SharedNetwork
from models.normalisation import kind_code
from models.standardisation import standardise
from tests.phantoms import PhantomSpec, geometry_of
from tests.segment.conftest import ball_volume
from tests.segment.geometries import voxel_positions


class BrightnessNetwork(SharedNetwork):
    """Says Liver where the input is bright."""

    def __init__(self) -> None:
        super().__init__(
            NetworkShape(outputs={"torso": 4}, filters=4, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=1)
        )
        self.codes: list[Tensor] = []

    def forward(self, x: Tensor, code: Tensor, anatomy: str) -> Tensor:
        assert anatomy == "torso"
        self.codes.append(code)
        bright = x[:, 0]
        nothing = torch.full_like(bright, -9.0)
        return torch.stack([torch.zeros_like(bright), bright, nothing, nothing], dim=1)


def brightness_segmenter() -> tuple[Segmenter, BrightnessNetwork]:
    network = BrightnessNetwork()
    return Segmenter("cpu", load=lambda _card: network), network


SOURCES = [
    PhantomSpec(slices=20, rows=48, columns=64),
    PhantomSpec(slices=20, rows=48, columns=64, flip_rows=True, orientation="coronal"),
    PhantomSpec(slices=20, rows=48, columns=64, flip_columns=True, orientation="oblique"),
    PhantomSpec(slices=20, rows=64, columns=64, tilt_degrees=15.0),
    PhantomSpec(rows=48, columns=64, positions=(0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 50, 52, 54)),
]


@pytest.mark.parametrize("spec", SOURCES, ids=range(len(SOURCES)))
def test_what_the_network_finds_lands_where_it_is_in_the_patient(spec: PhantomSpec, tiny_card: Path) -> None:
    volume = ball_volume(geometry_of(spec))
    segmenter, _ = brightness_segmenter()
    card = replace(load_card(str(tiny_card)), spacing_mm=(2.0, 2.0, 2.0))

    found = segmenter.segment(volume, card)

    truth = np.asarray(volume.voxels > 100)
    labels = found.label_volume.labels
    dice = 2 * np.sum(truth & (labels == 1)) / (np.sum(truth) + np.sum(labels == 1))
    assert dice > 0.93
    positions = voxel_positions(volume.geometry)
    np.testing.assert_allclose(positions[labels == 1].mean(0), positions[truth].mean(0), atol=0.4)
    assert [structure.name for _, structure in found.label_volume.present()] == ["Liver"]


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_network_is_told_the_modality(modality: str, volume: Volume, tiny_card: Path) -> None:
    segmenter, network = brightness_segmenter()
    for _ in range(2):  # at load the network is asked about an image of no patient
        network.codes.clear()
        segmenter.segment(replace(volume, modality=modality), load_card(str(tiny_card)))
    assert network.codes
    assert all(torch.equal(code, kind_code(modality)) for code in network.codes)


def test_the_network_sees_head_posterior_left(tiny_card: Path) -> None:
    """A brighter half on each of the three sides must come up at the high end of each axis."""
    card = load_card(str(tiny_card))
    volume = ball_volume(geometry_of(PhantomSpec(orientation="oblique", flip_rows=True)), "MR")
    positions = voxel_positions(volume.geometry)
    middle = positions.reshape(-1, 3).mean(0)
    for axis, sides in ((0, 2), (1, 1), (2, 0)):
        bright = np.where(positions[..., sides] > middle[sides], 1000, 100).astype(np.int16)
        image, _ = network_image(replace(volume, voxels=bright), card)
        halves = torch.tensor_split(image, 2, dim=axis)
        assert halves[1][halves[1] > 0].mean() > 2 * halves[0][halves[0] > 0].mean()


def test_confidence_is_the_mean_probability_of_what_was_found(volume: Volume, tiny_card: Path) -> None:
    segmenter, _ = brightness_segmenter()
    found = segmenter.segment(volume, load_card(str(tiny_card)))
    assert set(found.confidence) == {"Liver"}
    image, _ = network_image(volume, load_card(str(tiny_card)))
    bright = standardise(image, "CT")
    expected = torch.sigmoid(bright[bright > 0]).mean()
    assert found.confidence["Liver"] == pytest.approx(float(expected), abs=0.01)


def test_the_networks_certainty_comes_with_the_labels(volume: Volume, tiny_card: Path) -> None:
    segmenter, _ = brightness_segmenter()
    found = segmenter.segment(volume, load_card(str(tiny_card))).label_volume
    assert found.certainty is not None
    border = beside_border(found.labels)
    assert np.median(found.certainty.winner[border]) < 255
    assert set(found.certainty.runner_up[border & (found.certainty.winner < 255)]) == {0, 1}


def test_the_answer_names_card_weights_and_times(volume: Volume, tiny_card: Path) -> None:
    found = Segmenter("cpu").segment(volume, str(tiny_card))
    card = load_card(str(tiny_card))
    assert (found.card, found.card_version, found.weights_sha256) == ("tiny", "1", card.weights_sha256)
    assert set(found.seconds) == {"load", "resample", "network", "clean", "label"}
    assert found.label_volume.labels.shape == volume.voxels.shape
    assert set(found.confidence) == {structure.name for _, structure in found.label_volume.present()}


def test_a_network_stays_resident(volume: Volume, tiny_card: Path) -> None:
    loaded: list[Card] = []

    def load(card: Card) -> SharedNetwork:
        loaded.append(card)
        return BrightnessNetwork()

    segmenter = Segmenter("cpu", load=load)
    for _ in range(3):
        segmenter.segment(volume, load_card(str(tiny_card)))
    assert len(loaded) == 1


def test_scores_that_are_not_finite_are_no_result(volume: Volume, tiny_card: Path) -> None:
    class BrokenNetwork(BrightnessNetwork):
        def forward(self, x: Tensor, code: Tensor, anatomy: str) -> Tensor:
            return super().forward(x, code, anatomy) * torch.nan

    with pytest.raises(SegmentationFailed, match="not finite"):
        Segmenter("cpu", load=lambda _card: BrokenNetwork()).segment(volume, load_card(str(tiny_card)))


def test_wrong_cards_and_weights_are_named(volume: Volume, tiny_card: Path) -> None:
    card = load_card(str(tiny_card))
    segmenter = Segmenter("cpu")
    with pytest.raises(SettingsError, match='no card "elbow"'):
        segmenter.segment(volume, "elbow")
    with pytest.raises(SettingsError, match="SHA-256"):
        segmenter.segment(volume, replace(card, weights_sha256="0" * 64))
    with pytest.raises(SettingsError, match=r"anatomy\.toml has no Flux_Capacitor"):
        segmenter.segment(volume, replace(card, structures=("Liver", "Spleen", "Flux_Capacitor")))
    with pytest.raises(InputRefused, match="takes MR, the series is CT"):
        segmenter.segment(volume, replace(card, modalities=("MR",)))


def test_padding_and_metal_do_not_reach_the_network(volume: Volume, tiny_card: Path) -> None:
    voxels = np.asarray(volume.voxels).copy()
    voxels[:, :3] = -2000
    voxels[:, -3:] = 30_000
    image, _ = network_image(replace(volume, voxels=voxels), load_card(str(tiny_card)))
    assert float(image.min()) >= -1024.0
    assert float(image.max()) <= 3071.0


def test_a_single_slice_is_a_volume(tiny_card: Path) -> None:
    source = geometry_of(PhantomSpec(slices=1, rows=48, columns=64, slice_spacing=5.0))
    segmenter, _ = brightness_segmenter()
    volume = ball_volume(source)
    labels = segmenter.segment(volume, load_card(str(tiny_card))).label_volume.labels
    truth = np.asarray(volume.voxels > 100)
    assert 2 * np.sum(truth & (labels == 1)) / (np.sum(truth) + np.sum(labels == 1)) > 0.9


def test_a_volume_far_too_large_for_the_card_is_refused(
    volume: Volume, tiny_card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter_module, "MOST_SCORE_BYTES", 1000)
    with pytest.raises(InputRefused, match=r"covers 60 x 60 x 48 mm, too much for the card tiny"):
        Segmenter("cpu").segment(volume, str(tiny_card))


def test_a_case_done_twice_gives_the_same_labels(volume: Volume, tiny_card: Path) -> None:
    first, second = (Segmenter("cpu").segment(volume, str(tiny_card)) for _ in range(2))
    np.testing.assert_array_equal(first.label_volume.labels, second.label_volume.labels)
    assert first.confidence == second.confidence
