"""The header of a Segmentation, made by highdicom from one pixel per slice.

highdicom is given one small header per slice, made from the volume, instead of the source objects: no pixel data is
read, every frame lies on the plane its labels came from (tilted and uneven stacks too), and sources of one or of many
frames take the same way. It makes the modules, the shared functional groups and, for each slice that has labels, the
functional groups of one frame; frames and references to the true source instances are put in afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as SRCode
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import DSfloat

from dicom_node.anatomy import Code
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile, SegKind
from dicom_node.results.coding import type_item
from dicom_node.results.identity import RESEARCH_NOTE, Provenance, tracking_uid
from dicom_node.results.seg_frames import Segment
from dicom_node.uids import MANUFACTURER

_STAND_IN = "2.25.1"
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


def segmentation_header(
    volume: Volume, descriptions: Sequence[SegmentDescription], kind: SegKind, slices: Collection[int]
) -> Dataset:
    """A Segmentation without frames, whose per-frame groups are those of one frame for each slice.

    Args:
        volume: The source.
        descriptions: Its segments.
        kind: SegmentationType.
        slices: Which slices of the volume have frames.

    Returns:
        The data set with ``file_meta``. Identifiers of patient, study, series and instance are stand-ins; so are those
        of the source images, which :func:`slice_of` understands. PixelData is absent.
    """
    pixels = np.zeros((len(volume.geometry.origins), 1, 1), dtype=np.uint8)
    pixels[list(slices)] = 1
    made = Segmentation(
        source_images=_slice_headers(volume),
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=_STAND_IN,
        series_number=1,
        sop_instance_uid=_STAND_IN,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=MANUFACTURER,
        device_serial_number=MANUFACTURER,
        content_label="SEGMENTATION",
        content_description=RESEARCH_NOTE,
        max_fractional_value=255,
    )
    dataset = Dataset()  # without highdicom's tables for reading
    dataset.update(made)
    dataset.file_meta = made.file_meta
    correct_ambiguous_vr(dataset, is_little_endian=True)
    dataset.Rows, dataset.Columns = volume.geometry.rows, volume.geometry.columns
    if len(pixels) == 1:  # highdicom says 1 mm there, and readers make the volume's thickness of it
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = _decimals([volume.geometry.slice_thickness])[0]
    if kind == "LABELMAP":
        _move_background_last(dataset)
    del dataset.PixelData
    return dataset


def slice_of(group: Dataset) -> int:
    """The slice that an item of per-frame groups lies on, from the stand-in of its source."""
    return int(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID.rpartition(".")[2])


def describe(
    segment: Segment, volume: Volume, provenance: Provenance, profile: Profile, remark: str | None
) -> SegmentDescription:
    """The item of SegmentSequence for one structure.

    Its label stands at the beginning of SegmentDescription (ST, 1024 characters), where readers of ours find it.
    """
    structure = segment.structure
    description = SegmentDescription(
        segment_number=segment.number,
        segment_label=profile.segment_label(structure),
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
        tracking_uid=tracking_uid(volume.header, structure.name),
        tracking_id=structure.name,
        anatomic_regions=[_sr(structure.region)] if structure.region else None,
        display_color=CIELabColor.from_rgb(*structure.color),
    )
    description["SegmentedPropertyTypeCodeSequence"].value = [type_item(structure)]
    description.SegmentDescription = f"label {segment.label}{f'. {remark}' if remark else ''}"[:1024]
    return description


def _move_background_last(dataset: Dataset) -> None:
    """Put segment 0 behind the others: items have no order (PS3.3 C.8.20.2), but some viewers count them.

    OHIF up to 3.13.2 gives segment n the colour of item n (cornerstone3D pull request 2882), and 3D Slicer took names
    that way (Slicer pull request 9163). With the background first each structure had the colour of the one before.
    """
    background, *structures = dataset.SegmentSequence
    dataset.SegmentSequence = [*structures, background]


def _slice_headers(volume: Volume) -> list[Dataset]:
    """What highdicom asks of source objects, slice by slice: of one pixel each.

    The slice's number stands for its SOP instance, which tells where a frame came from whatever objects the slices are
    stored in.
    """
    geometry = volume.geometry
    shared = Dataset()
    for keyword in _PLACEHOLDERS:
        setattr(shared, keyword, "")
    shared.StudyInstanceUID = shared.SeriesInstanceUID = shared.FrameOfReferenceUID = _STAND_IN
    shared.SOPClassUID = CTImageStorage if volume.modality == "CT" else MRImageStorage
    shared.Modality = volume.modality
    shared.Rows = shared.Columns = 1
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


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def _sr(code: Code) -> SRCode:
    return SRCode(code.value, code.scheme, code.meaning)
