"""DICOM Segmentation (PS3.3 A.51) of a label volume.

The header is highdicom's (``seg_header``). Frames are our own: their functional groups are put together from encoded
parts (``seg_groups``), and their pixels are made from the labels while the object is written (``seg_pixels``), so that
an object of thousands of frames costs neither the time nor the memory of thousands of data sets and arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom import DataElement, Dataset

from dicom_node.errors import InputRefused
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.profiles import Profile, SegKind
from dicom_node.results.identity import (
    Provenance,
    add_equipment,
    add_source_identity,
    add_times,
    copy_element,
    derived_role,
    derived_uid,
    frame_of_reference,
    nothing_found,
    series_description,
    series_number,
)
from dicom_node.results.object_file import keep_encoded_elements
from dicom_node.results.seg_frames import Frame, Segment, find_segments, overlapping_labels, with_doubtful_voxels
from dicom_node.results.seg_groups import SliceGroups, per_frame_groups
from dicom_node.results.seg_header import describe, segmentation_header, slice_of
from dicom_node.results.seg_pixels import binary_pixels, fractional_pixels, label_pixels

MOST_PIXEL_BYTES = 2**32 - 2
"""Longest value with an explicit length (PS3.5 7.1.2)."""


def encode_seg(
    volume: Volume,
    label_volume: LabelVolume,
    provenance: Provenance,
    profile: Profile | None = None,
    *,
    remarks: Mapping[int, str] | None = None,
) -> Dataset:
    """A Segmentation of every structure that has voxels and is wanted; frames without voxels are left out.

    Args:
        volume: The source; its voxels are not used.
        label_volume: Labels on the very slices of ``volume``; structures of its overlays may overlap the others.
        provenance: What made the labels.
        profile: Which structures are wanted, what they are called, and the kind: "BINARY", which everybody reads;
            "LABELMAP", one frame per slice; or "FRACTIONAL", the probability of each structure as 255ths, at least
            one half where the structure is. The default profile where None.
        remarks: What SegmentDescription says of a label beside the label.

    Returns:
        The data set with ``file_meta``. Segments are numbered from 1 in the order of the labels, frames ordered by
        segment and place. PixelData is a buffered value, made from ``label_volume`` each time it is read.

    Raises:
        InputRefused: The source has no FrameOfReferenceUID, no wanted structure has a voxel, or structures of a
            LABELMAP overlap.
        ValueError: A voxel carries a label that no structure explains.
    """
    profile = profile or Profile()
    kind = profile.seg
    frame_of_reference(volume)
    segments = _segments(volume, label_volume, profile)
    overlap = _overlap(volume, segments, kind)
    if kind == "FRACTIONAL":
        segments = with_doubtful_voxels(segments)
    descriptions = [
        describe(segment, volume, provenance, profile, (remarks or {}).get(segment.label)) for segment in segments
    ]
    slices = {k for segment in segments for k in segment.boxes}
    dataset = segmentation_header(volume, descriptions, kind, slices)
    dataset.SegmentsOverlap = overlap
    _fix_identity(dataset, volume, provenance)
    _fix_uids(dataset, provenance.case_id, profile)
    _add_frames(dataset, volume, segments)
    return dataset


def _segments(volume: Volume, label_volume: LabelVolume, profile: Profile) -> list[Segment]:
    segments = find_segments(label_volume, profile.wants)
    if not segments:
        raise nothing_found(volume, profile)
    return segments


def _overlap(volume: Volume, segments: Sequence[Segment], kind: SegKind) -> str:
    """SegmentsOverlap (PS3.3 C.8.20.2): undefined where a voxel may have some probability of several structures."""
    if kind == "FRACTIONAL" and len(segments) > 1 and any(segment.layer.certainty for segment in segments):
        return "UNDEFINED"
    if kind != "LABELMAP":
        return "YES" if any(overlapping_labels(segments)) else "NO"
    pairs = sorted(set(overlapping_labels(segments)))
    if pairs:
        names = {segment.label: segment.structure.name for segment in segments}
        listed = ", ".join(f"{names[label]} and {names[other]}" for label, other in pairs)
        raise InputRefused(
            f"a label map holds one structure per voxel, but some overlap: {listed}; make a BINARY segmentation, or "
            "leave structures out",
            SeriesInstanceUID=volume.series_instance_uid,
        )
    return "NO"


def _add_frames(dataset: Dataset, volume: Volume, segments: Sequence[Segment]) -> None:
    """Per-frame groups and pixel data, in place of the groups of one frame per slice."""
    geometry, kind = volume.geometry, dataset.SegmentationType
    groups = _slice_groups(dataset, volume)
    frames = [Frame(segment, k) for segment in segments for k in groups if k in segment.boxes]
    if kind == "LABELMAP":
        items = [group.item(None) for group in groups.values()]
        pixels = label_pixels(list(groups), segments, geometry.rows, geometry.columns)
    else:
        items = [groups[frame.k].item(frame.segment.number) for frame in frames]
        make = binary_pixels if kind == "BINARY" else fractional_pixels
        pixels = make(frames, geometry.rows, geometry.columns)
    _require_length(len(items), dataset)
    dataset.NumberOfFrames = len(items)
    dataset.add(DataElement("PixelData", "OW" if dataset.BitsAllocated > 8 else "OB", pixels))
    sequence = per_frame_groups(items)
    dataset[sequence.tag] = sequence
    keep_encoded_elements(dataset, implicit_vr=False)


def _require_length(frames: int, dataset: Dataset) -> None:
    length = frames * dataset.Rows * dataset.Columns * dataset.BitsAllocated / 8
    if length > MOST_PIXEL_BYTES:
        raise InputRefused(
            f"the {dataset.SegmentationType} segmentation would have {frames} frames, {length / 2**30:.1f} GiB; one "
            "DICOM value holds 4 GiB; leave structures out, or make a LABELMAP segmentation"
        )


def _slice_groups(dataset: Dataset, volume: Volume) -> dict[int, SliceGroups]:
    """By slice, in the order of frames; references lead to the source instances and their frames."""
    groups = {}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        k = slice_of(group)
        source = volume.sources[k]
        item = _fill_reference(group.DerivationImageSequence[0].SourceImageSequence[0], source)
        if source.frame_number is not None:
            item.ReferencedFrameNumber = source.frame_number
        groups[k] = SliceGroups.of(group, dimensions=len(dataset.DimensionIndexSequence))
    return groups


def _fix_identity(dataset: Dataset, volume: Volume, provenance: Provenance) -> None:
    """Everything that would differ from run to run, and what the header has stand-ins for."""
    add_source_identity(dataset, volume.header)
    add_equipment(dataset, volume, provenance)
    add_times(dataset, provenance, "InstanceCreation", "Series", "Content")
    dataset.SeriesNumber = series_number(volume, "SEG")
    dataset.SeriesDescription = series_description(volume, provenance, "SEG")
    dataset.ContentCreatorName = ""
    dataset.FrameOfReferenceUID = frame_of_reference(volume)
    dataset.PositionReferenceIndicator = volume.header.get("PositionReferenceIndicator", "")
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        copy_element(volume.header, dataset, keyword)
    instances = list({source.sop_instance_uid: source for source in volume.sources}.values())
    series = Dataset()
    series.SeriesInstanceUID = volume.series_instance_uid
    series.ReferencedInstanceSequence = [_fill_reference(Dataset(), source) for source in instances]
    dataset.ReferencedSeriesSequence = [series]
    dataset.SourceImageSequence = [_fill_reference(Dataset(), source) for source in instances]


def _fix_uids(dataset: Dataset, case_id: str, profile: Profile) -> None:
    """UIDs of the case's own; objects of another profile have others."""
    series, instance, dimensions = (
        derived_uid(case_id, derived_role("seg", profile.identity, name))
        for name in ("series", "instance", "dimensions")
    )
    dataset.SeriesInstanceUID = series
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = dimensions


def _fill_reference(item: Dataset, source: SourceSlice) -> Dataset:
    item.ReferencedSOPClassUID = source.sop_class_uid
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    return item
