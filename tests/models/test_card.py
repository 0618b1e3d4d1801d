"""Cards and their fast variants."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.card import FAST, list_cards, list_variants, load_card


def test_fast_variant_is_the_same_use_on_a_coarser_grid() -> None:
    for name in list_cards():
        full, fast = load_card(name), load_card(name + FAST)
        assert fast.name == name + FAST
        assert fast.spacing_mm > full.spacing_mm
        assert (fast.structures, fast.weights_sha256, fast.anatomy) == (
            full.structures, full.weights_sha256, full.anatomy,
        )  # fmt: skip


def test_variants_are_listed_beside_the_cards() -> None:
    assert set(list_variants()) == {name + end for name in list_cards() for end in ("", FAST)}


def _card(tmp_path: Path, extra: str = "") -> Path:
    path = tmp_path / "c.toml"
    path.write_text(
        'name = "c"\nversion = "1"\nanatomy = "torso"\nmodalities = ["CT"]\nstructures = ["Liver"]\n'
        f'spacing_mm = [4, 4, 4]\nwindow = [8, 16, 16]\n{extra}\n[weights]\nfile = "w"\nsha256 = "0"\n'
    )
    return path


def test_card_without_a_fast_grid_has_no_fast_variant(tmp_path: Path) -> None:
    path = _card(tmp_path)
    assert load_card(str(path)).averaging.flip_left_right is False
    with pytest.raises(ValueError, match="no fast variant"):
        load_card(str(path) + FAST)


def test_averaging_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="flip_upside_down"):
        load_card(str(_card(tmp_path, "[averaging]\nflip_upside_down = true")))


@pytest.mark.parametrize("zooms", ["[]", "[0.0]", "[1.0, -1.0]", '["fine"]'])
def test_zooms_that_no_grid_has_are_refused_with_the_file(tmp_path: Path, zooms: str) -> None:
    with pytest.raises(ValueError, match=r"c\.toml"):
        load_card(str(_card(tmp_path, f"[averaging]\nzooms = {zooms}")))


def test_fast_variant_averages_only_what_its_own_table_says(tmp_path: Path) -> None:
    fast = "[fast]\nspacing_mm = [6, 6, 6]\nwindow = [8, 16, 16]\n[averaging]\nzooms = [0.5, 1.0]"
    path = _card(tmp_path, fast)
    assert load_card(str(path)).averaging.zooms == (0.5, 1.0)
    assert load_card(str(path) + FAST).averaging.zooms == (1.0,)
