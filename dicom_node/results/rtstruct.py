"""RT Structure Set (PS3.3 A.19) of a label volume: each contour on its own slice's plane.

Implicit VR little endian, the default transfer syntax: a long contour has more than the 64 kB that an explicit DS
value can hold (PS3.5 7.1.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from dicom_node.anatomy import Code, Structure
from dicom_node.errors import InputRefused, SettingsError
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.profiles import Profile
from dicom_node.results.coding import code_item, type_item
from dicom_node.results.contour_items import ContourEncoder
from dicom_node.results.drawing import contours_of
from dicom_node.results.identity import (
    RESEARCH_NOTE,
    Provenance,
    add_equipment,
    add_source_identity,
    add_times,
    derived_role,
    derived_uid,
    frame_of_reference,
    nothing_found,
    series_description,
    series_number,
)
from dicom_node.results.object_file import keep_encoded_elements

_CONTOURS = Tag("ContourSequence")
_SIDE = re.compile(r"[_ -](l|r|lt|rt|left|right|bilat|bilateral)$", re.IGNORECASE)
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management (retired): what RTReferencedStudySequence names a study by (PS3.3 C.8.8.5)."""


def encode_rtstruct(
    volume: Volume,
    label_volume: LabelVolume,
    provenance: Provenance,
    profile: Profile | None = None,
    *,
    remarks: Mapping[int, str] | None = None,
) -> Dataset:
    """An RT Structure Set of every structure that has voxels and is wanted.

    Args:
        volume: The source; its voxels are not used.
        label_volume: Labels on the very slices of ``volume``; structures of its overlays may overlap the others.
        provenance: What made the labels.
        profile: How contours are drawn, and what structures are called; the default profile where None.
        remarks: Sentences that ROIDescription says of a label beside the usual.

    Returns:
        The data set with ``file_meta``; not approved (ApprovalStatus UNAPPROVED). ROIs are numbered from 1 in the order
        of the labels, like segments: OHIF up to 3.13.2 gives ROI n the colour of the n-th, and SEG and RTSTRUCT agree.

    Raises:
        InputRefused: The source has no FrameOfReferenceUID, its planes are irregular and the profile does not allow
            that, or no structure has a voxel.
    """
    profile = profile or Profile()
    _require_regular(volume, profile)
    present = {label: structure for label, structure in label_volume.present() if profile.wants(structure)}
    if not present:
        raise nothing_found(volume, profile)
    dataset = _structure_set(volume, provenance, profile)
    names = roi_names(present, profile)
    boxes = label_volume.bounding_boxes()
    encoder = ContourEncoder(volume.geometry, volume.sources)
    rois, contours, observations = [], [], []
    for number, (label, structure) in enumerate(present.items(), start=1):
        drawn = contours_of(label_volume.layer_of(label), label, boxes[label], profile)
        described = _description(label, (remarks or {}).get(label))
        rois.append(_roi(number, names[label], described, volume, provenance))
        contours.append(_roi_contour(number, structure, encoder.items(drawn)))
        observations.append(_observation(number, structure))
    dataset.StructureSetROISequence = rois
    dataset.ROIContourSequence = contours
    dataset.RTROIObservationsSequence = observations
    keep_encoded_elements(dataset, implicit_vr=True, items=contours)
    return dataset


def roi_names(structures: Mapping[int, Structure], profile: Profile | None = None) -> dict[int, str]:
    """ROINames by label, unique ignoring case and no longer than the profile allows.

    The site's own name, else the alias or the TG-263 name. A side at its end (``_L``, ``_R`` ...) stays when it is cut,
    and where names would be the same a number comes before the side.

    Raises:
        SettingsError: The profile's ``name_length`` leaves no room for names that differ, or for a side.
    """
    profile = profile or Profile()
    names: dict[int, str] = {}
    taken: set[str] = set()
    for label, structure in structures.items():
        name = profile.names.get(structure.name, structure.alias or structure.name)
        names[label] = _roi_name(name, taken, profile.name_length)
        taken.add(names[label].casefold())
    return names


def _roi_name(name: str, taken: set[str], length: int) -> str:
    """A name of at most ``length`` characters that is not ``taken`` (case folded)."""
    if len(name) <= length and name.casefold() not in taken:
        return name
    found = _SIDE.search(name)
    side = found[0] if found else ""
    stem = name.removesuffix(side)
    for number in range(1, len(taken) + 2):
        end = f"_{number}{side}" if number > 1 else side
        begin = stem[: max(length - len(end), 0)].rstrip()
        if begin and f"{begin}{end}".casefold() not in taken:
            return f"{begin}{end}"
    raise SettingsError(
        f"name_length = {length} leaves no room for a name of {name} that differs from the others and keeps its side; "
        "allow longer names in the profile, or give the structures names of the site's own"
    )


def _require_regular(volume: Volume, profile: Profile) -> None:
    geometry = volume.geometry
    frame_of_reference(volume)
    if geometry.is_regular or profile.irregular_contours:
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


def _structure_set(volume: Volume, provenance: Provenance, profile: Profile) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = derived_uid(provenance.case_id, derived_role("rtstruct", profile.identity, "instance"))
    add_source_identity(dataset, volume.header)
    add_equipment(dataset, volume, provenance)
    add_times(dataset, provenance, "InstanceCreation", "Series", "StructureSet")
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = derived_uid(provenance.case_id, derived_role("rtstruct", profile.identity, "series"))
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
    series.ContourImageSequence = [_image_item(source) for source in instances.values()]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = volume.study_instance_uid
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = frame_of_reference(volume)
    frame.RTReferencedStudySequence = [study]
    return frame


def _description(label: int, remark: str | None) -> str:
    """ROIDescription (ST, 1024 characters); the label stands at its beginning, where readers of ours find it."""
    begin, end = f"label {label}{f'. {remark}' if remark else ''}".removesuffix("."), f". {RESEARCH_NOTE}."
    return begin[: 1024 - len(end)] + end


def _roi(number: int, name: str, description: str, volume: Volume, provenance: Provenance) -> Dataset:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = frame_of_reference(volume)
    roi.ROIName = name
    roi.ROIDescription = description
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


def _roi_contour(number: int, structure: Structure, contours: Iterable[bytes]) -> Dataset:
    """An item of ROIContourSequence; its contours are encoded already and are written as they are."""
    item = Dataset()
    item.ROIDisplayColor = list(structure.color)
    value = b"".join(contours)
    item[_CONTOURS] = RawDataElement(_CONTOURS, "SQ", len(value), value, 0, True, True)
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


def _image_item(source: SourceSlice) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class_uid
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    return item
