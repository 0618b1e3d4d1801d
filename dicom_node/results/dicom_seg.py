"""DICOM Segmentation (PS3.3 A.51) of a label volume, and back.

Encoding is highdicom's. It is given one small header per slice, made from the volume, instead of the source objects:
no pixel data is read, every frame lies on the plane its labels came from (tilted and uneven stacks too), and sources
of one or of many frames take the same way. References to the true source instances are put in afterwards.

Decoding is our own, from the encoded attributes and bits, so that it can judge the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as SRCode
from pydicom.uid import UID, CTImageStorage, MRImageStorage, SegmentationStorage
from pydicom.valuerep import DSfloat

from dicom_node.anatomy import Code, Structure
from dicom_node.errors import InputRefused
from dicom_node.imaging.geometry import ANGLE_TOLERANCE, SPACING_TOLERANCE_MM, FloatArray, Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.results.coding import coded_laterality, srgb, structure_of, type_item
from dicom_node.results.decoded import DecodedLabels, require_attributes
from dicom_node.results.identity import (
    MANUFACTURER,
    RESEARCH_NOTE,
    Provenance,
    add_equipment,
    add_source_identity,
    add_times,
    copy_element,
    derived_uid,
    frame_of_reference,
    series_description,
    series_number,
)

SegKind = Literal["BINARY", "LABELMAP"]
Mask = npt.NDArray[np.bool_]
LABEL_MAP_SEGMENTATION_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
_TYPE = "SegmentedPropertyTypeCodeSequence"
_SOURCE_LABEL = "label "
_STAND_IN = "2.25.1"
_NEEDED = (
    "SegmentSequence",
    "SegmentationType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelData",
)
_PLACEHOLDERS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


def encode_seg(volume: Volume, label_volume: LabelVolume, provenance: Provenance, kind: SegKind = "BINARY") -> Dataset:
    """A Segmentation of every structure that has voxels; frames without voxels are left out.

    Args:
        volume: The source; its voxels are not used.
        label_volume: Labels on the very slices of ``volume``.
        provenance: What made the labels.
        kind: "BINARY", which everybody reads, or "LABELMAP".

    Returns:
        The data set with ``file_meta``. Segments are numbered from 1 in the order of the labels; each label stands in
        its SegmentDescription.

    Raises:
        InputRefused: The source has no FrameOfReferenceUID, or no structure has a voxel.
        ValueError: A voxel carries a label that no structure explains.
    """
    frame_of_reference(volume)
    present = list(label_volume.present())
    if not present:
        raise InputRefused(
            "no structure was found in the series, so there is nothing to write; check that the series shows the "
            "anatomy that it was segmented for",
            SeriesInstanceUID=volume.series_instance_uid,
        )
    dataset = Segmentation(
        source_images=_slice_headers(volume),
        pixel_array=_as_segment_numbers(label_volume, [label for label, _ in present]),
        segmentation_type=kind,
        segment_descriptions=[
            _segment(number, label, structure, provenance) for number, (label, structure) in enumerate(present, start=1)
        ],
        series_instance_uid=derived_uid(provenance.case_id, "seg/series"),
        series_number=series_number(volume, "SEG"),
        sop_instance_uid=derived_uid(provenance.case_id, "seg/instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=MANUFACTURER,
        device_serial_number=provenance.serial_number,
        content_label="SEGMENTATION",
        content_description=RESEARCH_NOTE,
        series_description=series_description(volume, provenance, "SEG"),
    )
    _refer_to_sources(dataset, volume)
    _fix_identity(dataset, volume, provenance)
    return dataset


def decode_seg(dataset: Dataset, geometry: Geometry) -> DecodedLabels:
    """The labels of a Segmentation on the planes of its series.

    Args:
        dataset: BINARY, LABELMAP or FRACTIONAL (at least half is inside), of this node or of anyone.
        geometry: Planes of the series it belongs to.

    Raises:
        InputRefused: It is no Segmentation, its pixel data cannot be decoded, or its frames do not lie on the planes
            and pixels of the series.
    """
    if dataset.get("SOPClassUID") not in (SegmentationStorage, LABEL_MAP_SEGMENTATION_STORAGE):
        raise InputRefused(f"expected a DICOM Segmentation, got SOP class {dataset.get('SOPClassUID', 'none')}")
    require_attributes(dataset, _NEEDED)
    segments = {int(item.SegmentNumber): item for item in dataset.SegmentSequence if item.SegmentNumber}
    labels_of = _labels_of(dataset, segments)
    labels = np.zeros(geometry.shape, dtype=np.uint16 if max(labels_of.values(), default=0) > 255 else np.uint8)
    overlaps = 0
    for number, k, mask in _masks(dataset, geometry, labels_of):
        overlaps += int(np.count_nonzero(labels[k][mask]))
        labels[k][mask] = labels_of[number]
    return DecodedLabels(
        label_volume=LabelVolume(
            labels=labels,
            geometry=geometry,
            structures={labels_of[number]: _structure_of_segment(item) for number, item in segments.items()},
        ),
        lateralities={labels_of[number]: coded_laterality(item, _TYPE) for number, item in segments.items()},
        overlaps=overlaps,
    )


def _slice_headers(volume: Volume) -> list[Dataset]:
    """What highdicom asks of source objects, slice by slice, without pixel data.

    Identifiers are stand-ins: the slice's number for its SOP instance, so that :func:`_refer_to_sources` can tell
    which source a frame came from whatever objects the slices are stored in.
    """
    geometry = volume.geometry
    shared = Dataset()
    for keyword in _PLACEHOLDERS:
        setattr(shared, keyword, "")
    shared.StudyInstanceUID = shared.SeriesInstanceUID = shared.FrameOfReferenceUID = _STAND_IN
    shared.SOPClassUID = CTImageStorage if volume.modality == "CT" else MRImageStorage
    shared.Modality = volume.modality
    shared.Rows, shared.Columns = geometry.rows, geometry.columns
    shared.PixelSpacing = _decimals([geometry.row_spacing, geometry.column_spacing])
    shared.SliceThickness = _decimals([geometry.slice_thickness])[0]
    shared.ImageOrientationPatient = _decimals([*geometry.row_direction, *geometry.column_direction])
    headers = []
    for k, origin in enumerate(geometry.origins):
        header = Dataset()
        header.update(shared)
        header.SOPInstanceUID = f"{_STAND_IN}.{k}"
        header.ImagePositionPatient = _decimals(origin)
        headers.append(header)
    return headers


def _as_segment_numbers(label_volume: LabelVolume, labels: list[int]) -> npt.NDArray[np.uint8 | np.uint16]:
    counts = label_volume.voxel_counts()
    unexplained = [int(label) for label in np.flatnonzero(counts) if label and label not in label_volume.structures]
    if unexplained:
        raise ValueError(f"labels {unexplained} have voxels but no structure that explains them")
    table = np.zeros(len(counts), dtype=np.uint8 if len(labels) < 256 else np.uint16)
    table[labels] = np.arange(1, len(labels) + 1)
    return np.asarray(table[label_volume.labels])


def _segment(number: int, label: int, structure: Structure, provenance: Provenance) -> SegmentDescription:
    description = SegmentDescription(
        segment_number=number,
        segment_label=structure.name[:64],
        segmented_property_category=_sr(structure.category),
        segmented_property_type=_sr(structure.type),
        algorithm_type=provenance.algorithm_type,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=provenance.card[:64],
            version=provenance.version[:64],
            family=codes.DCM.ArtificialIntelligence,
            source=MANUFACTURER,
            parameters={"weights_sha256": provenance.weights_sha256} if provenance.weights_sha256 else None,
        ),
        tracking_uid=derived_uid(provenance.case_id, f"tracking/{structure.name}"),
        tracking_id=structure.name,
        anatomic_regions=[_sr(structure.region)] if structure.region else None,
        display_color=CIELabColor.from_rgb(*structure.color),
    )
    description["SegmentedPropertyTypeCodeSequence"].value = [type_item(structure)]
    description.SegmentDescription = f"{_SOURCE_LABEL}{label}"
    return description


def _refer_to_sources(dataset: Dataset, volume: Volume) -> None:
    """Replace the stand-ins of :func:`_slice_headers` by the source instances and their frames."""
    by_stand_in = {f"{_STAND_IN}.{k}": source for k, source in enumerate(volume.sources)}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for item in frame.DerivationImageSequence[0].SourceImageSequence:
            source = by_stand_in.get(item.ReferencedSOPInstanceUID)
            if source:  # highdicom shares one item between the frames of a slice: it may be done already
                _fill_reference(item, source)
                if source.frame_number is not None:
                    item.ReferencedFrameNumber = source.frame_number
    instances = list({source.sop_instance_uid: source for source in volume.sources}.values())
    series = Dataset()
    series.SeriesInstanceUID = volume.series_instance_uid
    series.ReferencedInstanceSequence = [_fill_reference(Dataset(), source) for source in instances]
    dataset.ReferencedSeriesSequence = [series]
    dataset.SourceImageSequence = [_fill_reference(Dataset(), source) for source in instances]


def _fill_reference(item: Dataset, source: SourceSlice) -> Dataset:
    item.ReferencedSOPClassUID = source.sop_class_uid
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    return item


def _fix_identity(dataset: Dataset, volume: Volume, provenance: Provenance) -> None:
    """Everything that would differ from run to run, and what highdicom had stand-ins for."""
    add_source_identity(dataset, volume.header)
    add_equipment(dataset, volume, provenance)
    add_times(dataset, provenance, "InstanceCreation", "Series", "Content")
    dataset.ContentCreatorName = ""
    dataset.FrameOfReferenceUID = frame_of_reference(volume)
    dataset.PositionReferenceIndicator = volume.header.get("PositionReferenceIndicator", "")
    organization = derived_uid(provenance.case_id, "seg/dimensions")
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        copy_element(volume.header, dataset, keyword)


def _labels_of(dataset: Dataset, segments: dict[int, Dataset]) -> dict[int, int]:
    """The label of each segment: the one that this node noted, else the segment's number."""
    noted = {}
    for number, item in segments.items():
        match = re.fullmatch(rf"{_SOURCE_LABEL}(\d{{1,5}})", str(item.get("SegmentDescription") or ""))
        if match and dataset.get("Manufacturer") == MANUFACTURER:
            noted[number] = int(match[1])
    complete = len(set(noted.values())) == len(segments) and all(0 < label < 65536 for label in noted.values())
    return noted if complete else {number: number for number in segments}


