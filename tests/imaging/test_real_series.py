"""Real scanners' series: whole volumes against an independent reader, hard cases against what they are known to be."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from dicom_node.errors import InputRefused, SeriesRefused
from dicom_node.imaging.decoding import FrameDecoder
from dicom_node.imaging.pixels import AIR_HU
from dicom_node.imaging.series import (
    assemble,
    discover_series,
    find_instances,
    load_series,
    prove_series,
    read_instance,
)
from dicom_node.imaging.volume import Volume

VOLUMES = {
    # folder: shape, (row, column, slice spacing) in mm, tilt in degrees, frame of reference known
    "hard_d2n_compressed_j2k": ((4, 256, 256), (1.0, 1.0, 1.0), 0.0, False),
    "hard_d2n_compressed_jpeg": ((4, 256, 256), (1.0, 1.0, 1.0), 0.0, False),
    "hard_d2n_compressed_jpegls": ((4, 256, 256), (1.0, 1.0, 1.0), 0.0, False),
    "hard_d2n_compressed_rle": ((4, 256, 256), (1.0, 1.0, 1.0), 0.0, False),
    "hard_d2n_gantrytilting": ((4, 512, 512), (0.41797, 0.41797, 4.85148), 14.0, False),
    "hard_d2n_hitachi_implicit": ((4, 64, 64), (2.34375, 2.34375, 4.0), 0.0, False),
    "hard_d2n_philips_enhanced": ((8, 256, 256), (1.0, 1.0, 1.2), 0.0, False),
    "hard_philips_tilt_phantom": ((54, 512, 512), (0.48242, 0.48242, 2.37081), 18.5, True),
}
REFUSALS = {
    # folder: kind, what the message must say
    "hard_d2n_notavolume": ("repeated-position", "images 23, 24, 25, 26"),
    "hard_d2n_sliceincrement": ("gap", "between image 9 and image 10 lie 10 mm instead of 5 mm"),
    "hard_d2n_sliceorientation": ("mixed-orientation", "localizer"),
    "hard_philips_localizer_and_SC/S1000": ("localizer", "image 1"),
    "hard_philips_localizer_and_SC/S4010": ("secondary-capture", "All 5 images"),
}
EMRI = "hard_emri_variants"
EMRI_COPIES = [
    *("emri_small.dcm", "emri_small_RLE.dcm", "emri_small_big_endian.dcm"),
    *("emri_small_jpeg_2k_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm"),
]


def simpleitk_voxels(volume: Volume) -> np.ndarray:
    """The same files, in the same order, through GDCM's own reader and rescale."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(source.path) for source in volume.sources])
    return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()))


def ten_frames(path: Path) -> np.ndarray:
    frames = list(range(1, 11))
    with FrameDecoder() as decoder:
        return np.stack(list(decoder.frames(read_instance(path), frames, [f"frame {number}" for number in frames])))


@pytest.mark.parametrize("folder", VOLUMES)
def test_volume_has_the_measured_shape_and_place(test_data: Path, folder: str) -> None:
    shape, spacing, tilt, has_frame_of_reference = VOLUMES[folder]
    volume = load_series([test_data / folder])
    geometry = volume.geometry
    assert volume.voxels.shape == shape
    assert (geometry.row_spacing, geometry.column_spacing, geometry.slice_spacing) == pytest.approx(spacing, abs=1e-4)
    assert geometry.tilt_degrees == pytest.approx(tilt, abs=0.05)
    assert geometry.is_tilted == (tilt > 0)
    assert (volume.frame_of_reference_uid is not None) == has_frame_of_reference


@pytest.mark.parametrize("folder", [name for name in VOLUMES if name != "hard_d2n_philips_enhanced"])
def test_voxels_agree_with_simpleitk(test_data: Path, folder: str) -> None:
    volume = load_series([test_data / folder])
    assert np.array_equal(volume.voxels, simpleitk_voxels(volume))


def test_philips_enhanced_agrees_with_simpleitk_after_rescale(test_data: Path) -> None:
    volume = load_series([test_data / "hard_d2n_philips_enhanced"])
    oracle = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(volume.sources[0].path)))
    order = [(source.frame_number or 0) - 1 for source in volume.sources]
    assert np.allclose(volume.voxels, oracle[order], rtol=1e-5)


@pytest.mark.parametrize("folder", REFUSALS)
def test_refusal_says_what_it_is(test_data: Path, folder: str) -> None:
    kind, said = REFUSALS[folder]
    with pytest.raises(SeriesRefused) as caught:
        load_series([test_data / folder])
    assert caught.value.kind == kind
    assert said in caught.value.message
    assert caught.value.exit_code == 3


