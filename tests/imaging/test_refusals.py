"""What is not one volume is told apart and refused with a reason that names the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.errors import InputRefused, SeriesRefused
from dicom_node.imaging import series
from dicom_node.imaging.series import assemble, discover_series, load_series, prove_series
from tests.imaging.editing import SMALL, SMALL_MR, edited, new_instance, prove, refusal, together, write_all
from tests.phantoms import build, write


def only(index: int, **attributes: object) -> Callable[[int, Dataset], None]:
    """Set attributes on one image; None deletes."""

    def edit(k: int, dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            if k == index and value is None:
                delattr(dataset, keyword)
            elif k == index:
                setattr(dataset, keyword, value)

    return edit


def test_no_image() -> None:
    with pytest.raises(SeriesRefused) as caught:
        prove_series([])
    assert caught.value.kind == "empty"


@pytest.mark.parametrize(
    ("attributes", "kind", "said"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer", "1 of 6 images (image 3) is a localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "projection", "image 3"),
        ({"ConversionType": "DF"}, "secondary-capture", "image 3"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary-capture", "image 3"),
        ({"Modality": "PT"}, "modality", "PT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, "sop-class", "Positron Emission Tomography"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour", "RGB"),
        ({"BitsAllocated": 12}, "pixel-format", "image 3"),
        ({"PatientID": "SOMEBODY"}, "mixed-patients", "image 3"),
        ({"StudyInstanceUID": "1.2.3"}, "mixed-studies", "image 3"),
        ({"FrameOfReferenceUID": "1.2.3"}, "mixed-frames-of-reference", "image 3"),
        ({"FrameOfReferenceUID": None}, "mixed-frames-of-reference", "image 3"),
        ({"ImagePositionPatient": None}, "no-geometry", "image 3 has no valid ImagePositionPatient"),
        ({"ImageOrientationPatient": None}, "no-geometry", "ImageOrientationPatient"),
        ({"PixelSpacing": None}, "no-geometry", "PixelSpacing"),
        ({"PixelSpacing": [0, 1]}, "no-geometry", "0 x 1 mm"),
        ({"ImagePositionPatient": [1, 2]}, "no-geometry", "ImagePositionPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.5, 0]}, "no-geometry", "unit vectors"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.6, 0.8, 0]}, "no-geometry", "right angle"),
        ({"NumberOfFrames": 4}, "no-geometry", "4 frames"),
        ({"PixelSpacing": [1.6, 1.0]}, "mixed-grids", "1.5 x 1 and 1.6 x 1 mm"),
        ({"Columns": 11}, "mixed-grids", "16 x 12 and 16 x 11 pixels"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "mixed-orientation", "image 3 coronal"),
        ({"Rows": 0}, "no-geometry", "image 3 has 0 rows"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_one_image_that_does_not_belong(tmp_path: Path, attributes: dict, kind: str, said: str) -> None:
    refused = refusal(edited(SMALL, tmp_path, only(2, **attributes)))
    assert refused.kind == kind
    assert said in refused.message
    assert "SOMEBODY" not in refused.message
    assert refused.uids["SeriesInstanceUID"]


def test_every_image_a_localizer(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    refused = refusal(edited(SMALL, tmp_path, edit))
    assert refused.kind == "localizer"
    assert "All 6 images are localizers" in refused.message


def test_crossing_stacks_are_recognised_as_a_localizer(tmp_path: Path) -> None:
    specs = [replace(SMALL_MR, orientation=name) for name in ("axial", "sagittal", "coronal")]
    refused = refusal(write_all(together(*specs), tmp_path))
    assert refused.kind == "mixed-orientation"
    for word in ("transverse", "sagittal", "coronal", "localizer"):
        assert word in refused.message


def test_several_patients_are_not_told_by_name(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        dataset.PatientName = f"Somebody^Number{k}"
        dataset.PatientID = f"ID-{k}"

    message = refusal(edited(SMALL, tmp_path, edit)).message
    assert "Somebody" not in message
    assert "ID-" not in message


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("EchoTime", ["11", "80"], "echo time (EchoTime: 11, 80)"),
        ("EchoNumbers", ["1", "2"], "echo number"),
        ("DiffusionBValue", [0.0, 800.0], "diffusion b-value (DiffusionBValue: 0.0, 800.0)"),
        ("DiffusionGradientOrientation", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "diffusion direction"),
        ("TemporalPositionIdentifier", ["1", "2"], "time point"),
        ("TriggerTime", ["0", "40"], "trigger time"),
        ("InversionTime", ["100", "900"], "inversion time"),
        ("ImageType", [["ORIGINAL", "PRIMARY", "W"], ["ORIGINAL", "PRIMARY", "F"]], "ORIGINAL/PRIMARY/W"),
        ("AcquisitionNumber", ["1", "2"], "acquisition (AcquisitionNumber: 1, 2)"),
        ("AcquisitionTime", ["030405", "030505"], "acquisition time"),
        ("ConvolutionKernel", ["B30", "B70"], "reconstruction kernel"),
    ],
)
def test_repeated_positions_say_what_differs(tmp_path: Path, keyword: str, values: list, said: str) -> None:
    def edit(index: int, dataset: Dataset) -> None:
        setattr(dataset, keyword, values[index])

    refused = refusal(write_all(together(SMALL_MR, SMALL_MR, edit=edit), tmp_path))
    assert refused.kind == "repeated-position"
    assert "There are 2 images at every position" in refused.message
    assert said in refused.message


@pytest.mark.parametrize(
    ("group", "creator", "element", "values"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, [("IS", "50"), ("IS", "800")]),
        (0x2001, "Philips Imaging DD 001", 0x03, [("FL", 50.0), ("FL", 800.0)]),
        (0x0043, "GEMS_PARM_01", 0x39, [("IS", ["1000000050", "0"]), ("IS", ["1000000800", "0"])]),
    ],
    ids=["Siemens", "Philips", "GE"],
)
def test_private_b_values_are_understood(tmp_path: Path, group: int, creator: str, element: int, values: list) -> None:
    def edit(index: int, dataset: Dataset) -> None:
        dataset.private_block(group, creator, create=True).add_new(element, *values[index])

    assert (
        "b-value (DiffusionBValue: 50, 800)"
        in refusal(write_all(together(SMALL_MR, SMALL_MR, edit=edit), tmp_path)).message
    )


def test_monitoring_scan(tmp_path: Path) -> None:
    def edit(index: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = str(index + 3)

    refused = refusal(write_all(together(*[replace(SMALL, slices=1)] * 4, edit=edit), tmp_path))
    assert refused.kind == "repeated-position"
    assert "bolus tracking" in refused.message


def test_one_position_twice(tmp_path: Path) -> None:
    datasets = build(SMALL).datasets
    extra = build(SMALL).datasets[3]
    new_instance(extra)
    extra.InstanceNumber = "9"
    refused = refusal(write_all([*datasets, extra], tmp_path))
    assert refused.kind == "repeated-position"
    assert "2 images at 1 of 6 positions, for example images 4, 9" in refused.message


def test_stacks_beside_each_other(tmp_path: Path) -> None:
    def edit(index: int, dataset: Dataset) -> None:
        position = [float(value) for value in dataset.ImagePositionPatient]
        dataset.ImagePositionPatient = [position[0] + 120 * index, *position[1:]]

    refused = refusal(write_all(together(SMALL_MR, SMALL_MR, edit=edit), tmp_path))
    assert refused.kind == "repeated-position"
    assert "120 mm apart" in refused.message


def test_half_of_each_of_two_echoes(tmp_path: Path) -> None:
    """No position comes twice, yet the lower half has another contrast."""

    def edit(k: int, dataset: Dataset) -> None:
        dataset.EchoTime = "11" if k < 3 else "80"

    refused = refusal(edited(SMALL_MR, tmp_path, edit))
    assert refused.kind == "mixed-contrasts"
    assert "images 1, 2, 3" in refused.message


def test_echo_times_that_differ_by_microseconds_are_one_contrast(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        dataset.EchoTime = f"{11.047 + 0.001 * k:.3f}"

    assert len(prove(edited(SMALL_MR, tmp_path, edit)).planes) == 6


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
@pytest.mark.parametrize("tilt", [0.0, 16.0])
def test_a_missing_slice(tmp_path: Path, missing: int, tilt: float) -> None:
    datasets = build(replace(SMALL, tilt_degrees=tilt)).datasets
    del datasets[missing]
    refused = refusal(write_all(datasets, tmp_path))
    assert refused.kind == "gap"
    assert f"1 slice is missing: between image {missing} and image {missing + 2} lie 6 mm instead of 3 mm" in (
        refused.message
    )


def test_slices_shifted_within_their_plane(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        position = [float(value) for value in dataset.ImagePositionPatient]
        dataset.ImagePositionPatient = [position[0] + (7 if k == 2 else 0), *position[1:]]

    refused = refusal(edited(SMALL, tmp_path, edit))
    assert refused.kind == "shifted-slices"
    assert "image 3 is shifted by 7.0 mm" in refused.message


def test_a_stack_that_leans_more_than_any_gantry(tmp_path: Path) -> None:
    write(replace(SMALL, tilt_degrees=60.0), tmp_path)
    assert refusal(tmp_path).kind == "shifted-slices"


def test_same_image_twice_counts_once(tmp_path: Path) -> None:
    write_all(build(SMALL).datasets, tmp_path / "once")
    write_all(build(SMALL).datasets, tmp_path / "again")
    assert load_series([tmp_path]).voxels.shape == (6, 16, 12)


def test_same_image_written_by_another_program_counts_once(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.file_meta.ImplementationVersionName = "OTHER"

    write_all(build(SMALL).datasets, tmp_path / "once")
    edited(SMALL, tmp_path / "again", edit)
    assert load_series([tmp_path]).voxels.shape == (6, 16, 12)


def test_different_images_under_one_uid(tmp_path: Path) -> None:
    def edit(k: int, dataset: Dataset) -> None:
        if k == 4:
            dataset.PixelData = bytes(len(dataset.PixelData))

    write_all(build(SMALL).datasets, tmp_path / "once")
    edited(SMALL, tmp_path / "again", edit)
    refused = refusal(tmp_path)
    assert refused.kind == "duplicate-instance"
    assert "image 5" in refused.message


def test_absent_frame_of_reference_is_not_invented(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        del dataset.FrameOfReferenceUID

    assert prove(edited(SMALL, tmp_path, edit)).frame_of_reference_uid is None


def test_single_slice_without_thickness(tmp_path: Path) -> None:
    folder = edited(replace(SMALL, slices=1), tmp_path, only(0, SliceThickness=None))
    assert refusal(folder).kind == "no-geometry"


def test_lossy_compression_is_remarked_and_kept(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = "12"

    plan = prove(edited(SMALL, tmp_path, edit))
    assert "lossy compressed" in plan.remarks
    assert assemble(plan).header.LossyImageCompressionRatio == 12


def test_tilt_and_uneven_spacing_are_remarked(tmp_path: Path) -> None:
    spec = replace(SMALL, tilt_degrees=12.0, positions=(0, 2, 4, 6, 11, 16, 21))
    write(spec, tmp_path)
    assert prove(tmp_path).remarks == ("gantry tilt 12.0 degrees", "uneven slice spacing, 2 to 5 mm")


def test_pixels_cut_short(tmp_path: Path) -> None:
    plan = prove(edited(SMALL, tmp_path, only(3, PixelData=b"\0\0" * 50)))
    with pytest.raises(SeriesRefused) as caught:
        assemble(plan)
    assert caught.value.kind == "pixel-data"
    assert "image 4" in caught.value.message


def test_file_that_vanished_before_decoding(tmp_path: Path) -> None:
    plan = prove(write_all(build(SMALL).datasets, tmp_path))
    plan.planes[2].source.path.unlink()
    with pytest.raises(SeriesRefused) as caught:
        assemble(plan)
    assert caught.value.kind == "pixel-data"


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    def edit(_: int, dataset: Dataset) -> None:
        dataset.Rows = dataset.Columns = 60000

    refused = refusal(edited(SMALL, tmp_path, edit))
    assert refused.kind == "too-large"


def test_transfer_syntax_without_decoder(tmp_path: Path) -> None:
    folder = write_all(build(SMALL).datasets, tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0"))
    assert refusal(folder).kind == "transfer-syntax"


def test_two_series_in_one_folder_are_named(tmp_path: Path) -> None:
    write(SMALL, tmp_path / "ct")
    write(SMALL_MR, tmp_path / "mr")
    with pytest.raises(InputRefused) as caught:
        load_series([tmp_path])
    assert 'series 1 CT "Analytic phantom" (6 files); series 2 MR' in caught.value.message
    assert [group.instances[0].modality for group in discover_series([tmp_path])] == ["CT", "MR"]


def test_limit_is_checked_against_the_whole_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MAX_VOXELS", 6 * 16 * 12 - 1)
    write(SMALL, tmp_path)
    assert refusal(tmp_path).kind == "too-large"
