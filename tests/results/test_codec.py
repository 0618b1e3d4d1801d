from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.errors import InputRefused, UsageError
from dicom_node.imaging.label_file import read_label_file, write_label_file
from dicom_node.profiles import Profile
from dicom_node.results.codec import EncodedFiles, decode, encode
from tests.phantoms import PhantomSpec, build, write
from tests.results.sources import EVERY, REGULAR, phantom


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second)))


class Case:
    """A phantom series and its label map as files."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.phantom = phantom(name)
        write(EVERY[name], folder / "series")
        self.labels = folder / "labels.nii.gz"
        if self.phantom.geometry.is_evenly_spaced:
            write_label_file(self.labels, self.phantom.labels, self.phantom.geometry)
        self.table = folder / "S.toml"
        self.describe(self.phantom.names)

    def describe(self, names: dict[int, str]) -> None:
        tables = [f'[[structure]]\nlabel = {label}\nname = "{name}"\n' for label, name in names.items()]
        self.table.write_text("".join(tables), encoding="utf-8")

    def encode(self, **wishes: object) -> EncodedFiles:
        profile = Profile.model_validate({"external": False, **wishes})
        return encode([self.folder / "series"], self.labels, self.table, self.folder / "out", profile)

    def decode(self, path: Path) -> np.ndarray:
        output = self.folder / "decoded.nii.gz"
        decode(path, [self.folder / "series"], output)
        return read_label_file(output, self.phantom.geometry).labels


@pytest.mark.parametrize("name", REGULAR)
def test_encode_then_decode_returns_the_label_map(name: str, tmp_path: Path) -> None:
    case = Case(name, tmp_path)
    seg, rtstruct = case.encode().files
    assert np.array_equal(case.decode(seg), case.phantom.labels)
    decoded = case.decode(rtstruct)
    for label in case.phantom.names:
        assert dice(decoded == label, case.phantom.labels == label) >= 0.99


def test_files_are_named_by_their_kind(tmp_path: Path) -> None:
    encoded = Case("axial", tmp_path).encode()
    assert encoded.notes == []
    assert sorted((tmp_path / "out").iterdir()) == sorted(encoded.files)
    assert [path.name.split(".", 1)[1] for path in encoded.files] == ["seg.dcm", "rtstruct.dcm"]


def test_encoding_again_writes_the_same_objects(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    first = {path.name: path.read_bytes() for path in case.encode().files}
    assert {path.name: path.read_bytes() for path in case.encode().files} == first


def test_another_label_map_is_another_case(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    first = dcmread(case.encode().files[0]).SOPInstanceUID
    write_label_file(case.labels, np.roll(case.phantom.labels, 1, axis=2), case.phantom.geometry)
    assert dcmread(case.encode().files[0]).SOPInstanceUID != first


def test_a_tilted_series_gets_a_segmentation_and_a_reason(tmp_path: Path) -> None:
    case = Case("tilted", tmp_path)
    encoded = case.encode()
    assert [path.suffixes[0] for path in encoded.files] == [".seg"]
    assert encoded.notes[0].startswith("no RTSTRUCT: the slices are tilted by 15.0 degrees")
    assert np.array_equal(case.decode(encoded.files[0]), case.phantom.labels)


def test_a_profile_may_allow_contours_of_a_tilted_series(tmp_path: Path) -> None:
    case = Case("tilted", tmp_path)
    _, rtstruct = case.encode(irregular_contours=True).files
    assert np.array_equal(case.decode(rtstruct), case.phantom.labels)


def test_a_profile_may_ask_for_a_label_map_segmentation(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    seg, _ = case.encode(seg="LABELMAP").files
    assert dcmread(seg).SegmentationType == "LABELMAP"
    assert np.array_equal(case.decode(seg), case.phantom.labels)


def test_another_grid_is_resampled_and_said_so(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    fine = np.repeat(case.phantom.labels, 2, axis=0)
    spec = PhantomSpec(slices=2 * case.phantom.geometry.shape[0], slice_spacing=case.phantom.spec.slice_spacing / 2)
    write_label_file(case.labels, fine, build(spec).geometry)
    encoded = case.encode()
    assert "another grid" in encoded.notes[0]
    assert np.array_equal(case.decode(encoded.files[0]), case.phantom.labels)


def test_labels_that_the_table_leaves_out_are_left_out_and_named(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    case.describe({label: name for label, name in case.phantom.names.items() if label not in (2, 9)})
    encoded = case.encode()
    expected = np.where(np.isin(case.phantom.labels, (2, 9)), 0, case.phantom.labels)
    assert encoded.notes == ["labels without a [[structure]] were left out: 2, 9"]
    assert np.array_equal(case.decode(encoded.files[0]), expected)


def test_structures_without_a_voxel_are_left_out_and_named(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    case.describe({**case.phantom.names, 12: "Sacrum"})
    assert case.encode().notes == ["structures without a voxel were left out: Sacrum"]


def test_an_empty_label_map_is_refused(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    write_label_file(case.labels, case.phantom.labels * 0, case.phantom.geometry)
    with pytest.raises(InputRefused, match="no structure was found"):
        case.encode()


def test_two_series_at_once_are_refused(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    write(PhantomSpec(modality="MR", seed=4), tmp_path / "series" / "more")
    with pytest.raises(InputRefused, match="2 series"):
        case.encode()


def test_a_missing_label_map_is_wrong_usage(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    case.labels.unlink()
    with pytest.raises(UsageError, match="no such file"):
        case.encode()


def test_decoding_names_the_structures(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    decoded = decode(case.encode().files[1], [tmp_path / "series"], tmp_path / "labels2.nii")
    assert {label: structure.name for label, structure in decoded.structures.items()} == case.phantom.names
    assert nib.load(decoded.paths[0]).shape == case.phantom.geometry.shape[::-1]


def test_an_object_of_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    write(PhantomSpec(seed=9), tmp_path / "other")
    for path in case.encode().files:
        with pytest.raises(InputRefused, match="different frames of reference"):
            decode(path, [tmp_path / "other"], tmp_path / "labels2.nii")


def test_contours_of_no_frame_of_reference_are_refused(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    dataset = dcmread(case.encode().files[1])
    del dataset.FrameOfReferenceUID
    dataset.save_as(tmp_path / "referred.dcm")
    assert case.decode(tmp_path / "referred.dcm").any()
    del dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    for roi in dataset.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    dataset.save_as(tmp_path / "none.dcm")
    with pytest.raises(InputRefused, match="has no FrameOfReferenceUID"):
        case.decode(tmp_path / "none.dcm")


def test_the_frame_of_reference_of_the_rois_counts_where_no_other_is_named(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    dataset = dcmread(case.encode().files[1])
    del dataset.FrameOfReferenceUID, dataset.ReferencedFrameOfReferenceSequence
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3"
    dataset.save_as(tmp_path / "other.dcm")
    with pytest.raises(InputRefused, match="different frames of reference"):
        case.decode(tmp_path / "other.dcm")


def test_voxels_beyond_the_series_are_counted_in_the_notes(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    labels = case.phantom.labels
    geometry = case.phantom.geometry
    beyond = geometry.origins[-1] + np.arange(1, 6)[:, None] * np.diff(geometry.origins[-2:], axis=0)
    longer = replace(geometry, origins=np.concatenate([geometry.origins, beyond]))
    write_label_file(case.labels, np.concatenate([labels, labels[11:16]]), longer)
    encoded = case.encode()
    lost = {name: int((labels[11:16] == label).sum()) for label, name in case.phantom.names.items()}
    assert [note.split(" lie")[0] for note in encoded.notes] == [
        f"{number} voxel{'s' * (number > 1)} of {name}" for name, number in lost.items() if number
    ]
    assert all(note.endswith("outside the series and were left out") for note in encoded.notes if "voxels" in note)
    assert np.array_equal(case.decode(encoded.files[0]), labels)


def test_the_highest_label_leaves_room_for_the_outline(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    labels = case.phantom.labels.astype(np.uint16)
    labels[labels == 1] = 65535
    write_label_file(case.labels, labels, case.phantom.geometry)
    case.describe({65535 if label == 1 else label: name for label, name in case.phantom.names.items()})
    _, rtstruct = case.encode(external=True).files
    rois = [(roi.ROIDescription.split(".")[0], roi.ROIName) for roi in dcmread(rtstruct).StructureSetROISequence]
    assert (rois[0], rois[-1]) == (("label 1", "External"), ("label 65535", case.phantom.names[1]))


def test_decoding_an_image_is_refused(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    with pytest.raises(InputRefused, match="expected a DICOM Segmentation"):
        decode(next((tmp_path / "series").iterdir()), [tmp_path / "series"], tmp_path / "labels2.nii")
    assert case.encode().files


def test_a_label_map_must_be_named_as_nifti_or_nrrd(tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    with pytest.raises(UsageError, match=r"\.nii"):
        decode(case.encode().files[0], [tmp_path / "series"], tmp_path / "labels.mha")


@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd"])
def test_other_formats_are_read_back_alike(suffix: str, tmp_path: Path) -> None:
    case = Case("axial", tmp_path)
    decoded = decode(case.encode().files[0], [tmp_path / "series"], tmp_path / f"labels{suffix}")
    assert np.array_equal(read_label_file(decoded.paths[0], case.phantom.geometry).labels, case.phantom.labels)


def test_implausible_structures_are_warnings_in_the_objects_too(tmp_path: Path) -> None:
    encoded = Case("axial", tmp_path).encode()
    assert any(warning.startswith("Liver: ") for warning in encoded.warnings)
    seg, rtstruct = (dcmread(path) for path in encoded.files)
    assert "CHECK: " in seg.SegmentSequence[0].SegmentDescription
    assert "CHECK: " in rtstruct.StructureSetROISequence[0].ROIDescription


def test_structures_cut_by_the_field_of_view_say_so(tmp_path: Path) -> None:
    _, rtstruct = Case("axial", tmp_path).encode().files
    descriptions = {roi.ROIName: roi.ROIDescription for roi in dcmread(rtstruct).StructureSetROISequence}
    assert "field of view" in descriptions["Heart"]  # the block at the border of the image
    assert "field of view" not in descriptions["Liver"]


def test_the_body_is_outlined_where_it_is_asked_for(tmp_path: Path) -> None:
    _, rtstruct = Case("axial", tmp_path).encode(external=True).files
    decoded = decode(rtstruct, [tmp_path / "series"], tmp_path / "labels.nii.gz")
    assert [path.name for path in decoded.paths] == ["labels.nii.gz", "labels-2.nii.gz"]
    assert decoded.notes[1] == "labels-2.nii.gz: External"
    observations = dcmread(rtstruct).RTROIObservationsSequence
    assert [item.RTROIInterpretedType for item in observations].count("EXTERNAL") == 1


def test_a_site_gets_the_structures_and_names_it_wants(tmp_path: Path) -> None:
    wishes = {"structures": ["Liver", "Kidney_L"], "names": {"Kidney_L": "Niere li"}}
    seg, rtstruct = (dcmread(path) for path in Case("axial", tmp_path).encode(**wishes).files)
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Liver", "Niere li"]
    assert [roi.ROIName for roi in rtstruct.StructureSetROISequence] == ["Liver", "Niere li"]


def test_a_profile_for_structure_sets_alone_makes_no_segmentation(tmp_path: Path) -> None:
    (rtstruct,) = Case("axial", tmp_path).encode(results=["RTSTRUCT"]).files
    assert rtstruct.name.endswith(".rtstruct.dcm")


def test_an_uneven_series_is_encoded_but_not_decoded_to_one_spacing(tmp_path: Path) -> None:
    case = Case("uneven", tmp_path)
    even = PhantomSpec(slices=80, slice_spacing=1.0)
    geometry = build(even).geometry
    write_label_file(case.labels, build(even).labels, geometry)
    encoded = case.encode()
    assert "no RTSTRUCT: the slices are unevenly spaced" in encoded.notes[-1]
    with pytest.raises(InputRefused, match="one spacing only"):
        case.decode(encoded.files[0])


def test_the_real_chest_is_encoded_and_comes_back(test_data: Path, tmp_path: Path) -> None:
    """Real headers with private tags; the three slices that another writer's segmentation belongs to."""
    folder = next(path for path in test_data.rglob("ct_liver_3slice_with_SEG") if path.is_dir())
    series = sorted(folder.rglob("0?.dcm"))
    foreign = decode(next(folder.rglob("liver.dcm")), series, tmp_path / "liver.nii.gz")
    (tmp_path / "S.toml").write_text('[[structure]]\nlabel = 1\nname = "Liver"\n', encoding="utf-8")
    assert set(foreign.structures) == {1}
    encoded = encode(series, tmp_path / "liver.nii.gz", tmp_path / "S.toml", tmp_path / "out", Profile())
    original = np.asarray(nib.load(tmp_path / "liver.nii.gz").dataobj)
    for path in encoded.files:
        decoded = decode(path, series, tmp_path / "again.nii.gz")
        assert len(decoded.paths) == (2 if ".rtstruct." in path.name else 1)  # the body's outline lies over the liver
        assert np.array_equal(np.asarray(nib.load(tmp_path / "again.nii.gz").dataobj), original)
    assert len(encoded.files) == 2