def _structure_of_segment(item: Dataset) -> Structure:
    encoded = item.get("RecommendedDisplayCIELabValue")
    name = str(item.get("SegmentLabel") or f"Segment {item.SegmentNumber}")
    return structure_of(name, item, _TYPE, srgb(encoded) if encoded else None)


def _masks(dataset: Dataset, geometry: Geometry, numbers: Container[int]) -> Iterator[tuple[int, int, Mask]]:
    """Segment number, slice and (rows, columns) mask of every frame."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    labelmap = dataset.SegmentationType == "LABELMAP"
    threshold = int(dataset.get("MaximumFractionalValue", 1)) / 2 if dataset.SegmentationType == "FRACTIONAL" else 0.5
    for frame, pixels in zip(dataset.PerFrameFunctionalGroupsSequence, _frames(dataset), strict=True):
        k = _slice_of(frame, shared, dataset, geometry)
        if labelmap:
            found = [int(value) for value in np.unique(pixels) if value]
        else:
            found = [int(_value(frame, shared, "SegmentIdentificationSequence", "ReferencedSegmentNumber"))]
        for number in found:
            if number not in numbers:
                raise InputRefused(f"a frame belongs to segment {number}, which SegmentSequence does not describe")
            yield number, k, np.asarray(pixels == number if labelmap else pixels >= threshold)


def _frames(dataset: Dataset) -> Iterator[npt.NDArray[Any]]:
    """(rows, columns) of every frame in order, one at a time."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if dataset.BitsAllocated != 1 or syntax.is_encapsulated or not syntax.is_little_endian:
        try:
            yield from iter_pixels(dataset, raw=True)
        except (NotImplementedError, RuntimeError, ValueError, AttributeError) as error:
            raise InputRefused(f"the pixel data cannot be decoded ({syntax.name}): {error}") from error
        return
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    frames = int(dataset.NumberOfFrames)
    if len(packed) * 8 < frames * rows * columns:
        raise InputRefused(f"the pixel data ends early: {frames} frames need {frames * rows * columns} bits")
    for frame in range(frames):
        # frames follow each other without padding, bit by bit, lowest bit first (PS3.5 8.1.1)
        first, last = frame * rows * columns, (frame + 1) * rows * columns
        bits = np.unpackbits(packed[first // 8 : -(-last // 8)], bitorder="little")
        yield bits[first % 8 : first % 8 + rows * columns].reshape(rows, columns)


def _slice_of(frame: Dataset, shared: Dataset, dataset: Dataset, geometry: Geometry) -> int:
    """Index of the slice whose plane and pixels a frame lies on."""
    position = np.array(_value(frame, shared, "PlanePositionSequence", "ImagePositionPatient"), dtype=np.float64)
    cosines = np.array(_value(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient"), dtype=np.float64)
    spacing = np.array(_value(frame, shared, "PixelMeasuresSequence", "PixelSpacing"), dtype=np.float64)
    k = int(np.argmin(np.abs(geometry.distances - position @ geometry.normal)))
    expected = np.concatenate([geometry.row_direction, geometry.column_direction])
    same = (
        (dataset.Rows, dataset.Columns) == (geometry.rows, geometry.columns)
        and np.allclose(cosines, expected, rtol=0, atol=ANGLE_TOLERANCE)
        and np.allclose(spacing, (geometry.row_spacing, geometry.column_spacing), rtol=1e-3)
        and np.allclose(position, geometry.origins[k], rtol=0, atol=SPACING_TOLERANCE_MM)
    )
    if not same:
        raise InputRefused(
            f"the segmentation does not lie on the pixels of the series: a frame of {dataset.Rows} x {dataset.Columns} "
            f"pixels at {_short(position)} mm, but the nearest of {geometry.shape[0]} slices has {geometry.rows} x "
            f"{geometry.columns} pixels at {_short(geometry.origins[k])} mm; give the series it was made from"
        )
    return k


def _value(frame: Dataset, shared: Dataset, sequence: str, keyword: str) -> Any:
    """An attribute of a functional group, the frame's own or the one that all frames share."""
    items = frame.get(sequence) or shared.get(sequence)
    if not items or not items[0].get(keyword):
        raise InputRefused(f"the segmentation lacks {keyword} in {sequence}, so its frames have no place")
    return items[0][keyword].value


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def _short(position: FloatArray) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in position) + ")"


def _sr(code: Code) -> SRCode:
    return SRCode(code.value, code.scheme, code.meaning)
