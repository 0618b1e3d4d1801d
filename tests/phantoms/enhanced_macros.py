"""Functional group macros of Enhanced CT and Enhanced MR that say how an image was acquired (PS3.3 C.8.13, C.8.15)."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.sequence import Sequence

from tests.phantoms.spec import CENTRE_MM, PhantomSpec


def item(**attributes: object) -> Dataset:
    """A sequence item of these attributes."""
    content = Dataset()
    for keyword, value in attributes.items():
        setattr(content, keyword, value)
    return content


def ct_macros(spec: PhantomSpec) -> dict[str, Dataset]:
    """Sequence keyword to its item, for the shared groups of an Enhanced CT."""
    return {
        "CTImageFrameTypeSequence": _frame_type(),
        "IrradiationEventIdentificationSequence": item(IrradiationEventUID=spec.uid("irradiation")),
        "CTAcquisitionTypeSequence": item(AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"),
        "CTAcquisitionDetailsSequence": item(
            RotationDirection="CW",
            RevolutionTime=1.0,
            SingleCollimationWidth=2.0,
            TotalCollimationWidth=40.0,
            TableHeight=0.0,
            GantryDetectorTilt=str(float(spec.tilt_degrees)),
            DataCollectionDiameter="500",
        ),
        "CTTableDynamicsSequence": item(TableFeedPerRotation=10.0),
        "CTPositionSequence": item(
            TablePosition=0.0,
            DataCollectionCenterPatient=[float(value) for value in CENTRE_MM],
            ReconstructionTargetCenterPatient=[float(value) for value in CENTRE_MM],
        ),
        "CTGeometrySequence": item(DistanceSourceToDetector="1000", DistanceSourceToDataCollectionCenter=540.0),
        "CTReconstructionSequence": item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel="B",
            ConvolutionKernelGroup="SOFT_TISSUE",
            ReconstructionDiameter="500",
            ReconstructionPixelSpacing=[spec.row_spacing, spec.column_spacing],
            ReconstructionAngle=360.0,
            ImageFilter="NONE",
        ),
        "CTExposureSequence": item(
            ExposureTimeInms=1000.0,
            XRayTubeCurrentInmA=100.0,
            ExposureInmAs=100.0,
            ExposureModulationType="NONE",
            CTDIvol=5.0,
            CTDIPhantomTypeCodeSequence=Sequence([code("113691", "IEC Body Dosimetry Phantom", "DCM")]),
        ),
        "CTXRayDetailsSequence": item(KVP="120", FocalSpots=1.0, FilterType="NONE", FilterMaterial="ALUMINUM"),
    }


def mr_macros() -> dict[str, Dataset]:
    """Sequence keyword to its item, for the shared groups of an Enhanced MR."""
    frame_type = _frame_type()
    frame_type.ComplexImageComponent = "MAGNITUDE"
    frame_type.AcquisitionContrast = "T1"
    coil = {"ReceiveCoilName": "BODY", "ReceiveCoilManufacturerName": "", "ReceiveCoilType": "BODY"}
    return {
        "MRImageFrameTypeSequence": frame_type,
        "MREchoSequence": item(EffectiveEchoTime=11.0),
        "MRTimingAndRelatedParametersSequence": item(
            RepetitionTime="520",
            FlipAngle="90",
            EchoTrainLength="1",
            RFEchoTrainLength=1,
            GradientEchoTrainLength=0,
            SpecificAbsorptionRateSequence=Sequence(
                [item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.5)]
            ),
            GradientOutputType="DB_DT",
            GradientOutput=1.0,
            OperatingModeSequence=Sequence(
                [
                    item(OperatingModeType=kind, OperatingMode="IEC_NORMAL")
                    for kind in ("STATIC FIELD", "RF", "GRADIENT")
                ]
            ),
        ),
        "MRModifierSequence": item(
            InversionRecovery="NO",
            FlowCompensation="NONE",
            Spoiling="NONE",
            T2Preparation="NO",
            SpectrallySelectedExcitation="NONE",
            SpatialPresaturation="NONE",
            PartialFourier="NO",
            ParallelAcquisition="NO",
        ),
        "MRImagingModifierSequence": item(
            MagnetizationTransfer="NONE",
            BloodSignalNulling="NO",
            Tagging="NONE",
            TransmitterFrequency=63.9,
            PixelBandwidth="200",
        ),
        "MRReceiveCoilSequence": item(**coil, QuadratureReceiveCoil="YES"),
        "MRTransmitCoilSequence": item(
            TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY"
        ),
        "MRAveragesSequence": item(NumberOfAverages="1"),
        "MRFOVGeometrySequence": item(
            InPlanePhaseEncodingDirection="ROW",
            MRAcquisitionFrequencyEncodingSteps=256,
            MRAcquisitionPhaseEncodingStepsInPlane=256,
            PercentSampling="100",
            PercentPhaseFieldOfView="100",
        ),
    }

    """Encoding steps of the imagined acquisition."""
    return 256


def mr_pulse_sequence(dataset: Dataset) -> None:
    """MR Pulse Sequence module (PS3.3 C.8.13.4) of a plain spin echo."""
    for keyword, value in {
        "PulseSequenceName": "SE",
        "MRAcquisitionType": "2D",
        "EchoPulseSequence": "SPIN",
        "MultipleSpinEcho": "NO",
        "MultiPlanarExcitation": "NO",
        "PhaseContrast": "NO",
        "TimeOfFlightContrast": "NO",
        "SteadyStatePulseSequence": "NONE",
        "EchoPlanarPulseSequence": "NO",
        "SaturationRecovery": "NO",
        "SpectrallySelectedSuppression": "NONE",
        "OversamplingPhase": "NONE",
        "GeometryOfKSpaceTraversal": "RECTILINEAR",
        "RectilinearPhaseEncodeReordering": "LINEAR",
        "SegmentedKSpaceTraversal": "SINGLE",
        "NumberOfKSpaceTrajectories": 1,
    }.items():
        setattr(dataset, keyword, value)


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    """A code sequence item."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _frame_type() -> Dataset:
    return item(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
