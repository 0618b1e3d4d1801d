"""A Segmentation as highdicom's documentation makes it: source images and a label map in. Oracle and bench call it."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from dicom_node.anatomy import Structure
from dicom_node.imaging.label_volume import LabelVolume


def plain_segmentation(
    images: Sequence[Dataset], labels: LabelVolume, kind: str, algorithm: AlgorithmIdentificationSequence
) -> Segmentation:
    return Segmentation(
        source_images=images,
        pixel_array=labels.labels,
        segmentation_type=kind,
        segment_descriptions=[
            _description(label, structure, algorithm) for label, structure in labels.structures.items()
        ],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="dicom-node",
        manufacturer_model_name="model",
        software_versions="1",
        device_serial_number="1",
        max_fractional_value=255,
    )


def _description(label: int, structure: Structure, algorithm: AlgorithmIdentificationSequence) -> SegmentDescription:
    return SegmentDescription(
        segment_number=label,
        segment_label=structure.name,
        segmented_property_category=Code(structure.category.value, "SCT", structure.category.meaning),
        segmented_property_type=Code(structure.type.value, "SCT", structure.type.meaning),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=generate_uid(),
        tracking_id=structure.name,
        display_color=CIELabColor.from_rgb(*structure.color),
    )
