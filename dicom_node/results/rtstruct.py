"""RT Structure Set (PS3.3 A.19) of a label volume: contours along pixel borders, each on its own slice's plane.

Implicit VR little endian, the default transfer syntax: a long contour has more than the 64 kB that an explicit DS
value can hold (PS3.5 7.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from scipy import ndimage

from dicom_node.anatomy import Code, Structure
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import FloatArray, Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.results.coding import code_item, type_item
from dicom_node.results.contours import Corners, pixel_edge_contours
from dicom_node.results.identity import (
    RESEARCH_NOTE,
    Provenance,
    add_equipment,
    add_source_identity,
    add_times,
    derived_uid,
    frame_of_reference,
    series_description,
    series_number,
)

_CONTOUR_DATA = Tag("ContourData")
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management (retired): what RTReferencedStudySequence names a study by (PS3.3 C.8.8.5)."""


def encode_rtstruct(
    volume: Volume,
    label_volume: LabelVolume,
    provenance: Provenance,
    *,
    allow_irregular: bool = False,
    name_length: int = 16,
) -> Dataset:
    """An RT Structure Set of every structure that has voxels; each label is the number of its ROI.

    Args:
        volume: The source; its voxels are not used.
        label_volume: Labels on the very slices of ``volume``.
        provenance: What made the labels.
        allow_irregular: Whether a tilted or unevenly spaced series is encoded too. Every contour is right then as
            well, but planning systems interpolate between slices as if they were even.
        name_length: Longest ROIName.

    Returns:
        The data set with ``file_meta``; not approved (ApprovalStatus UNAPPROVED).

    Raises:
        InputRefused: The source has no FrameOfReferenceUID, its planes are irregular and that is not allowed, or no
            structure has a voxel.
    """
    _require_regular(volume, allow_irregular)
    present = dict(label_volume.present())
    if not present:
        raise InputRefused(
            "no structure was found in the series, so there is nothing to contour; check that the series shows the "
            "anatomy that it was segmented for",
            SeriesInstanceUID=volume.series_instance_uid,
        )
    dataset = _structure_set(volume, provenance)
    names = roi_names(list(present.values()), name_length)
    boxes = ndimage.find_objects(label_volume.labels)
    rois, contours, observations = [], [], []
    for (label, structure), name in zip(present.items(), names, strict=True):
        rois.append(_roi(label, name, volume, provenance))
        contours.append(_roi_contour(label, structure, _contour_items(volume, label_volume, label, boxes[label - 1])))
        observations.append(_observation(label, structure))
    dataset.StructureSetROISequence = rois
    dataset.ROIContourSequence = contours
    dataset.RTROIObservationsSequence = observations
    return dataset


def roi_names(structures: list[Structure], length: int = 16) -> list[str]:
    """ROINames that are unique ignoring case and no longer than asked for: names, else aliases, else numbered."""
    names: list[str] = []
    taken: set[str] = set()
    for structure in structures:
        name = structure.short_name if length <= 16 else structure.alias or structure.name
        candidate, number = name[:length], 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name[: length - len(str(number)) - 1]}_{number}"
        taken.add(candidate.casefold())
        names.append(candidate)
    return names


def decimal_strings(points: FloatArray) -> bytes:
    """Coordinates as one DS value: thousandths of a millimetre, at most 16 characters each (PS3.5 6.2)."""
    text = "\\".join(map("%.3f".__mod__, points.ravel().tolist())).replace("-0.000", "0.000")
    return text.encode("ascii")


def _require_regular(volume: Volume, allow_irregular: bool) -> None:
    geometry = volume.geometry
    frame_of_reference(volume)
    if geometry.is_regular or allow_irregular:
        return
    what = (
        f"tilted by {geometry.tilt_degrees:.1f} degrees"
        if geometry.is_tilted
        else f"unevenly spaced, {geometry.slice_spacings.min():.2f} to {geometry.slice_spacings.max():.2f} mm"
    )
    raise InputRefused(
        f"the slices are {what}: no RTSTRUCT is made, because planning systems take contours as even stacks at right "
        "angles; the SEG holds the result, and the profile setting irregular_contours allows an RTSTRUCT",
        SeriesInstanceUID=volume.series_instance_uid,
    )


