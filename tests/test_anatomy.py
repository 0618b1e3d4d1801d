from __future__ import annotations

import itertools

import numpy as np
import pytest
from highdicom.color import CIELabColor
from pydicom.sr._concepts_dict import concepts

from dicom_node.anatomy import LATERALITIES, Code, Structure, load_anatomy, parse_structure
from dicom_node.errors import SettingsError
from models.tissues import STRUCTURES

TORSO = list(STRUCTURES["torso"])
KNEE = [*STRUCTURES["knee"], "External"]
EVERY = [*TORSO, *KNEE]
TOGETHER = {"torso": [*TORSO, "External"], "knee": KNEE}

CATEGORIES, TYPES, SIDES, MODIFIERS, REGIONS = 7150, 7151, 244, 2, 4
"""Context groups of PS3.16 that the Segment Description Macro names (PS3.3 C.8.20.2, Table 10-7)."""
TYPES_OF_CATEGORY = {"Anatomical Structure": 7192, "Tissue": 7191}
"""The part of CID 7151 that each category of CID 7150 stands for."""
OUTSIDE_BASELINE = {
    # PS3.16 carries these, in context groups for other purposes: nothing in CID 7151 or CID 4 means the same.
    ("type", "118645006"): 7304,  # bony pelvis: Implant Target Anatomy
    ("type", "12611008"): 7304,  # tibia: Implant Target Anatomy; code of BodyPartExamined TIBIA (PS3.16 Annex L)
    ("region", "12611008"): 7304,
    ("type", "18033002"): 12321,  # patellar tendon: Elastography Site
}

# Primary names of the worksheet of AAPM TG-263 (August 2017) that are in use here.
TG_263 = {
    "Liver", "Spleen", "Kidney_L", "Kidney_R", "Gallbladder", "Pancreas", "Stomach", "A_Aorta", "V_Venacava_I",
    "Bladder", "Lung_L", "Lung_R", "Heart", "Sacrum", "Bone_Pelvic_L", "Bone_Pelvic_R", "Femur_L", "Femur_R", "Fibula",
    "External",
}  # fmt: skip
# Prefixes by which the worksheet groups what it lists: Musc_Masseter_L, Cartlg_Thyroid, Lig_Hepatogastrc ...
PREFIXES = {
    "Muscle of lower limb": "Musc_", "Erector spinae muscle": "Musc_", "Cartilage": "Cartlg_", "Ligament": "Lig_",
    "Patellar Tendon": "Lig_", "Aorta": "A_", "Inferior vena cava": "V_",
}  # fmt: skip


def contexts_of(code: Code) -> set[int]:
    """Context groups in which PS3.16 carries a code with its meaning, by the dictionary that pydicom makes from it."""
    entries = [entry[code.value] for entry in concepts[code.scheme].values() if code.value in entry]
    return {cid for meaning, cids in entries if meaning == code.meaning for cid in cids}


def codes_of(structure: Structure) -> dict[str, Code]:
    roles = ("type", "category", "laterality", "modifier", "region")
    return {role: getattr(structure, role) for role in roles if getattr(structure, role)}


def coded(role: str) -> list[str]:
    """Names of the structures that have a code in that role."""
    return [name for name in EVERY if role in codes_of(load_anatomy()[name])]


def lab(name: str) -> np.ndarray:
    return np.array(CIELabColor.from_rgb(*load_anatomy()[name].color).lab)


def entry(**changes: object) -> dict[str, object]:
    code = {"value": "40388003", "meaning": "Implant"}
    return {"name": "Thing", "type": code, "category": code, "color": [1, 2, 3], **changes}


def test_every_structure_of_both_anatomies_is_there() -> None:
    assert list(load_anatomy()) == EVERY


@pytest.mark.parametrize("name", EVERY)
def test_every_code_stands_in_the_standard_with_its_meaning(name: str) -> None:
    codes = codes_of(load_anatomy()[name])
    assert {role for role, code in codes.items() if code.scheme != "SCT" or not contexts_of(code)} == set()


@pytest.mark.parametrize("name", EVERY)
def test_categories_are_of_their_context_group(name: str) -> None:
    assert CATEGORIES in contexts_of(load_anatomy()[name].category)


@pytest.mark.parametrize("name", EVERY)
def test_types_are_of_the_context_group_of_their_category(name: str) -> None:
    structure = load_anatomy()[name]
    wanted = {TYPES, TYPES_OF_CATEGORY[structure.category.meaning]}
    elsewhere = OUTSIDE_BASELINE.get(("type", structure.type.value))
    assert ({elsewhere} if elsewhere else wanted) <= contexts_of(structure.type)


