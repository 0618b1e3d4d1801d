from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from dicom_node.anatomy import Code, Structure, load_anatomy, load_profiles, parse_profile, parse_structure
from dicom_node.errors import SettingsError

TORSO = [
    "Liver",
    "Spleen",
    "Kidney_L",
    "Kidney_R",
    "Gallbladder",
    "Pancreas",
    "Stomach",
    "A_Aorta",
    "V_Venacava_I",
    "Bladder",
    "Lung_L",
    "Lung_R",
    "Heart",
    "Spine",
    "Sacrum",
    "Pelvis_L",
    "Pelvis_R",
    "Femur_L",
    "Femur_R",
    "Iliopsoas_L",
    "Iliopsoas_R",
    "ErectorSpinae_L",
    "ErectorSpinae_R",
    "Gluteal_L",
    "Gluteal_R",
]
KNEE = [
    "Femur",
    "Tibia",
    "Fibula",
    "Patella",
    "Cartilage_Femur",
    "Cartilage_Tibia",
    "Cartilage_Patella",
    "Meniscus_Med",
    "Meniscus_Lat",
    "Lig_ACL",
    "Lig_PCL",
    "Lig_Patellar",
    "Quadriceps",
    "Hamstrings",
    "Gastrocnemius",
    "External",
]

NOT_IN_PS3_16 = {
    # TotalSegmentator, resources/totalsegmentator_snomed_mapping.csv
    "68455001": "Iliopsoas muscle",
    # HL7 FHIR value sets of body sites: "Quadriceps Femoris Muscle", "Structure of quadriceps femoris muscle"
    "21989003": "Quadriceps femoris muscle",
}

TG_263 = {
    # names and codes of the TG-263 to SNOMED CT concept map of HL7 CodeX Radiation Therapy
    "Liver": "10200004",
    "Spleen": "78961009",
    "Kidney_L": "64033007",
    "Gallbladder": "28231008",
    "Pancreas": "15776009",
    "A_Aorta": "15825003",
    "Bladder": "89837001",
    "Lung_L": "39607008",
    "Heart": "80891009",
    "Femur_L": "71341001",
    "Femur": "71341001",
    "Fibula": "87342007",
    "Bone_Pelvic_L": "118645006",
}


def meanings_of(code: str) -> set[str]:
    """Meanings of an SCT code in the concept dictionary that pydicom makes from PS3.16."""
    return {entry[code][0] for entry in concepts["SCT"].values() if code in entry}


def codes_of(structure: Structure) -> list[Code]:
    optional = (structure.laterality, structure.modifier, structure.region)
    return [structure.type, structure.category, *(code for code in optional if code)]


def test_every_structure_of_both_anatomies_is_there() -> None:
    assert list(load_anatomy()) == [*TORSO, *KNEE]


@pytest.mark.parametrize("name", [*TORSO, *KNEE])
def test_every_code_means_in_the_standard_what_it_means_here(name: str) -> None:
    for code in codes_of(load_anatomy()[name]):
        assert code.scheme == "SCT"
        assert code.meaning in (meanings_of(code.value) or {NOT_IN_PS3_16.get(code.value)})


@pytest.mark.parametrize("name", [*TORSO, *KNEE])
def test_categories_are_of_context_group_7150(name: str) -> None:
    category = load_anatomy()[name].category.value
    assert any(7150 in entry[category][1] for entry in concepts["SCT"].values() if category in entry)


@pytest.mark.parametrize(("name", "code"), TG_263.items())
def test_names_of_tg_263_carry_the_code_of_that_name(name: str, code: str) -> None:
    by_short_name = {structure.short_name: structure for structure in load_anatomy().values()}
    assert by_short_name[name].type.value == code


def test_names_and_aliases_fit_sixteen_characters_and_are_unique() -> None:
    short_names = [structure.short_name for structure in load_anatomy().values()]
    assert all(len(name) <= 16 for name in short_names)
    assert len({name.casefold() for name in short_names}) == len(short_names)


@pytest.mark.parametrize("side", ["L", "R"])
def test_sided_names_have_that_side(side: str) -> None:
    meaning = {"L": "Left", "R": "Right"}[side]
    sided = [structure for structure in load_anatomy().values() if structure.name.endswith(f"_{side}")]
    assert len(sided) == 7
    assert {structure.laterality.meaning for structure in sided if structure.laterality} == {meaning}


def test_structures_are_told_apart_by_their_codes() -> None:
    coded = [tuple(codes_of(structure)) for structure in load_anatomy().values() if structure.name != "Femur"]
    assert len(set(coded)) == len(coded)


def test_colors_of_one_anatomy_differ() -> None:
    for names in (TORSO, KNEE):
        assert len({load_anatomy()[name].color for name in names}) == len(names)


def test_the_body_contour_is_external() -> None:
    assert load_anatomy()["External"].interpreted_type == "EXTERNAL"


def test_the_default_profile_is_there() -> None:
    default = load_profiles()["default"]
    assert (default.name_length, default.seg, default.irregular_contours) == (16, "BINARY", False)


@pytest.mark.parametrize("table", [{"colour": 1}, {"seg": "FRACTIONAL"}, {"name_length": 65}])
def test_a_wrong_profile_is_an_error_that_names_it(table: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="'clinic'"):
        parse_profile(table, "clinic")


def test_a_structure_without_a_code_is_an_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match=r"'Thing'.*type"):
        parse_structure({"name": "Thing"}, origin="here")
