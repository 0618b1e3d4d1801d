"""The key image: contours on the borders, nothing mirrored, true sizes, no word about the patient; others open it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from dicom_node.anatomy import load_anatomy
from dicom_node.deliver.sender import send
from dicom_node.errors import InputRefused, SeriesRefused
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.series import load_series
from dicom_node.profiles import Profile
from dicom_node.results.key_image import encode_key_image
from dicom_node.results.key_image_layout import FOOT, MARGIN, Layout, PlacedPlane, lay_out
from dicom_node.results.object_file import read_object, to_bytes, write_object
from tests.judges import dcentvfy, dciodvfy
from tests.peers import CALLING_AE, orthanc, run_tool
from tests.phantoms import write
from tests.results.sources import EVERY, PROVENANCE, labels_of, phantom, volume_of, with_header

TEXT = (235, 235, 235)
ANISOTROPIC = "anisotropic"


@cache
def key_image(name: str) -> Dataset:
    """The key image of a phantom, decoded; not to be changed."""
    return read_object(to_bytes(encode_key_image(volume_of(phantom(name)), labels_of(phantom(name)), PROVENANCE)))


@cache
def picture(name: str) -> tuple[np.ndarray, Layout, LabelVolume]:
    """The decoded pixels, what is where, and the labels of a phantom."""
    labels = labels_of(phantom(name))
    return key_image(name).pixel_array, lay_out(labels, Profile()), labels


def panel(pixels: np.ndarray, placed: PlacedPlane) -> np.ndarray:
    plane = placed.plane
    return pixels[placed.row : placed.row + plane.rows, placed.column : placed.column + plane.columns]


def directions(placed: PlacedPlane) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the picture's columns and rows grow, and the normal: in patient coordinates, from the volume's own axes."""
    view, frame = placed.plane.view, placed.plane.frame
    across = {"axial": 0, "coronal": 0, "sagittal": 1}[view.name]
    down, sign = {"axial": (1, 1), "coronal": (2, -1), "sagittal": (2, -1)}[view.name]
    return frame[across], sign * frame[down], frame[3 - across - down]


def voxels_on(placed: PlacedPlane, labels: LabelVolume, label: int) -> np.ndarray:
    """(n, 3) patient_mm of a structure's voxels that a plane cuts."""
    _, _, normal = directions(placed)
    geometry = labels.geometry
    places = geometry.index_to_patient(np.argwhere(labels.mask(label)).astype(float))
    return places[np.abs(places @ normal - placed.plane.position) < thickness(labels, normal) / 2 - 1e-6]


def thickness(labels: LabelVolume, direction: np.ndarray) -> float:
    """mm of a voxel along one of the volume's directions."""
    geometry = labels.geometry
    spacings = (geometry.slice_spacing, geometry.row_spacing, geometry.column_spacing)
    axes = (geometry.normal, geometry.column_direction, geometry.row_direction)
    return next(spacing for spacing, axis in zip(spacings, axes, strict=True) if abs(axis @ direction) > 0.9)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in {"tilted", "uneven"}])
def test_contours_begin_and_end_where_the_voxels_do(name: str) -> None:
    """On all four sides, within a pixel: the picture's extents in mm, and those of the voxels that the plane cuts."""
    pixels, layout, labels = picture(name)
    compared = 0
    for placed in layout.planes:
        across, down, _ = directions(placed)
        plane, shown = placed.plane, panel(pixels, placed)
        for label, color in layout.colors.items():
            rows, columns = np.nonzero((shown == color).all(axis=2))
            voxels = voxels_on(placed, labels, label)
            assert (len(rows) > 0) == (len(voxels) > 0), (plane.name, label)
            if not len(rows):
                continue
            half = np.array([thickness(labels, across), thickness(labels, down)]) / 2
            places = np.stack([voxels @ across, voxels @ down], axis=1)
            drawn = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) * plane.spacing
            drawn += [plane.left, plane.top]
            expected = np.array([places.min(axis=0) - half, places.max(axis=0) + half])
            assert np.abs(drawn - expected).max() < 1.01 * plane.spacing, (plane.name, label)
            compared += 1
    assert compared >= 9


@pytest.mark.parametrize("name", EVERY)
def test_the_letters_say_where_the_patient_is(name: str) -> None:
    """Of two structures on a plane, the one that is further towards a letter in the patient is so in the picture."""
    pixels, layout, labels = picture(name)
    toward = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "H": (2, 1), "F": (2, -1)}
    compared = 0
    for placed in layout.planes:
        left, right, top, bottom = placed.plane.letters
        assert toward[left[0]] == (toward[right[0]][0], -toward[right[0]][1])
        assert toward[top[0]] == (toward[bottom[0]][0], -toward[bottom[0]][1])
        for letters, axis in ((right, 1), (bottom, 0)):
            across = np.zeros(3)
            across[toward[letters[0]][0]] = toward[letters[0]][1]
            seen = []
            for label, color in layout.colors.items():
                drawn = np.nonzero((panel(pixels, placed) == color).all(axis=2))[axis]
                if len(drawn) > 20:
                    seen.append((float(np.median(drawn)), label))
            for (one, first), (other, second) in pairwise(seen):
                apart = float((_centre(placed, labels, second) - _centre(placed, labels, first)) @ across)
                if abs(apart) > 12 and abs(other - one) > 30:
                    assert np.sign(apart) == np.sign(other - one), (placed.plane.name, letters)
                    compared += 1
    assert compared >= 4


