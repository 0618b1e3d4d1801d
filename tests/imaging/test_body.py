"""The body's outline against phantoms whose own body is known, and on real series."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image, ImageDraw

from dicom_node.imaging.body import body_outline
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.series import load_series
from dicom_node.imaging.volume import Volume
from tests.phantoms import Phantom, PhantomSpec, build, spec_for
from tests.phantoms.build import _slice_points
from tests.phantoms.knee import knee_parts
from tests.phantoms.solids import paint
from tests.phantoms.torso import torso_parts

AIR, FOAM, CARBON, FLESH = -1000, -930, -150, 40


def dice(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first.astype(bool), second.astype(bool)
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def volume_of(voxels: np.ndarray, geometry: Geometry, modality: str) -> Volume:
    return Volume(voxels, geometry, modality, None, (), pydicom.Dataset())


def phantom_volume(phantom: Phantom) -> Volume:
    return volume_of(phantom.voxels, phantom.geometry, phantom.spec.modality)


def true_body(phantom: Phantom) -> np.ndarray:
    """Everything that the phantom painted, gas and lungs included."""
    parts = torso_parts() if phantom.spec.anatomy == "torso" else knee_parts()
    planes = [paint(parts, *_slice_points(phantom.geometry, k))[1] > 0 for k in range(phantom.geometry.shape[0])]
    return np.stack(planes)


def ellipse(geometry: Geometry, centre: tuple[float, float], axes: tuple[float, float]) -> np.ndarray:
    """(rows, columns) an ellipse; centre and half axes in mm as (down, across) from the slice's middle."""
    j = (np.arange(geometry.rows)[:, None] - geometry.rows / 2) * geometry.row_spacing - centre[0]
    i = (np.arange(geometry.columns)[None, :] - geometry.columns / 2) * geometry.column_spacing - centre[1]
    return (j / axes[0]) ** 2 + (i / axes[1]) ** 2 <= 1


def flat_geometry(slices: int, size: int, pixel: float, spacing: float) -> Geometry:
    origins = np.zeros((slices, 3))
    origins[:, 2] = np.arange(slices) * spacing
    return Geometry(origins, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), pixel, pixel, size, size, spacing)


@pytest.fixture(scope="module")
def torso() -> Phantom:
    return build(spec_for("CT", "torso", slices=44, size=256))


@pytest.fixture(scope="module")
def torso_body(torso: Phantom) -> np.ndarray:
    return true_body(torso)


def below_the_back(torso_body: np.ndarray) -> int:
    """The first row under the lowest part of the body."""
    return int(np.flatnonzero(torso_body.any(axis=(0, 2)))[-1]) + 1


def test_the_torso_with_its_lungs_and_bowel_gas(torso: Phantom, torso_body: np.ndarray) -> None:
    outline = body_outline(phantom_volume(torso))
    assert outline.dtype == np.uint8
    assert dice(outline, torso_body) > 0.9995
    assert outline[torso_body].mean() > 0.9999


def test_a_hollow_table_under_the_back_is_left_out(torso: Phantom, torso_body: np.ndarray) -> None:
    """A carbon shell around foam, as couch tops are, that touches the back along many slices."""
    voxels = torso.voxels.copy()
    top = below_the_back(torso_body)
    thickness = round(40 / torso.geometry.row_spacing)
    shell = max(1, round(2 / torso.geometry.row_spacing))
    table = voxels[:, top : top + thickness]
    table[...] = CARBON
    table[:, shell:-shell, shell:-shell] = FOAM
    outline = body_outline(replace(phantom_volume(torso), voxels=voxels))
    assert dice(outline, torso_body) > 0.99
    assert outline[:, top + shell :].sum() < 0.001 * torso_body.sum()


def test_a_solid_slab_that_does_not_touch_is_left_out(torso: Phantom, torso_body: np.ndarray) -> None:
    voxels = torso.voxels.copy()
    top = below_the_back(torso_body) + round(8 / torso.geometry.row_spacing)
    voxels[:, top : top + round(15 / torso.geometry.row_spacing)] = FLESH
    outline = body_outline(replace(phantom_volume(torso), voxels=voxels))
    assert dice(outline, torso_body) > 0.995
    assert not outline[:, top:].any()


@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_outside_the_reconstruction_circle_is_outside(
    padding: int, torso: Phantom, torso_body: np.ndarray
) -> None:
    """The circle cuts the flanks off."""
    circle = ellipse(torso.geometry, (0, 0), (140, 140))
    outline = body_outline(replace(phantom_volume(torso), voxels=np.where(circle, torso.voxels, np.int16(padding))))
    assert not outline[:, ~circle].any()
    assert dice(outline, torso_body & circle) > 0.99


