"""Harmonised maps: by name, in LPS, with plausible sizes, sides right, nothing missing taught as background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from models.composition import take, warp_positions
from models.femur_maps import CARTILAGE_MM, read_femur
from models.label_map_sources import SOURCES, Source, load_maps
from models.label_maps import LabelMap, axial_hull, outside_distance, paint, read_colour_table, resample_nearest
from models.plan import read_plan, without_maps
from models.tissues import TORSO_STRUCTURES, UNSETTLED, Tissue, structure_label
from tests.models.label_map_phantom import ellipsoid, trunk_map


def test_colour_table_gives_labels_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.ctbl").write_text("# a comment\n3 liver 1 2 3 255\n51 right_kidney 1 2 3 255\n")
    assert read_colour_table(tmp_path / "t.ctbl") == {"liver": 3, "right_kidney": 51}


def test_source_name_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="right_kidney"):
        paint(
            np.zeros((1, 1, 1), np.int16), {"liver": 3}, {"right_kidney": (Tissue.KIDNEY_CORTEX, "Kidney_R")}, "torso"
        )


def test_resampling_keeps_the_physical_size() -> None:
    box = np.zeros((10, 12, 12), np.int16)
    box[2:8, 3:9, 3:9] = 7
    fine = resample_nearest(box, (3.0, 1.5, 1.5), 1.0)
    assert fine.shape == (30, 18, 18)
    assert int((fine == 7).sum()) == pytest.approx(6 * 6 * 6 * 3 * 1.5 * 1.5, rel=0.15)


def test_hull_closes_what_is_hollow() -> None:
    shape = (9, 30, 30)
    ring = ellipsoid(shape, (4, 15, 15), (np.inf, 10, 12)) & ~ellipsoid(shape, (4, 15, 15), (np.inf, 8, 10))
    hull = axial_hull(ring, 1.0)
    assert bool(hull[4, 15, 15])
    assert not bool(hull[4, 2, 2])


def test_distance_outside_is_in_mm() -> None:
    core = np.zeros((1, 9, 9), bool)
    core[0, 4, 4] = True
    assert outside_distance(core, 2.0)[0, 4, 7] == 6


def test_warp_of_a_map_onto_itself_is_the_identity() -> None:
    source = trunk_map()
    centres = {name: centre for name, (centre, _) in source.centres.items()}
    positions = warp_positions(centres, source.outside == 0, source.spacing, source, ("Liver", "Kidney_L", "Spine"))
    label, _, covered = take(source, positions)
    assert float((label == source.label)[covered].mean()) > 0.98


def test_centres_are_those_of_the_labels() -> None:
    centre, radius = trunk_map().centres["Liver"]
    assert centre == pytest.approx([13, 26, 22], abs=1.0)
    assert 6 < radius < 11


def test_training_is_possible_without_the_share_alike_maps() -> None:
    plan = read_plan(Path(__file__).parents[2] / "models/cards/finetuning.toml")
    share_alike = [name for name, source in SOURCES.items() if "share-alike" in source.attribution]
    permissive = without_maps(plan, share_alike)
    named = {name for anatomy in permissive.anatomies.values() for name in anatomy.maps}
    assert named == set(SOURCES) - set(share_alike)


@pytest.mark.slow
def test_knee_without_cartilage_does_not_teach_its_absence(test_data: Path) -> None:
    knee = load_maps(test_data, ["bodyparts3d_knee"])["bodyparts3d_knee"]
    assert {"Cartilage_Femur", "Meniscus_Med", "Lig_ACL"} <= knee.unsettled
    near = [
        ndimage.distance_transform_edt(knee.label != structure_label("knee", bone)) * knee.spacing < 4
        for bone in ("Femur", "Tibia")
    ]
    gap = near[0] & near[1] & (knee.label <= 0)
    assert gap.any()
    assert (knee.label[gap] == UNSETTLED).all()


def test_kept_map_is_read_anew_when_the_reading_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(_: Path) -> LabelMap:
        reads.append(1)
        return trunk_map()

    monkeypatch.setitem(SOURCES, "trunk", Source("trunk.nii.gz", read))
    (tmp_path / "trunk.nii.gz").write_bytes(b"1")
    for _ in range(2):
        load_maps(tmp_path, ["trunk"], cache=tmp_path / "kept")
    assert len(reads) == 1
    (tmp_path / "trunk.nii.gz").write_bytes(b"12")
    load_maps(tmp_path, ["trunk"], cache=tmp_path / "kept")
    assert len(reads) == 2


def test_unknown_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of the label maps"):
        load_maps(tmp_path, ["visible_dog"])


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labelmap_spl_abdominal"):
        load_maps(tmp_path, ["spl_abdominal"])


@pytest.fixture(scope="module")
def abdomen(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelMap:
    cache = tmp_path_factory.mktemp("maps")
    first = load_maps(test_data, ["spl_abdominal"], cache=cache)["spl_abdominal"]
    again = load_maps(test_data, ["spl_abdominal"], cache=cache)["spl_abdominal"]
    np.testing.assert_array_equal(first.label, again.label)
    assert (again.unsettled, again.spacing, again.licence) == (first.unsettled, first.spacing, first.licence)
    return again


def _millilitres(source: LabelMap, name: str) -> float:
    return float((source.label == structure_label("torso", name)).sum()) * source.spacing**3 / 1000


@pytest.mark.slow
def test_abdominal_atlas_has_organs_of_human_size(abdomen: LabelMap) -> None:
    for name, low, high in (("Liver", 900, 2200), ("Kidney_L", 110, 260), ("Kidney_R", 110, 260), ("Spine", 400, 1200)):
        assert low < _millilitres(abdomen, name) < high, name


@pytest.mark.slow
def test_abdominal_atlas_is_turned_to_the_patients_axes(abdomen: LabelMap) -> None:
    centre = {name: place for name, (place, _) in abdomen.centres.items()}
    assert centre["Liver"][2] < centre["Spleen"][2]  # i to the left
    assert centre["Kidney_R"][2] < centre["Kidney_L"][2]
    assert centre["A_Aorta"][1] < centre["Spine"][1]  # j to posterior
    assert centre["Sacrum"][0] < centre["Liver"][0] < centre["Lung_R"][0]  # k to the head


@pytest.mark.slow
def test_what_the_abdominal_atlas_lacks_is_not_background_there(abdomen: LabelMap) -> None:
    present = {TORSO_STRUCTURES[label - 1] for label in np.unique(abdomen.label) if label > 0}
    assert {"Bladder", "Heart", "Femur_L", "Femur_R"}.isdisjoint(present)
    assert int((abdomen.label[:15] == UNSETTLED).sum()) > 1000  # where the bladder may begin


@pytest.mark.slow
def test_example_torso_is_turned_right_and_shows_its_own_ct(test_data: Path) -> None:
    torso = load_maps(test_data, ["totalsegmentator_torso"])["totalsegmentator_torso"]
    centre = {name: place for name, (place, _) in torso.centres.items()}
    assert centre["Liver"][2] < centre["Spleen"][2]  # i to the left
    assert centre["Kidney_R"][2] < centre["Kidney_L"][2]
    assert centre["A_Aorta"][1] < centre["Spine"][1]  # j to posterior
    assert centre["Bladder"][0] < centre["Liver"][0] < centre["Lung_R"][0]  # k to the head
    assert torso.image is not None
    liver, lung = (
        float(torso.image[torso.label == structure_label("torso", name)].mean()) for name in ("Liver", "Lung_R")
    )
    assert 20 < liver < 150
    assert lung < -300
    assert 900 < _millilitres(torso, "Liver") < 2200


@pytest.mark.slow
def test_femur_surface_is_a_left_knee_with_even_cartilage(test_data: Path) -> None:
    knee = load_maps(test_data, ["pymskt_femur_2"])["pymskt_femur_2"]
    centre = {name: place for name, (place, _) in knee.centres.items()}
    assert centre["Tibia"][0] < centre["Femur"][0]
    assert centre["Patella"][1] < centre["Femur"][1]  # j to posterior
    assert centre["Tibia"][2] < centre["Fibula"][2]  # the fibula of a left knee lies to the patient's left
    femur, cartilage = (knee.label == structure_label("knee", name) for name in ("Femur", "Cartilage_Femur"))
    away = ndimage.distance_transform_edt(~femur)[cartilage] * knee.spacing
    assert away.max() <= CARTILAGE_MM + 1e-6
    assert not (knee.tissue == Tissue.AIR).all((1, 2)).any()  # it ends where its flesh does
    assert 80 < float(femur.sum()) * knee.spacing**3 / 1000 < 350


def test_file_that_is_no_surface_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.vtk").write_text("<VTKFile/>")
    with pytest.raises(ValueError, match="legacy ASCII"):
        read_femur(tmp_path / "1.vtk", trunk_map())