@pytest.mark.parametrize("name", coded("laterality"))
def test_lateralities_are_of_their_context_group(name: str) -> None:
    assert SIDES in contexts_of(codes_of(load_anatomy()[name])["laterality"])


@pytest.mark.parametrize("name", coded("modifier"))
def test_modifiers_are_of_their_context_group(name: str) -> None:
    assert MODIFIERS in contexts_of(codes_of(load_anatomy()[name])["modifier"])


@pytest.mark.parametrize("name", coded("region"))
def test_regions_are_of_their_context_group(name: str) -> None:
    region = codes_of(load_anatomy()[name])["region"]
    assert OUTSIDE_BASELINE.get(("region", region.value), REGIONS) in contexts_of(region)


@pytest.mark.parametrize(("role", "code"), OUTSIDE_BASELINE)
def test_what_is_said_to_lie_outside_a_baseline_does(role: str, code: str) -> None:
    group = {"type": TYPES, "region": REGIONS}[role]
    assert group not in {cid for entry in concepts["SCT"].values() if code in entry for cid in entry[code][1]}


def test_the_standard_has_no_closer_code_for_muscle_groups_and_cruciate_ligaments() -> None:
    names = ("psoas", "iliacus", "glute", "quadriceps", "hamstring", "biceps femoris", "gastrocnemius", "cruciate")
    meanings = {meaning.lower() for entry in concepts["SCT"].values() for meaning, _ in entry.values()}
    named = {meaning for meaning in meanings if any(name in meaning for name in names)}
    assert {meaning for meaning in named if "muscle" in meaning or "ligament" in meaning} == set()


@pytest.mark.parametrize("anatomy", TOGETHER)
def test_structures_of_one_anatomy_are_told_apart_by_their_codes(anatomy: str) -> None:
    codes = [tuple(codes_of(load_anatomy()[name]).items()) for name in TOGETHER[anatomy]]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_sided_names_have_that_side(side: str) -> None:
    sided = [name for name in EVERY if load_anatomy()[name].short_name.endswith(f"_{side[0]}")]
    assert sided == [
        name for name in coded("laterality") if codes_of(load_anatomy()[name])["laterality"].meaning == side
    ]


def test_left_and_right_of_a_pair_differ_in_nothing_else() -> None:
    left = [load_anatomy()[name] for name in EVERY if name.endswith("_L")]
    right = [load_anatomy()[f"{structure.name[:-2]}_R"] for structure in left]
    same = ("type", "category", "modifier", "region", "interpreted_type", "volume_ml", "pieces")
    assert [[getattr(s, key) for key in same] for s in left] == [[getattr(s, key) for key in same] for s in right]


def test_short_names_fit_sixteen_characters() -> None:
    assert [name for name in EVERY if len(load_anatomy()[name].alias or name) > 16] == []


def test_names_and_short_names_are_unique_whatever_their_case() -> None:
    short_names = [structure.short_name.casefold() for structure in load_anatomy().values()]
    names = [name.casefold() for name in EVERY]
    assert (len(set(short_names)), len(set(names))) == (len(EVERY), len(EVERY))


def test_no_short_name_is_another_structures_name() -> None:
    assert [s.name for s in load_anatomy().values() if s.alias and s.alias in load_anatomy()] == []


def test_names_of_tg_263_are_used_where_it_has_them() -> None:
    assert {structure.short_name for structure in load_anatomy().values()} >= TG_263


@pytest.mark.parametrize("name", [name for name in EVERY if load_anatomy()[name].type.meaning in PREFIXES])
def test_short_names_begin_with_the_category_of_tg_263(name: str) -> None:
    structure = load_anatomy()[name]
    assert structure.short_name.startswith(PREFIXES[structure.type.meaning])


@pytest.mark.parametrize("name", EVERY)
def test_colors_survive_the_encoding_of_dicom(name: str) -> None:
    color = load_anatomy()[name].color
    encoded = CIELabColor.from_rgb(*color).value
    assert np.abs(np.subtract(CIELabColor.from_dicom_value(encoded).to_rgb(), color)).max() <= 2


@pytest.mark.parametrize("anatomy", TOGETHER)
def test_colors_of_one_anatomy_differ_visibly(anatomy: str) -> None:
    distances = [np.linalg.norm(lab(one) - lab(other)) for one, other in itertools.combinations(TOGETHER[anatomy], 2)]
    assert min(distances) > 12


def test_the_body_contour_is_external() -> None:
    assert load_anatomy()["External"].interpreted_type == "EXTERNAL"


@pytest.mark.parametrize("name", EVERY)
def test_every_structure_has_volume_limits(name: str) -> None:
    assert load_anatomy()[name].volume_ml is not None