def _centre(placed: PlacedPlane, labels: LabelVolume, label: int) -> np.ndarray:
    _, _, normal = directions(placed)
    places = labels.geometry.index_to_patient(np.argwhere(labels.mask(label)).astype(float))
    return places[np.argsort(np.abs(places @ normal - placed.plane.position))[:50]].mean(axis=0)


def test_planes_of_a_plain_patient_are_laid_out_as_radiologists_expect() -> None:
    letters = {placed.plane.name: placed.plane.letters for placed in picture("sagittal")[1].planes}
    assert letters == {
        "axial": ("R", "L", "A", "P"),
        "coronal": ("R", "L", "H", "F"),
        "sagittal": ("A", "P", "H", "F"),
    }


def test_turned_planes_are_named_so_and_have_letters_of_all_their_axes() -> None:
    planes = [placed.plane for placed in picture("oblique")[1].planes]
    assert {plane.name for plane in planes} == {"near axial", "near coronal", "near sagittal"}
    assert max(len(letters) for plane in planes for letters in plane.letters) > 1


@pytest.mark.parametrize("name", ["axial", ANISOTROPIC, "tilted"])
def test_the_scale_bar_is_as_long_as_it_says(name: str) -> None:
    pixels, layout, _ = picture(name)
    for placed in layout.planes:
        plane = placed.plane
        below = pixels[placed.row + plane.rows :][:FOOT, placed.column : placed.column + plane.columns + MARGIN]
        length = max(_run(line) for line in (below == TEXT).all(axis=2)) - 1
        (millimetres,) = [mm for mm in (100, 50, 20, 10) if abs(length * plane.spacing - mm) < plane.spacing]
        words = np.zeros((18, below.shape[1] - length - 8, 3), dtype=np.uint8)
        image = Image.fromarray(words)
        ImageDraw.Draw(image).text((0, 9), f"{millimetres} mm", TEXT, ImageFont.load_default(13), anchor="lm")
        assert np.array_equal(below[26 - 9 : 26 + 9, length + 8 :], np.asarray(image))


def _run(line: np.ndarray) -> int:
    """The longest stretch of true values."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    return int(max((ends[1::2] - ends[::2]), default=0))


def test_acquired_slices_are_shown_as_they_are() -> None:
    """In the plane of acquisition the grey values are a voxel's own where a pixel's centre is a voxel's."""
    pixels, layout, labels = picture("odd pixels")
    source = volume_of(phantom("odd pixels"))
    placed = next(one for one in layout.planes if one.plane.name == "axial")
    k = labels.geometry.patient_to_index(placed.plane.patient_mm())[:, 0]
    assert np.abs(k - np.rint(k[0])).max() < 1e-6
    shown = panel(pixels, placed)[..., 0].astype(float)
    voxels = source.voxels[round(k[0])].astype(float)
    sampled = np.array(Image.fromarray(voxels).resize(shown.shape[::-1], Image.Resampling.BILINEAR))
    expected = np.clip((sampled + 160) / 400 * 255, 0, 255)
    plain = (panel(pixels, placed)[..., 0] == panel(pixels, placed)[..., 1])[8:-8, 8:-8]
    assert np.abs(shown - expected)[8:-8, 8:-8][plain].mean() < 2.0


def test_planes_show_every_structure_where_three_are_enough() -> None:
    pixels, layout, _ = picture("axial")
    shown = [panel(pixels, placed).reshape(-1, 3) for placed in layout.planes]
    missing = [label for label, color in layout.colors.items() if not any((one == color).all(1).any() for one in shown)]
    assert missing == []
    assert len(layout.planes) <= 9


def test_a_structure_on_either_side_takes_two_sagittal_planes_and_one_of_the_others() -> None:
    source = phantom("axial")
    labels = np.zeros_like(source.labels)
    labels[6:18, 10:50, 4:16], labels[6:18, 10:50, 30:44] = 1, 2
    layout = lay_out(LabelVolume(labels, source.geometry, labels_of(source).structures), Profile())
    assert [placed.plane.name for placed in layout.planes] == ["axial", "coronal", "sagittal", "sagittal"]
    first, second = (source.geometry.patient_to_index(one.plane.patient_mm())[0, 2] for one in layout.planes[2:])
    assert (round(first), round(second)) in {(10, 36), (10, 37), (9, 37), (9, 36)}


