"""Signal equations: what any radiographer knows of T1 and T2 weighting."""

from __future__ import annotations

import pytest
import torch

from models.mr_signals import _balanced, _inversion_recovery, _spin_echo, _spoiled_gradient_echo, signals
from models.randomness import Randomness
from models.tissues import TISSUE_COUNT, Tissue

FAT, LIVER, FLUID = 0, 1, 2
T1 = torch.tensor([340.0, 586.0, 3000.0])
T2 = torch.tensor([65.0, 46.0, 1000.0])


class Fixed(Randomness):
    """Gives the lower or upper end of every range."""

    def __init__(self, *, upper: bool) -> None:
        super().__init__(0)
        self._upper = upper

    def uniform(self, low: float, high: float) -> float:
        """One end."""
        return high if self._upper else low

    def log_uniform(self, low: float, high: float) -> float:
        """One end."""
        return high if self._upper else low


def test_long_spin_echo_shows_fluid_brightest() -> None:
    signal = _spin_echo(T1, T2, Fixed(upper=True))
    assert signal.argmax() == FLUID


@pytest.mark.parametrize("sequence", [_spin_echo, _spoiled_gradient_echo])
def test_short_times_show_fluid_darkest(sequence: object) -> None:
    signal = sequence(T1, T2, Fixed(upper=False))  # type: ignore[operator]
    assert signal.argmin() == FLUID


def test_balanced_gradient_echo_weighs_by_the_ratio_of_t2_to_t1() -> None:
    signal = _balanced(T1, T2, Randomness(1))
    assert signal.argmax() == FLUID
    assert signal.argmin() == LIVER


def test_inversion_nulls_a_tissue_at_its_own_time() -> None:
    nulled = float(torch.log(torch.tensor(2.0))) * 340.0  # ln 2 T1, for a long repetition time

    class AtNull(Fixed):
        def uniform(self, low: float, high: float) -> float:
            return nulled if high < 2500 else high

    signal = _inversion_recovery(T1, T2, AtNull(upper=True)).abs()
    assert float(signal[FAT]) < 0.01 * float(signal[FLUID])


@pytest.mark.parametrize("seed", range(12))
def test_signals_are_of_a_displayable_size_and_air_is_dark(seed: int) -> None:
    signal = signals(Randomness(seed))
    assert signal.shape == (TISSUE_COUNT,)
    assert bool(torch.isfinite(signal).all())
    assert float(signal.min()) >= 0
    assert 0.5 < float(signal.max()) <= 1.3
    assert float(signal[Tissue.AIR]) == float(signal[Tissue.METAL]) == 0
