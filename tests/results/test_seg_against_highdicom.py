"""Our Segmentations beside those of highdicom, called as anyone calls it: attribute by attribute, pixel by pixel."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from highdicom import AlgorithmIdentificationSequence
from pydicom import Dataset
from pydicom.sr.codedict import codes

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.profiles import Profile
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import read_object, to_bytes
from tests.plain_highdicom import plain_segmentation
from tests.results.sources import EVERY, PROVENANCE, labels_of, phantom, volume_of

KINDS = ["BINARY", "LABELMAP", "FRACTIONAL"]
_MODIFIERS = "SegmentSequence[].SegmentedPropertyTypeCodeSequence[].SegmentedPropertyTypeModifierCodeSequence"
INTENDED = {
    # what makes the object this node's
    "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ManufacturerModelName",
    "DeviceSerialNumber", "SoftwareVersions", "ContentLabel", "ContentDescription",
    "DimensionOrganizationSequence[].DimensionOrganizationUID", "DimensionIndexSequence[].DimensionOrganizationUID",
    # no clock: a case done twice gives the same bytes
    "InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
    # the scanner stands there in both; then this node, where highdicom names itself
    "ContributingEquipmentSequence[].Manufacturer", "ContributingEquipmentSequence[].ManufacturerModelName",
    "ContributingEquipmentSequence[].DeviceSerialNumber", "ContributingEquipmentSequence[].SoftwareVersions",
    "ContributingEquipmentSequence[].ContributionDateTime", "ContributingEquipmentSequence[].ContributionDescription",
    # Type 2, which highdicom leaves out
    "ContentCreatorName",
    # the label, tracking over time, and sides as modifiers, which highdicom has no argument for
    "SegmentSequence[].SegmentDescription", "SegmentSequence[].TrackingUID",
    _MODIFIERS, f"{_MODIFIERS}[].CodeValue", f"{_MODIFIERS}[].CodeMeaning", f"{_MODIFIERS}[].CodingSchemeDesignator",
}  # fmt: skip
"""Where our objects differ from those of highdicom called with the source images: nowhere else."""


def made_by_highdicom(name: str, labels: LabelVolume, kind: str) -> Dataset:
    algorithm = AlgorithmIdentificationSequence(
        name="torso",
        version="1.2",
        family=codes.DCM.ArtificialIntelligence,
        source="dicom-node",
        parameters={"weights_sha256": PROVENANCE.weights_sha256},
    )
    return read_object(to_bytes(plain_segmentation(phantom(name).datasets, labels, kind, algorithm)))


def attributes(dataset: Dataset, path: str = "") -> dict[str, object]:
    """VR and value of every attribute at every depth, by path; of sequences the number of items, of pixels of bytes."""
    found: dict[str, object] = {}
    for element in dataset:
        here = path + (element.keyword or str(element.tag))
        if element.VR == "SQ":
            found[here] = len(element.value)
            for number, item in enumerate(element.value):
                found.update(attributes(item, f"{here}[{number}]."))
        else:
            found[here] = element.VR, len(element.value) if element.keyword == "PixelData" else element.value
    return found


def assert_as_highdicom_makes_it(name: str, labels: LabelVolume, kind: str) -> None:
    ours = read_object(to_bytes(encode_seg(volume_of(phantom(name)), labels, PROVENANCE, Profile(seg=kind))))
    theirs = made_by_highdicom(name, labels, kind)
    for dataset in (ours, theirs):  # our label maps have the background last
        dataset.SegmentSequence = sorted(dataset.SegmentSequence, key=lambda item: int(item.SegmentNumber))
    found, expected = attributes(ours), attributes(theirs)
    different = {path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path)}
    assert {re.sub(r"\[\d+\]", "[]", path) for path in different} <= INTENDED
    assert ours.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID
    assert ours.pixel_array.any()
    assert np.array_equal(ours.pixel_array, theirs.pixel_array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_objects_are_those_of_highdicom_but_for_what_is_intended(name: str, kind: str) -> None:
    assert_as_highdicom_makes_it(name, labels_of(phantom(name)), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["axial", "odd pixels", "uneven"])
def test_one_structure_alone_is_shared_by_all_frames_as_in_highdicom(name: str, kind: str) -> None:
    source = phantom(name)
    liver = LabelVolume((source.labels == 1).astype(np.uint8), source.geometry, {1: load_anatomy()["Liver"]})
    assert_as_highdicom_makes_it(name, liver, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_255_structures_are_written_as_in_highdicom(kind: str) -> None:
    source = phantom("axial")
    labels = np.zeros(source.labels.shape, dtype=np.uint16)
    labels[3:5].reshape(2, -1)[:, :300] = np.arange(1, 301)
    liver = load_anatomy()["Liver"]
    structures = {label: replace(liver, name=f"Structure {label}") for label in range(1, 301)}
    assert_as_highdicom_makes_it("axial", LabelVolume(labels, source.geometry, structures), kind)
