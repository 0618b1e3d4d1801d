"""Planes: each slice of a series as one value, whether it is a file of its own or a frame of a multi-frame object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage

from dicom_node.errors import SeriesRefused
from dicom_node.imaging.geometry import ANGLE_TOLERANCE, FloatArray
from dicom_node.imaging.instances import Instance
from dicom_node.imaging.volume import SourceSlice

MULTI_FRAME_CLASSES = {EnhancedCTImageStorage, EnhancedMRImageStorage}

TRAITS = {
    "EchoTime": "echo time",
    "EchoNumbers": "echo number",
    "DiffusionBValue": "diffusion b-value",
    "DiffusionGradientOrientation": "diffusion direction",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "TemporalPositionIdentifier": "time point",
    "NominalCardiacTriggerDelayTime": "cardiac phase",
    "TriggerTime": "trigger time",
    "ComplexImageComponent": "magnitude or phase",
    "ImageType": "image type",
    "StackID": "stack",
    "KVP": "tube voltage",
    "ConvolutionKernel": "reconstruction kernel",
    "ReconstructionDiameter": "reconstruction diameter",
    "AcquisitionNumber": "acquisition",
    "AcquisitionTime": "acquisition time",
    "ContentTime": "content time",
}
"""What may tell apart two images of one place, the most telling first; keyword to plain words."""

FUNCTIONAL_GROUP_TRAITS = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "NominalCardiacTriggerDelayTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "StackID": ("FrameContentSequence", "StackID"),
    "KVP": ("CTXRayDetailsSequence", "KVP"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "AcquisitionTime": ("FrameContentSequence", "FrameAcquisitionDateTime"),
}
"""Where Enhanced CT and Enhanced MR keep the traits (PS3.3 C.7.6.16.2, C.8.13.5, C.8.15.3)."""

PRIVATE_B_VALUES = {
    (0x0019, 0x0010, 0x100C): "SIEMENS MR HEADER",
    (0x2001, 0x0010, 0x1003): "Philips Imaging DD 001",
    (0x0043, 0x0010, 0x1039): "GEMS_PARM_01",
}
"""(group, creator element, element) of diffusion b-values that older scanners keep in private attributes."""


LARGEST_NUMBER = 1e12
"""No position, spacing, rescale or b-value of a scanner is larger (GE adds 1e9 to b-values); products of two stay
finite in single precision."""


LARGEST_WHOLE_SLOPE = 2**30
"""Times a stored value of 32 bits it is still an integer of 64 bits."""


@dataclass(frozen=True)
class Rescale:
    """From stored values to modality units: ``stored * slope + intercept`` (PS3.3 C.11.1.1)."""

    slope: float
    intercept: float
    type: str = ""

    @property
    def is_integer(self) -> bool:
        """Whether integers stay integers, of 64 bits at most."""
        return self.slope.is_integer() and self.intercept.is_integer() and abs(self.slope) <= LARGEST_WHOLE_SLOPE


@dataclass(frozen=True)
class Plane:
    """One slice.

    Attributes:
        source: Instance and frame it comes from.
        name: What messages call it: ``image 7`` or ``frame 3 of image 1``.
        number: InstanceNumber, or frame number; orders the names in messages.
        position: (3,) patient_mm of the centre of its first voxel (ImagePositionPatient).
        row_direction: (3,) unit vector along which columns grow.
        column_direction: (3,) unit vector along which rows grow.
        pixel_spacing: mm between rows, mm between columns.
        rows: Number of rows.
        columns: Number of columns.
        slice_thickness: mm; None where the header has none.
        rescale: Modality rescale; None where the header has none.
        traits: What the header says of TRAITS, as text.
        frame_of_reference_uid: FrameOfReferenceUID; None where the header has none.
    """

    source: SourceSlice
    name: str
    number: int
    position: FloatArray
    row_direction: FloatArray
    column_direction: FloatArray
    pixel_spacing: tuple[float, float]
    rows: int
    columns: int
    slice_thickness: float | None
    rescale: Rescale | None
    frame_of_reference_uid: str | None
    traits: Mapping[str, str] = field(default_factory=dict)

    @property
    def normal(self) -> FloatArray:
        """(3,) unit normal, row_direction x column_direction."""
        return np.asarray(np.cross(self.row_direction, self.column_direction))


def planes_of(instance: Instance) -> list[Plane]:
    """Every slice that an instance holds.

    Raises:
        SeriesRefused: A slice does not say where it lies (kind ``no-geometry``) or says it wrongly.
    """
    header = instance.header
    frames = int(header.get("NumberOfFrames") or 1)
    if instance.sop_class_uid not in MULTI_FRAME_CLASSES:
        if frames > 1:
            raise _without_geometry(instance.name, f"holds {frames} frames but is not an Enhanced CT or MR object")
        return [_plane(instance, header, [header], frame=None)]
    shared = next(iter(_items(header, "SharedFunctionalGroupsSequence")), Dataset())
    groups = _items(header, "PerFrameFunctionalGroupsSequence")
    if len(groups) != frames:
        raise _without_geometry(instance.name, f"describes {len(groups)} of its {frames} frames")
    return [_plane(instance, header, [group, shared, header], frame=k) for k, group in enumerate(groups, start=1)]


def names_of(planes: Iterable[Plane], limit: int = 6) -> str:
    """Their names in the order of their numbers, shortened: ``images 1, 2, 3``; ``frames 2, 5 of image 1``."""
    chosen = sorted(planes, key=lambda plane: plane.number)
    shown = [plane.name for plane in chosen[:limit]]
    more = f" and {len(chosen) - limit} more" if len(chosen) > limit else ""
    if len(shown) > 1 and all(name.startswith("image ") for name in shown):
        return "images " + ", ".join(name.removeprefix("image ") for name in shown) + more
    return ", ".join(shown) + more


def _plane(instance: Instance, header: Dataset, groups: list[Dataset], *, frame: int | None) -> Plane:
    name = instance.name if frame is None else f"frame {frame} of {instance.name}"
    position = _numbers(_attribute(groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
    orientation = _numbers(_attribute(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = _numbers(_attribute(groups, "PixelMeasuresSequence", "PixelSpacing"), 2)
    missing = [
        keyword
        for keyword, value in (
            ("ImagePositionPatient", position),
            ("ImageOrientationPatient", orientation),
            ("PixelSpacing", spacing),
        )
        if value is None
    ]
    if position is None or orientation is None or spacing is None:
        raise _without_geometry(name, f"has no valid {' and '.join(missing)}")
    if spacing.min() <= 0:
        raise _without_geometry(name, f"has pixels of {spacing[0]:g} x {spacing[1]:g} mm")
    row, column = _unit_directions(name, orientation)
    thickness = _numbers(_attribute(groups, "PixelMeasuresSequence", "SliceThickness"), 1)
    return Plane(
        source=SourceSlice(instance.path, str(instance.sop_class_uid), instance.sop_instance_uid, frame),
        name=name,
        number=frame if frame is not None else instance.number or 0,
        position=position,
        row_direction=row,
        column_direction=column,
        pixel_spacing=(float(spacing[0]), float(spacing[1])),
        rows=int(header.Rows),
        columns=int(header.Columns),
        slice_thickness=float(thickness[0]) if thickness is not None and thickness[0] > 0 else None,
        rescale=_rescale(groups),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or "") or None,
        traits=_traits(header, groups, is_frame=frame is not None),
    )


def _attribute(groups: list[Dataset], sequence: str, keyword: str) -> object:
    """An attribute from the first functional group that has it; from the header itself in single-frame objects."""
    for group in groups:
        items = _items(group, sequence)
        if items and items[0].get(keyword) not in (None, ""):
            return items[0].get(keyword)
    return groups[-1].get(keyword) if len(groups) == 1 else None


def _items(group: Dataset, sequence: str) -> list[Dataset]:
    """Items of a sequence; none where a damaged header has something else in its place."""
    found = group.get(sequence)
    return list(found) if isinstance(found, Sequence) else []


def _unit_directions(name: str, orientation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Row and column direction with the rounding of their decimals taken out.

    Raises:
        SeriesRefused: They are no right angle or no unit vectors (PS3.3 C.7.6.2.1.1).
    """
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if abs(lengths[0] - 1) > 10 * ANGLE_TOLERANCE or abs(lengths[1] - 1) > 10 * ANGLE_TOLERANCE:
        raise _without_geometry(name, "has an ImageOrientationPatient that is no pair of unit vectors")
    if abs(row @ column) > 10 * ANGLE_TOLERANCE:
        raise _without_geometry(name, "has rows and columns that are not at a right angle (ImageOrientationPatient)")
    row = row / lengths[0]
    column = column - row * (column @ row)
    return row, np.asarray(column / np.linalg.norm(column))


