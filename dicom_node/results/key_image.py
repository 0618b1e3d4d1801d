"""A key image for viewers that show no segmentations: a Secondary Capture (PS3.3 A.8.1) with the contours drawn in.

One single-frame image in native RGB, Explicit VR little endian: whatever takes images at all takes this class and
shows it, multi-frame secondary captures and compressed ones it need not.
"""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.anatomy import Code
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.coding import code_item
from dicom_node.results.identity import (
    RESEARCH_NOTE,
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
from dicom_node.results.key_image_layout import lay_out
from dicom_node.results.key_image_picture import Picture, draw_key_image
from dicom_node.uids import SECONDARY_CAPTURE

_REFORMATTING: Final = Code("113072", "Multiplanar reformatting", "DCM")
"""Of CID 7203, image derivation."""


def encode_key_image(
    volume: Volume, labels: LabelVolume, provenance: Provenance, profile: Profile | None = None
) -> Dataset:
    """A key image of every structure that has voxels and is wanted.

    Args:
        volume: The source.
        labels: Labels on the very slices of ``volume``.
        provenance: What made the labels.
        profile: Which structures are wanted, and what they are called; the default profile where None.

    Returns:
        The data set with ``file_meta``. No text of the patient or the study stands in its pixels.

    Raises:
        InputRefused: The source has no FrameOfReferenceUID, or no wanted structure has a voxel.
    """
    profile = profile or Profile()
    frame_of_reference(volume)  # as for every result: without one nobody can tell what the planes lie in
    if not any(profile.wants(structure) for _, structure in labels.present()):
        raise nothing_found(volume, profile)
    dataset = _header(volume, provenance, profile)
    _add_pixels(dataset, draw_key_image(volume, labels, lay_out(labels, profile)))
    return dataset


def _header(volume: Volume, provenance: Provenance, profile: Profile) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SECONDARY_CAPTURE
    series, instance = (
        derived_uid(provenance.case_id, derived_role("sc", profile.identity, name)) for name in ("series", "instance")
    )
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = instance, series
    add_source_identity(dataset, volume.header)
    add_equipment(dataset, volume, provenance)
    add_times(dataset, provenance, "InstanceCreation", "Series", "Content")
    dataset.Modality = "OT"  # not the source's: nobody may take it for an acquired series
    dataset.SeriesNumber = series_number(volume, "SC")
    dataset.SeriesDescription = series_description(volume, provenance, "KEY IMAGE")
    dataset.InstanceNumber = 1
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""  # several planes, each with letters of its own
    _add_body_part(dataset, volume.header)
    dataset.DerivationDescription = f"Planes with contours of {provenance.algorithm}. {RESEARCH_NOTE}."
    dataset.DerivationCodeSequence = [code_item(_REFORMATTING)]
    dataset.SourceImageSequence = list(_source_items(volume).values())
    _add_what_pixels_inherit(dataset, volume.header)
    return dataset


def _add_body_part(dataset: Dataset, header: Dataset) -> None:
    """As the source has it: of a paired part the side has to be said, and is empty where nobody knows the part."""
    known = [copy_element(header, dataset, keyword) for keyword in ("BodyPartExamined", "Laterality")]
    if not any(known):
        dataset.Laterality = ""


def _source_items(volume: Volume) -> dict[str, Dataset]:
    items = {}
    for source in volume.sources:
        item = Dataset()
        item.ReferencedSOPClassUID = source.sop_class_uid
        item.ReferencedSOPInstanceUID = source.sop_instance_uid
        items[source.sop_instance_uid] = item
    return items


def _add_what_pixels_inherit(dataset: Dataset, header: Dataset) -> None:
    """What was burned in or lost before stays so; nothing of the patient is added."""
    dataset.BurnedInAnnotation = "YES" if header.get("BurnedInAnnotation") == "YES" else "NO"
    copy_element(header, dataset, "RecognizableVisualFeatures")
    dataset.LossyImageCompression = "00"
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        copy_element(header, dataset, keyword)


def _add_pixels(dataset: Dataset, picture: Picture) -> None:
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = picture.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    content = picture.tobytes()
    dataset.add_new("PixelData", "OB", content + b"\0" * (len(content) % 2))