def _structure_set(volume: Volume, provenance: Provenance) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = derived_uid(provenance.case_id, "rtstruct/instance")
    add_source_identity(dataset, volume.header)
    add_equipment(dataset, volume, provenance)
    add_times(dataset, provenance, "InstanceCreation", "Series", "StructureSet")
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = derived_uid(provenance.case_id, "rtstruct/series")
    dataset.SeriesNumber = series_number(volume, "RTSTRUCT")
    dataset.SeriesDescription = series_description(volume, provenance, "RTSTRUCT")
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = f"AUTO {provenance.card}"[:16]
    dataset.StructureSetName = dataset.SeriesDescription
    dataset.StructureSetDescription = f"{provenance.algorithm}. {RESEARCH_NOTE}."
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.FrameOfReferenceUID = frame_of_reference(volume)
    dataset.PositionReferenceIndicator = volume.header.get("PositionReferenceIndicator", "")
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame_of_reference(volume)]
    return dataset


def _referenced_frame_of_reference(volume: Volume) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = volume.series_instance_uid
    instances = {source.sop_instance_uid: source for source in volume.sources}
    series.ContourImageSequence = [_image_item(source, whole=True) for source in instances.values()]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = volume.study_instance_uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = frame_of_reference(volume)
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(number: int, name: str, volume: Volume, provenance: Provenance) -> Dataset:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = frame_of_reference(volume)
    roi.ROIName = name
    roi.ROIDescription = RESEARCH_NOTE
    roi.ROIGenerationAlgorithm = provenance.algorithm_type
    roi.ROIGenerationDescription = provenance.algorithm
    roi.ROIDerivationAlgorithmIdentificationSequence = [_algorithm(provenance)]
    return roi


def _algorithm(provenance: Provenance) -> Dataset:
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(Code("123110", "Artificial Intelligence", "DCM"))]
    item.AlgorithmName = provenance.card[:64]
    item.AlgorithmVersion = provenance.version[:64]
    return item


def _roi_contour(number: int, structure: Structure, contours: Iterator[Dataset]) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(structure.color)
    item.ContourSequence = list(contours)
    item.ReferencedROINumber = number
    return item


def _observation(number: int, structure: Structure) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIIdentificationCodeSequence = [type_item(structure)]
    item.SegmentedPropertyCategoryCodeSequence = [code_item(structure.category)]
    if structure.region:
        item.AnatomicRegionSequence = [code_item(structure.region)]
    item.RTROIInterpretedType = structure.interpreted_type
    item.ROIInterpreter = ""
    return item


def _contour_items(
    volume: Volume, label_volume: LabelVolume, label: int, box: tuple[slice, slice, slice]
) -> Iterator[Dataset]:
    """Every contour of a structure, slice by slice within its bounding box."""
    stack, rows, columns = box
    offset = np.array([rows.start, columns.start])
    number = 0
    for k in range(stack.start, stack.stop):
        for contour in pixel_edge_contours(label_volume.labels[k, rows, columns] == label):
            number += 1
            points = _patient_mm(contour + offset, k, volume.geometry)
            item = Dataset()
            item.ContourImageSequence = [_image_item(volume.sources[k])]
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(points)
            item.ContourNumber = number
            _set_contour_data(item, points)
            yield item


def _set_contour_data(item: Dataset, points: FloatArray) -> None:
    """ContourData as encoded bytes: pydicom would make an object of each of a million numbers, and again to write."""
    value = decimal_strings(points)
    value += b" " * (len(value) % 2)
    item[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(value), value, 0, True, True)
    item.set_original_encoding(True, True, "iso8859")  # else the bytes are decoded before they are written


def _patient_mm(corners: Corners, k: int, geometry: Geometry) -> FloatArray:
    """(n, 3) patient_mm of pixel corners of slice k, on the plane of that slice alone."""
    row = (corners[:, 0] - 0.5) * geometry.row_spacing
    column = (corners[:, 1] - 0.5) * geometry.column_spacing
    in_plane = np.outer(row, geometry.column_direction) + np.outer(column, geometry.row_direction)
    return np.asarray(geometry.origins[k] + in_plane)


def _image_item(source: SourceSlice, *, whole: bool = False) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class_uid
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    if source.frame_number is not None and not whole:
        item.ReferencedFrameNumber = source.frame_number
    return item
