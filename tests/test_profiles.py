from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.errors import SettingsError
from dicom_node.profiles import Profile, load_profiles, parse_profile, profile_named, require_profiles
from dicom_node.settings import load_settings, parse_settings

LIVER, LONG = load_anatomy()["Liver"], "a name of more than sixteen characters"


def test_the_default_profile_is_what_is_written_in_the_package() -> None:
    assert load_profiles()["default"] == Profile()
    assert Profile().identity == ""


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"colour": 1}, "colour: Extra inputs"),
        ({"seg": "SURFACE"}, "seg"),
        ({"name_length": 65}, "name_length"),
        ({"contour_points": 3}, "contour_points"),
        ({"contours": "round"}, "contours"),
        ({"results": []}, "results"),
        ({"structures": ["Livre"]}, "no structure Livre"),
        ({"names": {"Livre": "x"}}, "no structure Livre"),
        ({"names": {"Liver": LONG}}, "longer than name_length = 16"),
        ({"names": {"Liver": "organ", "Spleen": "ORGAN"}}, "two structures have one name"),
        ({"names": {"Liver": "a\\b"}}, "names.Liver"),
        ({"names": {"Liver": "Läber"}}, "names.Liver"),
        ({"names": {"Liver": "Leber "}}, "names.Liver"),
        ({"names": {"Liver": " Leber"}}, "names.Liver"),
        ({"names": {"Liver": " "}}, "names.Liver"),
        ({"names": {"Kidney_L": "kidney_r"}}, 'Kidney_L = "kidney_r" is the name of Kidney_R'),
        ({"names": {"Kidney_L": "Kidney_R", "Kidney_R": "Kidney_L"}}, "is the name of Kidney_R"),
        ({"results": ["SEG", "SEG"]}, "results: something is listed twice"),
        ({"structures": ["Liver", "Liver"]}, "structures: something is listed twice"),
    ],
)
def test_a_wrong_profile_is_an_error_that_says_what_is_wrong(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=r"profile 'clinic'.*" + reason):
        parse_profile(table, "clinic")


def test_a_name_of_one_letter_and_a_structures_own_name_are_names() -> None:
    assert parse_profile({"names": {"Liver": "L", "Spleen": "SPLEEN"}}, "clinic").names["Liver"] == "L"


def test_objects_of_profiles_that_differ_have_identities_that_differ() -> None:
    profiles = [Profile(), Profile(seg="LABELMAP"), Profile(contours="smooth"), Profile(names={"Liver": "Hepar"})]
    assert len({profile.identity for profile in profiles}) == len(profiles)


def test_profiles_of_one_content_are_one() -> None:
    assert (
        Profile(names={"Liver": "a", "Spleen": "b"}).identity == Profile(names={"Spleen": "b", "Liver": "a"}).identity
    )


def test_a_label_map_profile_makes_a_binary_segmentation_beside_it() -> None:
    asked, fallback = Profile(seg="LABELMAP", name_length=64).variants
    assert (asked.seg, asked.results) == ("LABELMAP", ("SEG", "RTSTRUCT"))
    assert (fallback.seg, fallback.results, fallback.name_length) == ("BINARY", ("SEG",), 64)


def test_only_wanted_structures_are_sent_and_always_the_outline_that_was_asked_for() -> None:
    profile = Profile(structures=("Spleen",))
    anatomy = load_anatomy()
    assert [profile.wants(anatomy[name]) for name in ("Liver", "Spleen", "External")] == [False, True, True]


def test_a_site_writes_its_own_profiles_into_node_toml(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        '[profile.tps]\nname_length = 64\ncontours = "smooth"\nnames = { Liver = "Leber" }\n'
        '[[destination]]\nname = "tps"\nae_title = "TPS"\nhost = "127.0.0.1"\nport = 104\nprofile = "tps"\n'
    )
    settings = load_settings(path)
    require_profiles(settings)
    profile = profile_named(settings, "tps", "the test")
    assert (profile.contours, profile.segment_label(LIVER)) == ("smooth", "Leber")


def test_a_sites_profile_takes_the_place_of_the_packaged_one() -> None:
    settings = parse_settings({"profile": {"default": {"external": False}}}, origin="test")
    assert not profile_named(settings, "default", "the test").external


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (
            {"destination": [{"name": "d", "ae_title": "D", "host": "h", "port": 1, "profile": "tsp"}]},
            '"d": no profile',
        ),
        ({"peer": [{"ae_title": "P", "address": "10.0.0.0/8", "profile": "tsp"}]}, '"P": no profile "tsp"'),
        (
            {
                "profile": {"tps": {"seg": "x"}},
                "destination": [{"name": "d", "ae_title": "D", "host": "h", "port": 1, "profile": "tps"}],
            },
            "profile 'tps': seg",
        ),
    ],
)
def test_profiles_are_checked_at_start(tables: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        require_profiles(parse_settings(tables, origin="test"))


def test_a_site_profile_that_nobody_uses_is_checked_too() -> None:
    with pytest.raises(SettingsError, match="profile 'spare'"):
        require_profiles(parse_settings({"profile": {"spare": {"seg": "x"}}}, origin="test"))
