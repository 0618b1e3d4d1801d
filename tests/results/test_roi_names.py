"""ROINames where a destination takes few characters: sides stay, names stay apart, the length holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.anatomy import Structure, load_anatomy
from dicom_node.errors import SettingsError
from dicom_node.profiles import Profile
from dicom_node.results.rtstruct import roi_names


def named(*names: str) -> dict[int, Structure]:
    liver = load_anatomy()["Liver"]
    return {label: replace(liver, name=name) for label, name in enumerate(names, start=1)}


def test_a_side_stays_when_a_name_is_cut() -> None:
    names = roi_names(named("Femoral_Head_And_Neck_L", "Femoral_Head_And_Neck_R"))
    assert names == {1: "Femoral_Head_A_L", 2: "Femoral_Head_A_R"}


@pytest.mark.parametrize("side", ["_L", "_R", "_l", "_Left", "_RIGHT", " Lt", "-right", "_Bilat"])
def test_sides_are_known_however_they_are_written(side: str) -> None:
    (name,) = roi_names(named(f"A_structure_with_a_long_name{side}")).values()
    assert name.endswith(side)
    assert len(name) == 16


def test_numbers_come_before_the_side() -> None:
    names = roi_names(named("Femoral_Head_And_Neck_L", "Femoral_Head_And_Shaft_L", "Femoral_Head_And_Neck_R"))
    assert names == {1: "Femoral_Head_A_L", 2: "Femoral_Head_2_L", 3: "Femoral_Head_A_R"}


def test_a_name_is_not_cut_behind_a_space() -> None:
    assert roi_names(named("Lymph nodes of a neck"), Profile(name_length=6)) == {1: "Lymph"}


@pytest.mark.parametrize("length", range(1, 17))
def test_the_length_holds_or_the_profile_is_refused(length: int) -> None:
    structures = named(*(f"Structure_{number}_{side}" for number in range(20) for side in "LR"), "Other", "Others")
    try:
        names = roi_names(structures, Profile(name_length=length))
    except SettingsError:
        assert length < 6  # twenty names on either side need two digits
        return
    assert max(map(len, names.values())) <= length
    assert len({name.casefold() for name in names.values()}) == len(structures)
    assert all(names[label][-2:] == structures[label].name[-2:] for label in range(1, 41))


@pytest.mark.parametrize(("length", "names"), [(1, ("Aa", "Ab")), (2, ("Lung_L",)), (2, ("Aa_long", "Aa_longer"))])
def test_names_for_which_there_is_no_room_are_refused(length: int, names: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=f"name_length = {length} leaves no room"):
        roi_names(named(*names), Profile(name_length=length))


def test_names_that_fit_are_not_changed() -> None:
    assert roi_names(named("A", "B"), Profile(name_length=1)) == {1: "A", 2: "B"}