def test_a_field_of_view_that_cuts_through_both_lungs(torso: Phantom, torso_body: np.ndarray) -> None:
    """As for the heart: nothing but lung may lie along a whole side of the image."""
    middle, half = 128, round(62 / torso.geometry.row_spacing)
    inner = slice(middle - half, middle + half)
    lungs = np.isin(torso.labels, (10, 11)).any(axis=(1, 2))
    cut = replace(torso.geometry, origins=torso.geometry.origins[lungs], rows=2 * half, columns=2 * half)
    outline = body_outline(volume_of(torso.voxels[lungs][:, inner, inner], cut, "CT"))
    truth = torso_body[lungs][:, inner, inner]
    assert np.isin(torso.labels[lungs][:, inner, middle - half], (10, 11)).mean() > 0.2
    assert dice(outline, truth) > 0.99


def test_arms_beside_the_body_are_kept_and_blankets_are_not() -> None:
    geometry = flat_geometry(slices=40, size=256, pixel=2.0, spacing=4.0)
    body = ellipse(geometry, (0, 0), (90, 130))
    arms = ellipse(geometry, (10, 190), (35, 30)) | ellipse(geometry, (10, -190), (35, 30))
    lungs = ellipse(geometry, (0, 55), (50, 35)) | ellipse(geometry, (0, -55), (50, 35))
    blanket = ellipse(geometry, (0, 0), (106, 232)) & ~ellipse(geometry, (0, 0), (103, 229))
    plane = np.full((256, 256), AIR, dtype=np.int16)
    plane[blanket] = -300
    plane[body | arms] = FLESH
    plane[lungs] = -850
    outline = body_outline(volume_of(np.repeat(plane[None], 40, axis=0), geometry, "CT"))
    assert dice(outline[20], body | arms) > 0.995
    assert not outline[20][blanket & ~body & ~arms].any()


def test_two_legs_stay_two() -> None:
    geometry = flat_geometry(slices=20, size=200, pixel=2.0, spacing=5.0)
    left, right = ellipse(geometry, (0, 75), (60, 60)), ellipse(geometry, (0, -75), (60, 60))
    plane = np.where(left | right, FLESH, AIR).astype(np.int16)
    outline = body_outline(volume_of(np.repeat(plane[None], 20, axis=0), geometry, "CT"))
    assert dice(outline[0], left | right) > 0.995


def test_the_thin_wall_of_a_small_chest_holds() -> None:
    """9 mm of wall around lungs that fill nearly all of a slice."""
    geometry = flat_geometry(slices=30, size=256, pixel=0.8, spacing=2.0)
    body = ellipse(geometry, (0, 0), (60, 75))
    spine = ellipse(geometry, (30, 0), (30, 22))
    plane = np.where(body, FLESH, AIR).astype(np.int16)
    plane[ellipse(geometry, (0, 0), (51, 66)) & ~spine] = -850
    outline = body_outline(volume_of(np.repeat(plane[None], 30, axis=0), geometry, "CT"))
    assert dice(outline[15], body) > 0.995


@pytest.mark.parametrize(("slices", "size"), [(32, 192), (24, 384)])
def test_a_knee_in_mr_that_leaves_the_image_above_and_below(slices: int, size: int) -> None:
    phantom = build(spec_for("MR", "knee", slices=slices, size=size))
    assert dice(body_outline(phantom_volume(phantom)), true_body(phantom)) > 0.985


def test_a_torso_in_mr_under_a_surface_coil() -> None:
    """The far side has a sixth of the near side's signal."""
    phantom = build(spec_for("MR", "torso", slices=30, size=160))
    shading = np.geomspace(1.0, 1 / 6, 160)[:, None]
    voxels = np.hypot(phantom.voxels * shading, np.random.default_rng(3).normal(0, 9, phantom.voxels.shape))
    outline = body_outline(volume_of(voxels.astype(np.float32), phantom.geometry, "MR"))
    assert dice(outline, true_body(phantom)) > 0.98


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "turn",
    [
        {"orientation": "coronal"},
        {"orientation": "sagittal"},
        {"orientation": "oblique"},
        {"tilt_degrees": 18.0},
        {"flip_rows": True},
        {"positions": (-90.0, -85.0, -80.0, -60.0, -40.0, -20.0, -10.0, 0.0, 2.0, 4.0)},
    ],
)
def test_any_orientation_and_spacing(modality: str, turn: dict[str, object]) -> None:
    spec = PhantomSpec(
        modality=modality,
        anatomy="torso",
        slices=24,
        rows=160,
        columns=130,
        row_spacing=3.0,
        column_spacing=2.7,
        slice_spacing=9.0,
        **turn,
    )
    phantom = build(spec)
    assert dice(body_outline(phantom_volume(phantom)), true_body(phantom)) > 0.98


@pytest.mark.parametrize(
    ("modality", "value", "expected"),
    [("CT", -1000, 0), ("CT", -3024, 0), ("CT", 40, 1), ("MR", 0, 0), ("MR", 300, 1)],
)
def test_nothing_and_everything(modality: str, value: int, expected: int) -> None:
    geometry = flat_geometry(slices=3, size=64, pixel=3.0, spacing=5.0)
    outline = body_outline(volume_of(np.full((3, 64, 64), value, dtype=np.int16), geometry, modality))
    assert (outline == expected).all()


