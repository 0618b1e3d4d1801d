"""The source of chance: the same seed, the same numbers; its state can be kept."""

from __future__ import annotations

import torch

from models.randomness import Randomness


def _draw(random: Randomness) -> list[float]:
    numbers = [random.uniform(2, 3), random.normal(), random.log_uniform(1, 10), float(random.integer(0, 1000))]
    return [*numbers, float(random.noise((3,)).sum()), float(random.smooth((4, 5, 6), 2).sum())]


def test_seed_decides_numbers_and_fields() -> None:
    assert _draw(Randomness(3)) == _draw(Randomness(3))
    assert _draw(Randomness(3)) != _draw(Randomness(4))


def test_restored_source_goes_on_where_it_was() -> None:
    first = Randomness(1)
    first.noise((7,))
    state = first.state()
    expected = _draw(first)
    second = Randomness(2)
    second.restore(state)
    assert _draw(second) == expected


def test_names_are_picked_by_their_weights() -> None:
    random = Randomness(0)
    picked = [random.pick_name({"never": 0.0, "seldom": 1.0, "often": 9.0}) for _ in range(300)]
    assert picked.count("never") == 0
    assert picked.count("often") > 5 * picked.count("seldom")


def test_smooth_field_varies_slowly() -> None:
    field = Randomness(5).smooth((8, 40, 40), 10)[0]
    assert field.shape == (8, 40, 40)
    assert float(field.diff(dim=2).abs().mean()) < 0.3 * float(field.std())
    assert bool(torch.isfinite(field).all())
