"""The modules that only multi-frame phantoms have (PS3.3 A.36.2, A.38.2, C.7.6.16, C.7.6.17, C.8.13, C.8.15)."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicom_node.imaging.geometry import Geometry
from tests.phantoms.enhanced_macros import code, ct_macros, item, mr_macros, mr_pulse_sequence
from tests.phantoms.spec import RESCALE_INTERCEPT, PhantomSpec, decimals

WHEN = "20260102030405"


def multi_frame_module(dataset: Dataset, spec: PhantomSpec) -> None:
    """Image-level attributes of Enhanced CT and Enhanced MR."""
    for keyword in ("AcquisitionDate", "AcquisitionTime"):
        delattr(dataset, keyword)
    dataset.AcquisitionDateTime = WHEN
    dataset.AcquisitionDuration = 10.0
    dataset.AcquisitionNumber = "1"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.ContentQualification = "RESEARCH"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = Sequence()
    if spec.modality == "MR":
        _mr_image(dataset)
    else:
        dataset.MultienergyCTAcquisition = "NO"


def functional_groups(dataset: Dataset, spec: PhantomSpec, geometry: Geometry, order: list[int]) -> None:
    """Shared and per-frame functional groups, with a dimension along the stack.

    Args:
        dataset: Gets the sequences.
        spec: Modality and identifiers.
        geometry: The planes.
        order: Slice of the geometry that each frame holds.
    """
    organization = item(DimensionOrganizationUID=spec.uid("dimensions"))
    dataset.DimensionOrganizationSequence = Sequence([organization])
    dataset.DimensionOrganizationType = "3D"
    dataset.DimensionIndexSequence = Sequence(
        item(
            DimensionOrganizationUID=organization.DimensionOrganizationUID,
            DimensionIndexPointer=_tag(pointer),
            FunctionalGroupPointer=_tag("FrameContentSequence"),
            DimensionDescriptionLabel=label,
        )
        for pointer, label in (("StackID", "Stack"), ("InStackPositionNumber", "Position in stack"))
    )
    dataset.SharedFunctionalGroupsSequence = Sequence([_shared(spec, geometry)])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(_per_frame(geometry, k) for k in order)


def _shared(spec: PhantomSpec, geometry: Geometry) -> Dataset:
    directions = decimals(geometry.row_direction) + decimals(geometry.column_direction)
    rescale_type = {"CT": "HU", "MR": "US"}[spec.modality]
    knee = spec.anatomy == "knee"
    region = code("72696002", "Knee") if knee else code("818981001", "Abdomen")
    macros = {
        "PlaneOrientationSequence": item(ImageOrientationPatient=directions),
        "PixelMeasuresSequence": item(
            PixelSpacing=decimals([geometry.row_spacing, geometry.column_spacing]),
            SliceThickness=decimals([geometry.slice_thickness])[0],
        ),
        "PixelValueTransformationSequence": item(
            RescaleIntercept=str(RESCALE_INTERCEPT[spec.modality]), RescaleSlope="1", RescaleType=rescale_type
        ),
        "FrameAnatomySequence": item(FrameLaterality="L" if knee else "U", AnatomicRegionSequence=Sequence([region])),
        "FrameVOILUTSequence": item(WindowCenter="40", WindowWidth="400"),
        **(ct_macros(spec) if spec.modality == "CT" else mr_macros()),
    }
    return item(**{keyword: Sequence([content]) for keyword, content in macros.items()})


def _per_frame(geometry: Geometry, k: int) -> Dataset:
    content = item(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=WHEN,
        FrameAcquisitionDateTime=WHEN,
        FrameAcquisitionDuration=100.0,
        StackID="1",
        InStackPositionNumber=k + 1,
        DimensionIndexValues=[1, k + 1],
    )
    frame = Dataset()
    frame.FrameContentSequence = Sequence([content])
    frame.PlanePositionSequence = Sequence([item(ImagePositionPatient=decimals(geometry.origins[k]))])
    return frame


def _mr_image(dataset: Dataset) -> None:
    dataset.ComplexImageComponent = "MAGNITUDE"
    dataset.AcquisitionContrast = "T1"
    dataset.ResonantNucleus = "1H"
    dataset.KSpaceFiltering = "NONE"
    dataset.MagneticFieldStrength = 1.5
    dataset.ApplicableSafetyStandardAgency = "IEC"
    dataset.ApplicableSafetyStandardDescription = "IEC 60601-2-33"
    mr_pulse_sequence(dataset)


def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return BaseTag(tag)
