from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.results.plausibility import Finding, examine
from tests.phantoms import PhantomSpec, build, geometry_of, spec_for
from tests.results.sources import EVERY, labels_of, phantom

AXIAL = PhantomSpec(slices=20, rows=60, columns=60, row_spacing=5.0, column_spacing=5.0, slice_spacing=10.0)
"""200 x 300 x 300 mm; a voxel has 0.25 ml."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
INSIDE: Box = ((5, 15), (20, 40), (20, 40))
"""1000 ml, as a liver, away from every border."""
RIGHT: Box = ((5, 10), (20, 32), (10, 20))
LEFT: Box = ((5, 10), (20, 32), (40, 50))
"""150 ml each, as kidneys, on either side of the patient."""


def labelled(geometry: Geometry, **boxes: Box | list[Box]) -> LabelVolume:
    """A label volume of boxes: name of the structure = where it is."""
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    for label, places in enumerate(boxes.values(), start=1):
        for k, j, i in places if isinstance(places, list) else [places]:
            labels[slice(*k), slice(*j), slice(*i)] = label
    structures = {label: load_anatomy()[name] for label, name in enumerate(boxes, start=1)}
    return LabelVolume(labels, geometry, structures)


def axial(**boxes: Box | list[Box]) -> LabelVolume:
    return labelled(geometry_of(AXIAL), **boxes)


def of_severity(label_volume: LabelVolume, severity: str) -> list[Finding]:
    return [finding for finding in examine(label_volume) if finding.severity == severity]


def notes(label_volume: LabelVolume) -> list[str]:
    return [finding.text for finding in of_severity(label_volume, "note")]


def warnings(label_volume: LabelVolume) -> list[str]:
    return [finding.text for finding in of_severity(label_volume, "warning")]


def test_a_plausible_structure_inside_the_images_has_no_findings() -> None:
    assert examine(axial(Liver=INSIDE)) == ()


def test_a_structure_without_voxels_has_no_findings() -> None:
    assert examine(axial(Liver=INSIDE, Spleen=[])) == ()


def test_a_label_volume_without_structures_has_no_findings() -> None:
    assert examine(axial()) == ()


@pytest.mark.parametrize(
    ("box", "place"),
    [
        (((0, 10), (20, 40), (20, 40)), "inferior end slice"),
        (((10, 20), (20, 40), (20, 40)), "superior end slice"),
        (((5, 15), (0, 20), (20, 40)), "anterior edge"),
        (((5, 15), (40, 60), (20, 40)), "posterior edge"),
        (((5, 15), (20, 40), (0, 20)), "right edge"),
        (((5, 15), (20, 40), (40, 60)), "left edge"),
    ],
)
def test_a_border_is_named_by_the_patients_direction(box: Box, place: str) -> None:
    assert notes(axial(Liver=box)) == [f"Partly in the field of view: reaches the {place}."]


@pytest.mark.parametrize(("orientation", "place"), [("sagittal", "left"), ("coronal", "anterior")])
def test_the_first_slice_of_other_orientations_is_named_by_theirs(orientation: str, place: str) -> None:
    geometry = geometry_of(replace(AXIAL, orientation=orientation))
    text = f"Partly in the field of view: reaches the {place} end slice."
    assert notes(labelled(geometry, Liver=((0, 10), (20, 40), (20, 40)))) == [text]


def test_a_prone_series_keeps_the_patients_directions() -> None:
    prone = geometry_of(replace(AXIAL, flip_rows=True, flip_columns=True))
    assert "posterior edge" in notes(labelled(prone, Liver=((5, 15), (0, 20), (20, 40))))[0]


def test_several_borders_are_listed_in_one_note() -> None:
    text = "Partly in the field of view: reaches the inferior end slice, superior end slice and left edge."
    assert notes(axial(Liver=((0, 20), (20, 40), (40, 60)))) == [text]


def test_everything_in_a_single_slice_is_partly_in_the_field_of_view() -> None:
    single = geometry_of(replace(AXIAL, slices=1))
    text = "Partly in the field of view: reaches the two faces of the only slice."
    assert notes(labelled(single, Liver=((0, 1), (20, 40), (20, 40)))) == [text]


def test_the_bodys_outline_is_always_cut_and_not_noted() -> None:
    assert examine(axial(External=((0, 20), (0, 60), (0, 60)))) == ()


def test_a_volume_above_the_largest_is_a_warning() -> None:
    text = "Volume 1000 ml is unusually large; expected in an adult: 40 to 800 ml."
    assert warnings(axial(Kidney_L=INSIDE)) == [text]


def test_a_volume_below_the_smallest_is_a_warning() -> None:
    text = "Volume 100 ml is unusually small; expected in an adult: 500 to 4000 ml."
    assert warnings(axial(Liver=((5, 9), (20, 30), (20, 30)))) == [text]


def test_a_small_part_of_a_structure_that_the_images_cut_is_no_warning() -> None:
    assert warnings(axial(Liver=((0, 4), (20, 30), (20, 30)))) == []


def test_a_volume_far_above_the_largest_is_held() -> None:
    held = of_severity(axial(Gallbladder=INSIDE), "hold")
    text = "Volume 1000 ml is nothing anatomical; expected in an adult: 2 to 250 ml."
    assert held == [Finding(1, "Gallbladder", "hold", text)]


def test_a_held_volume_is_not_warned_of_too() -> None:
    assert warnings(axial(Gallbladder=INSIDE)) == []


def test_volumes_follow_uneven_slices() -> None:
    spec = replace(AXIAL, positions=tuple(float(x) for x in np.cumsum([1.0] * 10 + [30.0] * 10)))
    thin = labelled(geometry_of(spec), Liver=((1, 9), (20, 40), (20, 40)))
    assert warnings(thin) == ["Volume 80 ml is unusually small; expected in an adult: 500 to 4000 ml."]


def test_a_structure_of_unknown_limits_has_no_findings_of_volume() -> None:
    known = axial(Gallbladder=INSIDE)
    unknown = replace(known, structures={1: replace(known.structures[1], volume_ml=None)})
    assert examine(unknown) == ()


def test_more_pieces_than_expected_are_a_warning() -> None:
    pieces = axial(Kidney_L=[((5, 8), (20, 30), (20, 30)), ((12, 15), (20, 30), (20, 30))])
    assert warnings(pieces) == ["Lies in 2 separate pieces; at most 1 expected."]


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    assert warnings(axial(Kidney_L=[((5, 8), (20, 30), (20, 30)), ((8, 11), (30, 40), (30, 40))])) == []


def test_specks_below_a_hundredth_of_the_structure_are_not_counted() -> None:
    assert warnings(axial(Kidney_L=[LEFT, ((15, 16), (20, 21), (20, 21))])) == []


def test_specks_below_a_tenth_of_a_millilitre_are_not_counted() -> None:
    fine = geometry_of(PhantomSpec(slices=20, rows=60, columns=60, row_spacing=1, column_spacing=1, slice_spacing=1))
    ligament = labelled(fine, Lig_ACL=[((2, 10), (20, 30), (20, 30)), ((15, 18), (20, 25), (20, 25))])
    assert warnings(ligament) == []


def test_any_number_of_pieces_is_right_where_none_is_expected() -> None:
    vertebrae = [((k, k + 1), (20, 40), (20, 40)) for k in range(2, 18, 2)]
    assert warnings(axial(Spine=vertebrae)) == []


def test_a_pair_on_its_sides_is_not_held() -> None:
    assert of_severity(axial(Kidney_L=LEFT, Kidney_R=RIGHT), "hold") == []


def test_both_of_an_exchanged_pair_are_held() -> None:
    text = "Left and right are exchanged: the centre of Kidney_L lies 150 mm to the right of Kidney_R."
    held = of_severity(axial(Kidney_L=RIGHT, Kidney_R=LEFT), "hold")
    assert held == [Finding(1, "Kidney_L", "hold", text), Finding(2, "Kidney_R", "hold", text)]


def test_sides_are_the_patients_not_the_images() -> None:
    mirrored_images = geometry_of(replace(AXIAL, flip_rows=True))
    assert of_severity(labelled(mirrored_images, Kidney_L=RIGHT, Kidney_R=LEFT), "hold") == []


def test_a_speck_does_not_exchange_a_pair() -> None:
    assert of_severity(axial(Kidney_L=((5, 6), (20, 21), (10, 12)), Kidney_R=LEFT), "hold") == []


def test_a_liver_left_of_the_spleen_is_a_warning_for_both() -> None:
    text = "Situs: the centre of Spleen lies 200 mm to the right of Liver. A rare variant, or mirrored."
    liver: Box = ((5, 15), (20, 40), (40, 60))
    assert [text, text] == [
        t for t in warnings(axial(Liver=liver, Spleen=((5, 10), (20, 40), (0, 20)))) if "Situs" in t
    ]


def test_a_mirrored_volume_is_held_for_its_situs_too() -> None:
    mirrored = axial(
        Liver=((5, 15), (35, 55), (38, 58)), Spleen=((5, 10), (40, 50), (2, 12)), Kidney_L=RIGHT, Kidney_R=LEFT
    )
    assert {finding.name for finding in of_severity(mirrored, "hold") if "Situs" in finding.text} == {"Liver", "Spleen"}


def test_overlays_are_examined_too() -> None:
    overlay = axial(Gallbladder=INSIDE)
    overlay = LabelVolume(overlay.labels * 9, overlay.geometry, {9: overlay.structures[1]})
    assert [finding.label for finding in examine(replace(axial(Liver=INSIDE), overlays=(overlay,)))] == [9]


def test_findings_come_by_label_and_gravity() -> None:
    findings = examine(axial(Kidney_L=RIGHT, Kidney_R=LEFT, Gallbladder=((0, 20), (42, 58), (22, 38))))
    assert [(finding.label, finding.severity) for finding in findings] == [
        (1, "hold"),
        (2, "hold"),
        (3, "hold"),
        (3, "note"),
    ]


def test_texts_have_at_most_two_hundred_characters() -> None:
    names = [f"{'Very' * 15}_{side}" for side in "LR"]
    exchanged = axial(Kidney_L=((0, 20), (0, 60), (0, 25)), Kidney_R=((0, 20), (0, 60), (35, 60)))
    structures = {
        label: replace(exchanged.structures[label], name=names[2 - label], volume_ml=(0.0001, 0.25)) for label in (1, 2)
    }
    findings = examine(replace(exchanged, structures=structures))
    assert {finding.severity for finding in findings} == {"hold", "note"}
    assert max(len(finding.text) for finding in findings) <= 200


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("anatomy", ["torso", "knee"])
def test_no_true_label_volume_of_a_phantom_is_held(modality: str, anatomy: str) -> None:
    assert of_severity(labels_of(build(spec_for(modality, anatomy))), "hold") == []


@pytest.mark.parametrize("name", EVERY)
def test_no_series_that_results_are_tried_on_is_held(name: str) -> None:
    assert of_severity(labels_of(phantom(name)), "hold") == []


def test_a_mirrored_torso_is_held_for_every_pair() -> None:
    true = labels_of(build(spec_for("CT", "torso")))
    mirrored = replace(true, labels=true.labels[:, :, ::-1])
    paired = {structure.name for structure in true.structures.values() if structure.name[-2:] in ("_L", "_R")}
    assert {finding.name for finding in of_severity(mirrored, "hold")} == {*paired, "Liver", "Spleen"}
