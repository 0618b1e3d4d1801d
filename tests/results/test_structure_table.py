from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import SettingsError, UsageError
from dicom_node.results.structure_table import StructureFile, StructureTable, load_structure_table

OWN_CODE = 'type = { value = "40388003", meaning = "Implant" }\n'


def load(text: str, folder: Path) -> StructureTable:
    (folder / "S.toml").write_text(text, encoding="utf-8")
    return load_structure_table(folder / "S.toml")


def test_names_of_the_anatomy_are_enough(tmp_path: Path) -> None:
    table = load('[[structure]]\nlabel = 3\nname = "Liver"\n', tmp_path)
    assert table.structures == {3: load_anatomy()["Liver"]}
    assert table.algorithm_type == "AUTOMATIC"


def test_other_structures_bring_their_own_code_and_color(tmp_path: Path) -> None:
    table = load(
        """
        [[structure]]
        label = 1
        name = "Implant"
        type = { value = "40388003", meaning = "Implant" }
        category = { value = "260787004", meaning = "Physical object" }
        laterality = { value = "7771000", meaning = "Left" }
        color = [1, 2, 3]
        """,
        tmp_path,
    )
    structure = table.structures[1]
    assert (structure.type.value, structure.type.scheme, structure.color) == ("40388003", "SCT", (1, 2, 3))
    assert structure.laterality is not None


def test_a_color_is_found_where_none_is_given(tmp_path: Path) -> None:
    text = '[[structure]]\nlabel = 1\nname = "Implant"\ntype = { value = "40388003", meaning = "Implant" }\n'
    first, second = load(text, tmp_path).structures[1], load(text, tmp_path).structures[1]
    assert first.color == second.color
    assert first.category.meaning == "Anatomical Structure"


def test_the_algorithm_may_be_named(tmp_path: Path) -> None:
    text = '[[structure]]\nlabel = 1\nname = "Liver"\n[algorithm]\nname = "Net"\nversion = "2"\ntype = "MANUAL"\n'
    table = load(text, tmp_path)
    assert (table.algorithm, table.version, table.algorithm_type) == ("Net", "2", "MANUAL")


def test_structures_may_have_files_of_their_own(tmp_path: Path) -> None:
    text = """
        [[structure]]
        name = "Liver"
        mask = "liver.nii.gz"
        [[structure]]
        label = 1
        name = "Spleen"
        [[structure]]
        name = "Heart"
        probability = "maps/heart.nrrd"
        [[structure]]
        label = 2
        name = "Stomach"
        mask = "/elsewhere/stomach.nii"
        """
    table = load(text, tmp_path)
    names = {label: structure.name for label, structure in table.structures.items()}
    assert names == {3: "Liver", 1: "Spleen", 4: "Heart", 2: "Stomach"}
    assert table.files == {
        3: StructureFile(tmp_path / "liver.nii.gz", "mask"),
        4: StructureFile(tmp_path / "maps" / "heart.nrrd", "probability"),
        2: StructureFile(Path("/elsewhere/stomach.nii"), "mask"),
    }


def test_files_may_lie_in_another_folder_than_the_table(tmp_path: Path) -> None:
    (tmp_path / "S.toml").write_text('[[structure]]\nname = "Liver"\nmask = "liver.nii.gz"\n', encoding="utf-8")
    table = load_structure_table(tmp_path / "S.toml", tmp_path / "masks")
    assert table.files[1].path == tmp_path / "masks" / "liver.nii.gz"


def test_a_structure_with_its_own_code_may_have_a_file(tmp_path: Path) -> None:
    text = '[[structure]]\nname = "Implant"\nmask = "i.nii"\ntype = { value = "40388003", meaning = "Implant" }\n'
    table = load(text, tmp_path)
    assert table.structures[1].type.meaning == "Implant"
    assert table.files[1].kind == "mask"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[[structure]]\nname = "Liver"\nmask = "a.nii"\nprobability = "b.nii"\n', "a mask and a probability"),
        ('[[structure]]\nname = "Liver"\nmask = 3\n', "mask is the name of a file, got 3"),
        ('[[structure]]\nname = "Liver"\nprobability = " "\n', "probability is the name of a file"),
        ('[[structure]]\nlabel = 0\nname = "Liver"\nmask = "a.nii"\n', "label is a whole number"),
        ("", r"no \[\[structure\]\]"),
        ("not toml", "not valid TOML"),
        ('[[structure]]\nlabel = 1\nname = "Nothing"\n', "'Nothing' is not in anatomy.toml"),
        ('[[structure]]\nlabel = 0\nname = "Liver"\n', "label is a whole number"),
        ('[[structure]]\nlabel = true\nname = "Liver"\n', "label is a whole number"),
        ('[[structure]]\nname = "Liver"\n', "got None"),
        ("[[structure]]\nlabel = 1\n", "name is a text"),
        ('[[structure]]\nlabel = 1\nname = "Liver"\ncolour = [1, 2, 3]\n', 'unknown key "colour"'),
        ('[[structures]]\nlabel = 1\nname = "Liver"\n', 'unknown key "structures"'),
        ('[[structure]]\nlabel = 1\nname = "Liver"\n[[structure]]\nlabel = 1\nname = "Spleen"\n', r"label 1 .* twice"),
        (
            '[[structure]]\nlabel = 1\nname = "Liver"\n[[structure]]\nlabel = 2\nname = "Liver"\n',
            "'Liver' is there twice",
        ),
        ('[[structure]]\nlabel = 1\nname = "Liver"\n[algorithm]\ntype = "MAGIC"\n', "got 'MAGIC'"),
        (f'[[structure]]\nlabel = 1\nname = "a\\\\nb"\n{OWN_CODE}', "name holds ASCII characters"),
        (f'[[structure]]\nlabel = 1\nname = "{"n" * 65}"\n{OWN_CODE}', "name is a text of 1 to 64"),
        ('[[structure]]\nlabel = 1\nname = "A"\ntype = "Liver"\n', "'A': type is a code"),
        (f'[[structure]]\nlabel = 1\nname = "A"\n{OWN_CODE}interpreted_type = "organ"\n', "interpreted_type is one of"),
        (
            (
                '[[structure]]\nlabel = 1\nname = "External"\n[[structure]]\nlabel = 2\nname = "Skin"\n'
                f'{OWN_CODE}interpreted_type = "EXTERNAL"\n'
            ),
            "one body outline .* got External, Skin",
        ),
        ("structure = 5\n", r"expected \[\[structure\]\] tables"),
        ("structure = [5]\n", r"no \[\[structure\]\]"),
        ("algorithm = 5\n", r"at most one \[algorithm\]"),
    ],
)
def test_mistakes_are_named(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=reason):
        load(text, tmp_path)


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_structure_table(tmp_path / "absent.toml")


@pytest.mark.parametrize("key", ["name", "version"])
@pytest.mark.parametrize("value", ['"a\\\\b"', '"a\\nb"', '"Nétz"', '" a"', f'"{"n" * 65}"', "true", "[1]"])
def test_unfit_names_of_algorithms_are_refused(key: str, value: str, tmp_path: Path) -> None:
    text = f'[[structure]]\nlabel = 1\nname = "Liver"\n[algorithm]\n{key} = {value}\n'
    with pytest.raises(SettingsError, match=rf"\[algorithm\] {key} (is a text of 0 to 64|holds ASCII characters)"):
        load(text, tmp_path)


def test_a_version_may_be_a_number(tmp_path: Path) -> None:
    text = '[[structure]]\nlabel = 1\nname = "Liver"\n[algorithm]\nversion = 2.0\n'
    assert load(text, tmp_path).version == "2.0"
