"""Rendering: deterministic, aligned, plausible, and never teaching what a map does not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ct_rendering import ct_values
from models.deformation import Geometry
from models.label_maps import LabelMap
from models.mr_rendering import mr_values
from models.preview import write_png
from models.randomness import Randomness
from models.rendering import RenderingSettings, deform, photograph, render_patch
from models.standardisation import standardise
from models.tissues import IGNORED, Tissue, structure_label
from tests.models.label_map_phantom import trunk_map

SETTINGS = RenderingSettings(4.0)
STILL = Geometry(rotation=0, scale=0, enlargement=0, elastic_amplitude=0, organ_scale=0, cropped=0, off_axis=0,
                 on_structure=0)  # fmt: skip
SHAPE = (16, 56, 64)


def _render(kind: str, seed: int, settings: RenderingSettings = SETTINGS) -> tuple[torch.Tensor, torch.Tensor]:
    patch = render_patch(trunk_map(), SHAPE, kind, settings, Randomness(seed))
    return patch.image, patch.label


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_seed_decides_everything(kind: str) -> None:
    first, second, other = _render(kind, 3), _render(kind, 3), _render(kind, 4)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    _render("MR", 1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["CT", "MR"])
@pytest.mark.parametrize("seed", range(6))
def test_images_are_finite_and_of_bounded_size(kind: str, seed: int) -> None:
    image, label = _render(kind, seed)
    assert image.shape == (1, 1, *SHAPE)
    assert label.shape == (1, *SHAPE)
    assert bool(torch.isfinite(image).all())
    assert float(image.abs().max()) < 12


def test_ct_bone_is_brighter_than_liver_and_liver_than_air_on_average() -> None:
    settings = replace(SETTINGS, geometry=STILL, arms=0, table=0, lesions=0)
    means = torch.zeros(3)
    for seed in range(6):
        image, label = _render("CT", seed, settings)
        for row, name in enumerate(("Spine", "Liver")):
            means[row] += image[0, 0][label[0] == structure_label("torso", name)].mean() / 6
        means[2] += image[0, 0, :, 0, 0].mean() / 6
    assert means[0] > means[1] > means[2] + 1


def test_undeformed_labels_are_the_maps_own() -> None:
    source = trunk_map()
    settings = replace(SETTINGS, geometry=STILL, arms=0, lesions=0)
    anatomy = deform(source, SHAPE, settings, Randomness(0))
    spine = structure_label("torso", "Spine")  # the same at every level, and levels are chosen at random
    expected = torch.from_numpy(source.label[12] == spine).expand(SHAPE)
    known = anatomy.label != IGNORED
    assert torch.equal((anatomy.label == spine)[known], expected[known])


def test_repeated_edges_teach_nothing() -> None:
    settings = replace(SETTINGS, geometry=replace(STILL, cropped=1.0))
    anatomy = deform(trunk_map(), SHAPE, settings, Randomness(2))
    edges = anatomy.label[:, 0]
    assert bool((edges == IGNORED).all()) or bool((anatomy.label[:, -1] == IGNORED).all())


def test_fat_is_grown_outside_the_core_and_ends_in_air() -> None:
    settings = replace(SETTINGS, geometry=STILL, arms=0)
    anatomy = deform(trunk_map(), SHAPE, settings, Randomness(0))
    assert int((anatomy.tissue == Tissue.SUBCUTANEOUS_FAT).sum()) > 0
    assert bool((anatomy.tissue[:, 0, 0] == Tissue.AIR).all())


def test_mirroring_is_off_by_default_because_sides_are_labels() -> None:
    assert not Geometry().mirrored
    source = trunk_map()
    for seed in range(8):
        anatomy = deform(source, SHAPE, SETTINGS, Randomness(seed))
        liver = (anatomy.label == structure_label("torso", "Liver")).nonzero()[:, 2].float()
        kidney = (anatomy.label == structure_label("torso", "Kidney_L")).nonzero()[:, 2].float()
        if len(liver) > 20 and len(kidney) > 20:
            assert liver.mean() < kidney.mean()  # i runs to the patient's left


def test_standardised_ct_tells_organs_apart_that_a_linear_scale_would_not() -> None:
    spleen, liver = standardise(torch.tensor([50.0, 60.0]), "CT")
    assert float(liver - spleen) > 0.05


def test_standardised_mr_does_not_depend_on_scale() -> None:
    voxels = torch.rand(8, 20, 20, generator=torch.Generator().manual_seed(0)) * 800
    torch.testing.assert_close(standardise(voxels, "MR"), standardise(voxels * 3.7, "MR"), atol=1e-3, rtol=1e-3)


def test_png_has_the_signature_and_size(tmp_path: Path) -> None:
    write_png(torch.zeros(3, 5, 3, dtype=torch.uint8).numpy(), tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content[16:24] == (5).to_bytes(4, "big") + (3).to_bytes(4, "big")


def _with_ct() -> LabelMap:
    """The phantom with a CT of its own: liver at 60 HU, everything else at -100."""
    source = trunk_map()
    liver = source.label == structure_label("torso", "Liver")
    return replace(source, image=np.where(liver, 60, -100).astype(np.int16), _placed={})


def test_own_ct_lies_where_its_labels_lie() -> None:
    settings = replace(SETTINGS, narrow_ct=0, thick_ct=0)
    scores = []
    for seed in range(4):
        patch = photograph(_with_ct(), SHAPE, "CT", settings, Randomness(seed))
        liver = patch.label == structure_label("torso", "Liver")
        if int(liver.sum()) > 100:
            bright = patch.image[0] > standardise(torch.tensor([-20.0]), "CT")
            scores.append(2 * float((bright & liver).sum()) / float(bright.sum() + liver.sum()))
    assert scores
    assert min(scores) > 0.8


def test_narrow_reconstruction_labels_nothing_outside_itself() -> None:
    settings = replace(SETTINGS, narrow_ct=1.0, geometry=replace(STILL, cropped=0))
    patch = render_patch(trunk_map(), SHAPE, "CT", settings, Randomness(1))
    padding = standardise(torch.tensor([-1024.0]), "CT")
    unseen = patch.image[0, 0, :, 0, 0] == padding
    assert bool(unseen.all())
    assert int(patch.label[0, :, 0, 0].max()) <= 0


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_unseen_contrasts_are_other_ones(kind: str) -> None:
    trained, unseen = (_render(kind, 3, replace(SETTINGS, contrast=c)) for c in ("trained", "unseen"))
    assert trained[0].shape == unseen[0].shape
    assert not torch.equal(trained[0], unseen[0])


def test_hollow_organs_fill_and_push_aside_what_lies_around() -> None:
    sizes = []
    for most in (1.0, 2.4):
        geometry = replace(STILL, organ_scale=1e-9, hollow={"Kidney_L": most})
        settings = replace(SETTINGS, geometry=geometry, arms=0, lesions=0)
        labels = torch.stack([deform(trunk_map(), SHAPE, settings, Randomness(seed)).label for seed in range(12)])
        sizes.append(int((labels == structure_label("torso", "Kidney_L")).sum()))
        assert int((labels == structure_label("torso", "Spine")).sum()) > 0
    assert sizes[1] > 1.4 * sizes[0]


def test_small_windows_lie_around_the_structures_also_across_the_body() -> None:
    kidney, shape = structure_label("torso", "Kidney_L"), (8, 16, 16)
    seen = []
    for around in (0.0, 1.0):
        geometry = replace(STILL, on_structure=1.0, around=around, off_axis=0.0, focus=5 * ("Kidney_L",))
        settings = replace(SETTINGS, geometry=geometry, arms=0, lesions=0)
        labels = [deform(trunk_map(unsettled=False), shape, settings, Randomness(seed)).label for seed in range(20)]
        seen.append(sum(int((label == kidney).sum()) for label in labels))
    assert seen[1] > 1.3 * seen[0] > 0


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_labelled_muscle_mostly_looks_like_any_other(kind: str) -> None:
    alike = 0
    for seed in range(40):
        random = Randomness(seed)
        mean = ct_values(random)[0] if kind == "CT" else mr_values(random, 0.5, 0.25)[0]
        near = 3.0 if kind == "CT" else 0.04 * float(mean[Tissue.MUSCLE])
        alike += abs(float(mean[Tissue.MUSCLE] - mean[Tissue.DEEP_MUSCLE])) <= near
    assert alike >= 30