def _rescale(groups: list[Dataset]) -> Rescale | None:
    slope = _numbers(_attribute(groups, "PixelValueTransformationSequence", "RescaleSlope"), 1)
    intercept = _numbers(_attribute(groups, "PixelValueTransformationSequence", "RescaleIntercept"), 1)
    if slope is None or intercept is None:
        return None
    kind = _attribute(groups, "PixelValueTransformationSequence", "RescaleType")
    return Rescale(float(slope[0]), float(intercept[0]), str(kind or "").strip().upper())


def _traits(header: Dataset, groups: list[Dataset], *, is_frame: bool) -> dict[str, str]:
    traits = {keyword: _text(header.get(keyword)) for keyword in TRAITS}
    if not is_frame:
        traits["DiffusionBValue"] = traits["DiffusionBValue"] or _private_b_value(header)
        return {keyword: text for keyword, text in traits.items() if text}
    for keyword, (sequence, name) in FUNCTIONAL_GROUP_TRAITS.items():
        traits[keyword] = _text(_attribute(groups, sequence, name))
    for sequence in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"):
        traits["ImageType"] = _text(_attribute(groups, sequence, "FrameType")) or traits["ImageType"]
        component = _text(_attribute(groups, sequence, "ComplexImageComponent"))
        traits["ComplexImageComponent"] = component or traits["ComplexImageComponent"]
    traits["DiffusionGradientOrientation"] = _frame_gradient(groups)
    return {keyword: text for keyword, text in traits.items() if text}