@pytest.mark.parametrize("name", ["Femur_L", "Femur", "Tibia", "Fibula", "Quadriceps", "External"])
def test_what_the_images_always_cut_has_no_smallest_volume(name: str) -> None:
    assert (load_anatomy()[name].volume_ml or (1,))[0] == 0


def test_a_structure_without_limits_has_none() -> None:
    structure = parse_structure(entry(), origin="here")
    assert (structure.volume_ml, structure.pieces) == (None, None)


@pytest.mark.parametrize(
    "limits", [[5], [5, 4], [-1, 4], [0, "4"], [True, 4], 5, [0, float("inf")], [float("nan"), 4], [1, 2, 3]]
)
def test_wrong_volume_limits_are_an_error_that_names_the_structure(limits: object) -> None:
    with pytest.raises(SettingsError, match=r"'Thing'.*volume_ml"):
        parse_structure(entry(volume_ml=limits), origin="here")


@pytest.mark.parametrize("pieces", [0, -1, 1.0, "1", True])
def test_wrong_pieces_are_an_error_that_names_the_structure(pieces: object) -> None:
    with pytest.raises(SettingsError, match=r"'Thing'.*pieces"):
        parse_structure(entry(pieces=pieces), origin="here")


def test_a_structure_without_a_code_is_an_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match=r"'Thing'.*type"):
        parse_structure({"name": "Thing"}, origin="here")


CODE = {"value": "40388003", "meaning": "Implant"}
UNFIT_TEXTS = ["", " Thing", "Thing ", "a\\b", "a\nb", "a\tb", "Größe", "肝臓", 5, None]
"""What a text of DICOM cannot hold in every character set, or not as it stands."""


@pytest.mark.parametrize("name", [*UNFIT_TEXTS, "n" * 65])
def test_names_that_not_every_character_set_holds_are_refused(name: object) -> None:
    with pytest.raises(SettingsError, match=r"name (is a text of 1 to 64 characters|holds ASCII characters)") as caught:
        parse_structure(entry(name=name), origin="here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alias", [*UNFIT_TEXTS[1:], "n" * 17])
def test_unfit_aliases_are_refused(alias: object) -> None:
    with pytest.raises(SettingsError, match=r"alias (is a text of 0 to 16 characters|holds ASCII characters)"):
        parse_structure(entry(alias=alias), origin="here")


@pytest.mark.parametrize("role", ["type", "category", "laterality", "modifier", "region"])
@pytest.mark.parametrize(("part", "most"), [("value", 16), ("meaning", 64), ("scheme", 16)])
def test_unfit_codes_are_refused(role: str, part: str, most: int) -> None:
    for unfit in (*UNFIT_TEXTS, "1" * (most + 1)):
        with pytest.raises(SettingsError, match=f"{role}: {part} (is a text of 1 to {most}|holds ASCII characters)"):
            parse_structure(entry(**{role: {**CODE, part: unfit}}), origin="here")


@pytest.mark.parametrize("code", ["Implant", 5, {}, {"value": "1"}, {**CODE, "version": "2"}])
def test_what_is_no_code_is_refused(code: object) -> None:
    with pytest.raises(SettingsError, match="type is a code"):
        parse_structure(entry(type=code), origin="here")


@pytest.mark.parametrize("interpreted_type", ["organ", "SOMETHING", "ORGAN ", 5, None])
def test_interpreted_types_are_the_defined_terms(interpreted_type: object) -> None:
    with pytest.raises(SettingsError, match="interpreted_type is one of EXTERNAL, PTV"):
        parse_structure(entry(interpreted_type=interpreted_type), origin="here")


@pytest.mark.parametrize("interpreted_type", ["", "PTV", "BRACHY_CHNL_SHLD"])
def test_every_defined_term_is_taken(interpreted_type: str) -> None:
    structure = parse_structure(entry(interpreted_type=interpreted_type), origin="here")
    assert structure.interpreted_type == interpreted_type


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        ({"value": "999", "meaning": "Middle"}, "laterality is one of 7771000"),
        ({"value": "7771000", "meaning": "Left", "scheme": "SRT"}, "got 7771000 of SRT"),
        ({"value": "7771000", "meaning": "Right"}, "7771000 means Left, got 'Right'"),
    ],
)
def test_sides_are_of_their_context_group_and_mean_what_they_say(side: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_structure(entry(laterality=side), origin="here")


def test_a_side_is_no_modifier() -> None:
    with pytest.raises(SettingsError, match="is a side; give it as laterality"):
        parse_structure(entry(modifier={"value": "7771000", "meaning": "Left"}), origin="here")


def test_the_lateralities_are_those_of_the_standard() -> None:
    assert all(SIDES in contexts_of(Code(value, meaning)) for value, meaning in LATERALITIES.items())