def test_noise_alone_is_no_body_in_ct() -> None:
    geometry = flat_geometry(slices=3, size=128, pixel=3.0, spacing=5.0)
    noise = np.random.default_rng(0).normal(-1000, 120, (3, 128, 128)).astype(np.int16)
    assert not body_outline(volume_of(noise, geometry, "CT")).any()


def test_one_slice_and_missing_values() -> None:
    geometry = flat_geometry(slices=1, size=128, pixel=3.0, spacing=5.0)
    body = ellipse(geometry, (0, 0), (90, 120))
    voxels = np.where(body, 300, 5).astype(np.float32)[None]
    voxels[0, 60:64, 60:64] = np.nan
    assert dice(body_outline(volume_of(voxels, geometry, "MR"))[0], body) > 0.99


def test_voxels_on_disk_are_read_as_they_are(torso: Phantom, tmp_path: Path) -> None:
    np.save(tmp_path / "voxels.npy", torso.voxels)
    mapped = np.load(tmp_path / "voxels.npy", mmap_mode="r")
    volume = phantom_volume(torso)
    assert np.array_equal(body_outline(replace(volume, voxels=mapped)), body_outline(volume))


def test_the_body_contour_of_a_planning_system(test_data: Path) -> None:
    """A neck with one arm up, on a head rest; the truth is the BODY contour that its clinic used."""
    folder = test_data / "rtstruct_dicompyler"
    volume = load_series([folder / "ct.0.dcm"])
    structures = pydicom.dcmread(folder / "rtss.dcm")
    (number,) = (item.ROINumber for item in structures.StructureSetROISequence if item.ROIName == "BODY")
    truth = np.zeros(volume.voxels.shape[1:], dtype=bool)
    for roi in structures.ROIContourSequence:
        if roi.ReferencedROINumber == number:
            for contour in roi.ContourSequence:
                points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
                if abs(points[0, 2] - volume.geometry.origins[0, 2]) < 0.5:
                    image = Image.new("1", truth.shape[::-1])
                    pixels = [(i, j) for _, j, i in volume.geometry.patient_to_index(points)]
                    ImageDraw.Draw(image).polygon(pixels, fill=1, outline=1)
                    truth ^= np.asarray(image)
    assert truth.sum() > 40000
    assert dice(body_outline(volume)[0], truth) > 0.98


def test_a_whole_thorax_with_its_table(test_data: Path, tmp_path: Path) -> None:
    """The table's top lies below row 440 in every slice, the patient's back above row 450."""
    with tarfile.open(test_data / "ct_thorax_LIDC-IDRI-0003" / "LIDC-IDRI-0003.tar.xz") as archive:
        archive.extractall(tmp_path, members=[member for member in archive if member.isfile()])
    volume = load_series(sorted(tmp_path.rglob("*.dcm")))
    outline = body_outline(volume)
    dense = volume.voxels > -500
    assert dense[:, 460:].any(axis=(1, 2)).all()
    assert not outline[:, 460:].any()
    assert outline[:, 256, 256].all()
    tissue = (volume.voxels > -200) & (np.arange(512)[:, None] < 420) & (np.arange(512)[:, None] > 250)
    assert (outline[tissue] == 1).mean() > 0.995


def test_the_skin_of_a_head_in_mr(test_data: Path) -> None:
    image = SimpleITK.ReadImage(str(test_data / "mr_brain1_pyradiomics" / "brain1_image.nrrd"))
    voxels = SimpleITK.GetArrayFromImage(image)
    geometry = flat_geometry(len(voxels), voxels.shape[1], image.GetSpacing()[0], image.GetSpacing()[2])
    outline = body_outline(volume_of(voxels.astype(np.int16), geometry, "MR"))
    lesion = SimpleITK.GetArrayFromImage(
        SimpleITK.ReadImage(str(test_data / "mr_brain1_pyradiomics" / "brain1_label.nrrd"))
    )
    assert outline[lesion > 0].all()
    assert 0.5 < outline.mean() < 0.7
    assert voxels[outline == 0].mean() < 0.1 * voxels[outline == 1].mean()


@pytest.mark.parametrize("name", ["t1w", "t2"])
def test_a_piece_of_tissue_without_air_is_all_body(test_data: Path, name: str) -> None:
    """Five centimetres around the cervical cord: dark bone is no air."""
    image = SimpleITK.ReadImage(str(test_data / "mr_cspine_SCT" / f"{name}.nii.gz"))
    voxels = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    column, row, spacing = image.GetSpacing()
    origins = np.outer(np.arange(len(voxels)) * spacing, [0, 0, 1.0])
    x, y = np.eye(3)[:2]
    geometry = Geometry(origins, x, y, row, column, voxels.shape[1], voxels.shape[2], spacing)
    assert body_outline(volume_of(voxels, geometry, "MR")).all()