def _frame_gradient(groups: list[Dataset]) -> str:
    for group in groups:
        for diffusion in _items(group, "MRDiffusionSequence"):
            for direction in _items(diffusion, "DiffusionGradientDirectionSequence"):
                return _text(direction.get("DiffusionGradientOrientation"))
    return ""


def _private_b_value(header: Dataset) -> str:
    for (group, creator, element), owner in PRIVATE_B_VALUES.items():
        if str(header[group, creator].value if (group, creator) in header else "").strip() != owner:
            continue
        value = header[group, element].value if (group, element) in header else None
        first = value.decode("ascii", errors="replace").split("\\")[0] if isinstance(value, bytes) else value
        if isinstance(first, MultiValue):
            first = first[0] if first else None
        number = _numbers(first, 1)
        if number is not None:
            return f"{number[0] % 1e9:g}"  # GE adds 1e9 to mark the value as valid
    return ""


def _numbers(value: object, count: int) -> FloatArray | None:
    """Exactly ``count`` numbers of a plausible size, or None."""
    if value is None or value == "":
        return None
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError, OverflowError):
        return None
    is_plausible = numbers.shape == (count,) and bool((np.abs(numbers) <= LARGEST_NUMBER).all())  # false for NaN too
    return numbers if is_plausible else None


def _text(value: object) -> str:
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _without_geometry(name: str, what: str) -> SeriesRefused:
    return SeriesRefused(
        f"{name} {what}, so its place in the patient is unknown. Send the series as the scanner made it.",
        kind="no-geometry",
    )
