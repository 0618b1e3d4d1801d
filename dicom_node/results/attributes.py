"""What an encoded result says beside its masks, held against what it should say.

Everything here is read from the encoded object and compared literally with the source and the structures; nothing is
taken from the code that wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from highdicom.color import CIELabColor
from pydicom import Dataset

from dicom_node.anatomy import Code, Structure
from dicom_node.imaging.volume import Volume
from dicom_node.results.coding import read_code

IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyInstanceUID",
)
SPACING_TOLERANCE_MM = 1e-3


def identity_faults(dataset: Dataset, volume: Volume) -> Iterator[str]:
    """Whose it is, where it lies, and whether it is an object of its own."""
    yield from owner_faults(dataset, volume)
    if str(dataset.get("FrameOfReferenceUID") or "") != str(volume.frame_of_reference_uid or ""):
        yield "FrameOfReferenceUID is not the source's"


def owner_faults(dataset: Dataset, volume: Volume) -> Iterator[str]:
    """Whose it is, and whether it is an object of its own."""
    for keyword in IDENTITY:
        if str(dataset.get(keyword) or "") != str(volume.header.get(keyword) or ""):
            yield f"{keyword} is not the source's"
    if dataset.get("SeriesInstanceUID") in (None, "", volume.series_instance_uid):
        yield "the result would lie in the source's own series"
    own = str(dataset.get("SOPInstanceUID") or "")
    if not own or own in {source.sop_instance_uid for source in volume.sources}:
        yield "the result has no SOPInstanceUID of its own"
    if own != str(dataset.file_meta.get("MediaStorageSOPInstanceUID", own)):
        yield "SOPInstanceUID and the file's meta information differ"


def rtstruct_faults(dataset: Dataset, structures: Mapping[int, Structure]) -> Iterator[str]:
    """Modules, numbers, types, codes and colours of an RT Structure Set (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8).

    ROIs are numbered from 1 in the labels' order.
    """
    for keyword, value in (("Modality", "RTSTRUCT"), ("ApprovalStatus", "UNAPPROVED")):
        if dataset.get(keyword) != value:
            yield f"{keyword} is not {value}"
    if not dataset.get("StructureSetLabel"):
        yield "StructureSetLabel is missing"
    numbered = dict(enumerate((structures[label] for label in sorted(structures)), start=1))
    yield from _once_each(dataset, "StructureSetROISequence", "ROINumber", numbered)
    yield from _once_each(dataset, "ROIContourSequence", "ReferencedROINumber", numbered)
    yield from _once_each(dataset, "RTROIObservationsSequence", "ReferencedROINumber", numbered)
    for roi in dataset.get("StructureSetROISequence", []):
        if roi.get("ROIGenerationAlgorithm") not in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"):
            yield f"{roi.get('ROIName')}: ROIGenerationAlgorithm is missing"
    yield from _roi_faults(dataset, numbered)


def _roi_faults(dataset: Dataset, structures: Mapping[int, Structure]) -> Iterator[str]:
    """Contours, types, codes and colours of each ROI; structures by ROI number."""
    for item in dataset.get("ROIContourSequence", []):
        contours = list(item.get("ContourSequence", []))
        if any(contour.get("ContourGeometricType") != "CLOSED_PLANAR" for contour in contours):
            yield f"ROI {item.get('ReferencedROINumber')}: a contour that is not CLOSED_PLANAR"
        if len({contour.get("ContourNumber") for contour in contours}) < len(contours):
            yield f"ROI {item.get('ReferencedROINumber')}: two contours have one ContourNumber"
        structure = structures.get(int(item.get("ReferencedROINumber") or 0))
        if structure and [int(value) for value in item.get("ROIDisplayColor") or ()] != list(structure.color):
            yield f"{structure.name}: another colour"
    for item in dataset.get("RTROIObservationsSequence", []):
        structure = structures.get(int(item.get("ReferencedROINumber") or 0))
        if structure:
            if str(item.get("RTROIInterpretedType") or "") != structure.interpreted_type:
                yield f"{structure.name}: RTROIInterpretedType is not {structure.interpreted_type}"
            yield from _code_faults(item, structure, "RTROIIdentificationCodeSequence")


def seg_faults(dataset: Dataset, structures: Mapping[int, Structure]) -> Iterator[str]:
    """Modules, codes, colours and tracking of a Segmentation (PS3.3 C.8.20.2): segments stand in the labels' order."""
    if dataset.get("Modality") != "SEG":
        yield "Modality is not SEG"
    # a label map describes its background as segment 0 (PS3.3 C.8.20.2.3.3)
    segments = [item for item in dataset.get("SegmentSequence", []) if item.get("SegmentNumber") != 0]
    if [int(item.get("SegmentNumber") or 0) for item in segments] != list(range(1, len(structures) + 1)):
        yield "segments are not numbered from 1, one for each structure"
    for item, (_, structure) in zip(segments, sorted(structures.items()), strict=False):
        yield from _code_faults(item, structure, "SegmentedPropertyTypeCodeSequence")
        expected = list(CIELabColor.from_rgb(*structure.color).value)
        if [int(value) for value in item.get("RecommendedDisplayCIELabValue") or ()] != [int(v) for v in expected]:
            yield f"{structure.name}: another colour"
        if item.get("TrackingID") != structure.name or not item.get("TrackingUID"):
            yield f"{structure.name}: tracked as {item.get('TrackingID')}"
        if item.get("SegmentAlgorithmType") not in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"):
            yield f"{structure.name}: SegmentAlgorithmType is missing"
    if len({str(item.get("TrackingUID")) for item in segments}) < len(segments):
        yield "two segments have one TrackingUID"


def measure_faults(dataset: Dataset, volume: Volume) -> Iterator[str]:
    """Slice thickness and spacing of a Segmentation: what readers build volumes from."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures = (shared.get("PixelMeasuresSequence") or [Dataset()])[0]
    geometry = volume.geometry
    expected = {"SliceThickness": geometry.slice_thickness, "SpacingBetweenSlices": geometry.slice_spacing}
    for keyword, value in expected.items():
        found = measures.get(keyword)
        if found is not None and abs(float(found) - value) > SPACING_TOLERANCE_MM:
            yield f"{keyword} is {float(found):g} mm, {value:g} mm expected"


def _once_each(dataset: Dataset, sequence: str, keyword: str, structures: Mapping[int, Structure]) -> Iterator[str]:
    counts = Counter(int(item.get(keyword) or 0) for item in dataset.get(sequence, []))
    for number, structure in structures.items():
        if counts[number] != 1:
            yield f"{structure.name}: {counts[number]} items in {sequence}, 1 expected"
    for number in counts.keys() - structures.keys():
        yield f"{sequence} has an item for ROI {number}, which nobody drew"


def _code_faults(item: Dataset, structure: Structure, type_sequence: str) -> Iterator[str]:
    expected: dict[str, Code | None] = {
        type_sequence: structure.type,
        "SegmentedPropertyCategoryCodeSequence": structure.category,
        "AnatomicRegionSequence": structure.region,
    }
    for keyword, code in expected.items():
        found = read_code(item, keyword)
        if (found and (found.value, found.scheme)) != (code and (code.value, code.scheme)):
            yield f"{structure.name}: {keyword} is {found.value if found else 'empty'}"