def test_every_hard_folder_is_accounted_for(test_data: Path) -> None:
    known = {name.split("/")[0] for name in (*VOLUMES, *REFUSALS, EMRI)}
    assert {folder.name for folder in test_data.glob("hard_*")} == known


def test_four_compressions_of_one_series_decode_alike(test_data: Path) -> None:
    names = ["hard_d2n_compressed_" + kind for kind in ("j2k", "jpeg", "jpegls", "rle")]
    volumes = [load_series([test_data / name]) for name in names]
    for other in volumes[1:]:
        assert np.array_equal(other.voxels, volumes[0].voxels)
        assert other.geometry.same_grid(volumes[0].geometry)


def test_encodings_of_one_multi_frame_object_decode_alike(test_data: Path) -> None:
    """These carry no functional groups, hence no geometry: their pixels agree, yet none is a volume."""
    decoded = [ten_frames(test_data / EMRI / name) for name in EMRI_COPIES]
    for other in decoded[1:]:
        assert np.array_equal(other, decoded[0])


@pytest.mark.parametrize("name", EMRI_COPIES)
def test_multi_frame_object_without_functional_groups(test_data: Path, name: str) -> None:
    with pytest.raises(SeriesRefused) as caught:
        load_series([test_data / EMRI / name])
    assert caught.value.kind == "no-geometry"
    assert "describes 0 of its 10 frames" in caught.value.message


def test_file_cut_short(test_data: Path) -> None:
    path = test_data / EMRI / "emri_small_jpeg_2k_lossless_too_short.dcm"
    with pytest.raises(InputRefused):
        load_series([path])
    with pytest.raises(SeriesRefused) as caught:
        ten_frames(path)
    assert caught.value.kind == "pixel-data"


def test_whole_emri_folder(test_data: Path) -> None:
    """Screenshots, one slice with overlays, and one object under one UID in six encodings."""
    outcomes = {}
    for group in discover_series([test_data / EMRI]):
        try:
            outcomes[group.instances[0].modality, len(group.instances)] = assemble(
                prove_series(group.instances)
            ).voxels.shape
        except SeriesRefused as refused:
            outcomes[group.instances[0].modality, len(group.instances)] = refused.kind
    assert outcomes == {("OT", 2): "secondary-capture", ("MR", 1): (1, 484, 484), ("MR", 6): "duplicate-instance"}


def test_overlays_do_not_change_the_pixels(test_data: Path) -> None:
    volume = load_series([test_data / EMRI / "MR-SIEMENS-DICOM-WithOverlays.dcm"])
    assert np.array_equal(volume.voxels, simpleitk_voxels(volume))


def test_directory_files_are_passed_over(test_data: Path) -> None:
    passed = find_instances([test_data / "hard_philips_tilt_phantom"]).passed_over
    assert [(found.path.name, found.reason) for found in passed] == [("DIRFILE", "a DICOMDIR index, not an image")]


def test_results_beside_a_series_do_not_disturb_it(test_data: Path) -> None:
    volume = load_series([test_data / "ct_liver_3slice_with_SEG"])
    oracle = simpleitk_voxels(volume)
    padding = volume.voxels != oracle
    assert volume.voxels.shape == (3, 512, 512)
    assert (volume.voxels[padding] == AIR_HU).all()
    assert (oracle[padding] == -2000 - 1024).all()


def test_single_slice_of_a_radiotherapy_ct(test_data: Path) -> None:
    volume = load_series([test_data / "rtstruct_dicompyler"])
    assert volume.voxels.shape == (1, 512, 512)
    assert volume.geometry.slice_spacing == 3.0


@pytest.mark.slow
def test_lidc_thorax(test_data: Path, tmp_path: Path) -> None:
    with tarfile.open(test_data / "ct_thorax_LIDC-IDRI-0003" / "LIDC-IDRI-0003.tar.xz") as archive:
        archive.extractall(tmp_path, members=[member for member in archive if member.isfile()])
    volume = load_series([tmp_path])
    geometry = volume.geometry
    assert volume.voxels.shape == (140, 512, 512)
    assert geometry.is_regular
    assert (geometry.row_spacing, geometry.slice_spacing) == pytest.approx((0.820312, 2.5))
    assert volume.voxels.dtype == np.int16
    assert np.array_equal(volume.voxels, simpleitk_voxels(volume))


def test_prostate_adc(test_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(test_data / "mr_prostate_QIN_ADC" / "pm-example-dcm.zip") as archive:
        archive.extractall(tmp_path)
    volume = load_series([tmp_path])
    assert (volume.modality, volume.voxels.shape) == ("MR", (20, 256, 256))
    assert volume.geometry.slice_spacing == pytest.approx(3.0, abs=1e-3)
    assert np.array_equal(volume.voxels, simpleitk_voxels(volume))