def test_the_pixels_know_nothing_of_the_patient() -> None:
    volume, labels = volume_of(phantom("axial")), labels_of(phantom("axial"))
    other = with_header(
        volume, PatientName="Else^Somebody", PatientID="4711", AccessionNumber="9", StudyDate="19990101",
        StudyDescription="Secret", SeriesDescription="Secret",
    )  # fmt: skip
    first, second = key_image("axial"), encode_key_image(other, labels, PROVENANCE)
    assert first.PixelData == second.PixelData
    assert (second.BurnedInAnnotation, str(second.PatientName)) == ("NO", "Else^Somebody")


def test_what_was_burned_into_the_source_is_said() -> None:
    volume = with_header(volume_of(phantom("axial")), BurnedInAnnotation="YES", LossyImageCompression="01")
    dataset = encode_key_image(volume, labels_of(phantom("axial")), PROVENANCE)
    assert (dataset.BurnedInAnnotation, dataset.LossyImageCompression) == ("YES", "01")


def test_doing_it_twice_gives_the_same_bytes_and_another_profile_another_instance() -> None:
    volume, labels = volume_of(phantom("axial")), labels_of(phantom("axial"))
    again = to_bytes(encode_key_image(volume, labels, PROVENANCE))
    other = encode_key_image(volume, labels, PROVENANCE, Profile(results=("SC",), structures=("Liver",)))
    assert to_bytes(key_image("axial")) == again
    assert other.SOPInstanceUID != key_image("axial").SOPInstanceUID


def test_only_wanted_structures_are_drawn_under_the_names_of_the_site() -> None:
    layout = lay_out(labels_of(phantom("axial")), Profile(structures=("Liver",), names={"Liver": "Leber"}))
    assert [(entry.name, entry.color) for entry in layout.legend] == [("Leber", load_anatomy()["Liver"].color)]


def test_more_structures_than_there_is_room_for_are_counted() -> None:
    source = labels_of(phantom("axial"))
    structures = dict(enumerate(load_anatomy().values(), start=1))
    labels = np.zeros(source.labels.shape, dtype=np.uint8)
    labels[12, :, 10:20] = (np.arange(labels.shape[1]) % len(structures) + 1)[:, None]
    labels[12, : len(structures) - labels.shape[1], 30:40] = 0
    layout = lay_out(LabelVolume(labels, source.geometry, structures), Profile())
    assert layout.unlisted >= 0
    assert len(layout.legend) + layout.unlisted == len(layout.colors)
    assert layout.legend[-1].row + MARGIN < layout.rows


def test_one_slice_and_one_voxel_are_enough() -> None:
    source = phantom("axial")
    volume, labels = volume_of(source), labels_of(source)
    geometry = replace(source.geometry, origins=source.geometry.origins[5:6].copy())
    one = np.zeros((1, *source.labels.shape[1:]), dtype=np.uint8)
    one[0, 20, 30] = 1
    flat = replace(volume, voxels=volume.voxels[5:6], geometry=geometry, sources=volume.sources[5:6])
    dataset = encode_key_image(flat, LabelVolume(one, geometry, labels.structures), PROVENANCE)
    assert (dataset.pixel_array == labels.structures[1].color).all(axis=2).sum() > 20


def test_nothing_to_show_is_refused() -> None:
    labels = replace(labels_of(phantom("axial")), labels=np.zeros_like(phantom("axial").labels))
    with pytest.raises(InputRefused, match="no structure was found"):
        encode_key_image(volume_of(phantom("axial")), labels, PROVENANCE)


def test_a_key_image_is_never_segmented(tmp_path: Path) -> None:
    path = tmp_path / "key.sc.dcm"
    write_object(path, key_image("axial"))
    with pytest.raises(SeriesRefused) as refusal:
        load_series([path])
    assert refusal.value.kind == "secondary-capture"


@pytest.mark.peer
def test_dicom3tools_and_dcmtk_agree(tmp_path: Path) -> None:
    path, decoded = tmp_path / "key.sc.dcm", tmp_path / "key.ppm"
    dataset = key_image("axial")
    write_object(path, dataset)
    assert dciodvfy(path) == []
    assert dcentvfy([*write(EVERY["axial"], tmp_path / "series"), path]) == []
    assert run_tool("dcmj2pnm", path, decoded).returncode == 0
    assert np.array_equal(np.asarray(Image.open(decoded)), dataset.pixel_array)


@pytest.mark.peer
def test_orthanc_takes_it_and_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "key.sc.dcm"
    dataset = key_image("axial")
    write_object(path, dataset)
    with orthanc(tmp_path / "orthanc") as peer:
        (outcome,) = send(peer.destination, [path], CALLING_AE)
        (stored,) = peer.rest("GET", "/instances?expand")
        assert (outcome.status, stored["MainDicomTags"]["SOPInstanceUID"]) == (0, str(dataset.SOPInstanceUID))
