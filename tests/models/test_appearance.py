"""The image's own say: a structure goes where it can be seen, in any contrast, and stays where nothing can be seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.appearance import _mean_around, follow_image
from models.card import Appearance

FOLLOWING = Appearance(share=0.8)
SHAPE = (24, 40, 40)


def away(centre: tuple[float, float, float] = (11.5, 19.5, 19.5)) -> Tensor:
    axes = torch.meshgrid(*(torch.arange(n).float() for n in SHAPE), indexing="ij")
    squares = [(axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True)]
    return torch.stack(squares).sum(0).sqrt()


def ball(radius: float) -> Tensor:
    return away() <= radius


def noise() -> Tensor:
    return 0.3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


def scores_of(inwards: Tensor, classes: int = 3) -> Tensor:
    """A network that is the surer the deeper a voxel lies, and unsure by two voxels where the border is."""
    scores = torch.zeros(classes, *SHAPE)
    scores[2:] = -5.0
    scores[1] = (0.5 * inwards).clamp(-4, 4)
    return scores


def dice(found: Tensor, truth: Tensor) -> float:
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


@pytest.mark.parametrize("contrast", [2.0, -2.0])
def test_a_structure_painted_too_large_shrinks_to_what_is_seen(contrast: float) -> None:
    truth, scores = ball(7), scores_of(9 - away())
    follow_image(scores, contrast * truth.float() + noise(), FOLLOWING)
    assert dice(scores.argmax(0) == 1, truth) > 0.97 > dice(ball(9), truth)


def test_a_structure_painted_beside_itself_comes_back() -> None:
    truth, inwards = ball(8), 8 - away((11.5, 19.5, 22.5))
    scores = scores_of(inwards)
    follow_image(scores, 2.0 * truth.float() + noise(), FOLLOWING)
    assert dice(scores.argmax(0) == 1, truth) > 0.95 > dice(inwards >= 0, truth)


def test_where_all_looks_alike_the_network_is_believed() -> None:
    scores = scores_of(8 - away())
    follow_image(scores, noise(), FOLLOWING)
    assert dice(scores.argmax(0) == 1, ball(8)) > 0.9


def test_a_class_that_the_network_sees_nowhere_stays_away() -> None:
    scores = scores_of(8 - away())
    follow_image(scores, 2.0 * ball(8).float() + noise(), FOLLOWING)
    assert not (scores.argmax(0) == 2).any()


def test_without_a_share_nothing_changes() -> None:
    scores = scores_of(8 - away())
    before = scores.clone()
    follow_image(scores, noise(), Appearance())
    assert torch.equal(scores, before)


@pytest.mark.parametrize("image", [torch.zeros(SHAPE), torch.full(SHAPE, 3.0)])
def test_an_image_of_one_brightness_gives_finite_scores(image: Tensor) -> None:
    scores = scores_of(8 - away())
    follow_image(scores, image, FOLLOWING)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 1, 5, 4), (3, 7, 6, 5)])
def test_the_mean_around_is_that_of_27_voxels(shape: tuple[int, int, int, int]) -> None:
    volumes = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    padded = nn.functional.pad(volumes[None], (1, 1, 1, 1, 1, 1), mode="replicate")
    torch.testing.assert_close(_mean_around(volumes), nn.functional.avg_pool3d(padded, 3, 1)[0])


def test_a_thick_volume_is_worked_on_as_one() -> None:
    """Planes at the borders of the slabs get what the others get."""
    across = away()[11:12].expand(SHAPE)
    truth, scores = across <= 7, scores_of(9 - across)
    follow_image(scores, 2.0 * truth.float() + noise(), FOLLOWING)
    found = scores.argmax(0) == 1
    assert min(dice(found[k], truth[k]) for k in range(SHAPE[0])) > 0.97


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"smoothing": -1.0}, {"rounds": -1}, {"temperature": 0.0}])
def test_a_number_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="appearance"):
        Appearance(**wrong)  # type: ignore[arg-type]
