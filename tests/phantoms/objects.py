"""DICOM objects of a phantom: CT and MR Image Storage, Enhanced CT and Enhanced MR Image Storage."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, EnhancedMRImageStorage, MRImageStorage

from dicom_node.imaging.geometry import Geometry
from tests.phantoms.encoding import set_pixel_data
from tests.phantoms.enhanced import functional_groups, multi_frame_module
from tests.phantoms.spec import RESCALE_INTERCEPT, PhantomSpec, decimals

SOP_CLASSES = {
    ("CT", False): CTImageStorage,
    ("MR", False): MRImageStorage,
    ("CT", True): EnhancedCTImageStorage,
    ("MR", True): EnhancedMRImageStorage,
}
IMPLEMENTATION = UID("1.2.826.0.1.3680043.8.498.45787841905188114249811577301011181236")
WHEN = ("20260102", "030405")


def single_frame_objects(spec: PhantomSpec, geometry: Geometry, voxels: npt.NDArray[np.int16]) -> list[Dataset]:
    """One CT or MR Image per slice, in the geometry's order."""
    count = geometry.shape[0]
    numbers = range(count, 0, -1) if spec.reverse_order else range(1, count + 1)
    return [_single_frame(spec, geometry, voxels[k], k, number) for k, number in enumerate(numbers)]


def enhanced_object(spec: PhantomSpec, geometry: Geometry, voxels: npt.NDArray[np.int16]) -> list[Dataset]:
    """One Enhanced CT or Enhanced MR object that holds every slice; frames run against the normal if reversed."""
    dataset = _patient_and_study(spec, spec.uid("instance"))
    dataset.InstanceNumber = "1"
    dataset.NumberOfFrames = str(len(voxels))
    order = list(range(len(voxels)))[:: -1 if spec.reverse_order else 1]
    multi_frame_module(dataset, spec)
    functional_groups(dataset, spec, geometry, order)
    _image_pixel_module(dataset, geometry)
    set_pixel_data(dataset, _stored(spec, voxels[order]), spec.transfer_syntax)
    return [dataset]


def _single_frame(spec: PhantomSpec, geometry: Geometry, voxels: npt.NDArray[np.int16], k: int, number: int) -> Dataset:
    dataset = _patient_and_study(spec, spec.uid("instance", k))
    dataset.InstanceNumber = str(number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if spec.modality == "CT" else "OTHER"]
    dataset.ImagePositionPatient = decimals(geometry.origins[k])
    dataset.ImageOrientationPatient = decimals(geometry.row_direction) + decimals(geometry.column_direction)
    dataset.PixelSpacing = decimals([geometry.row_spacing, geometry.column_spacing])
    dataset.SliceThickness = decimals([geometry.slice_thickness])[0]
    dataset.SliceLocation = decimals([geometry.distances[k]])[0]
    _acquisition(dataset, spec)
    _image_pixel_module(dataset, geometry)
    set_pixel_data(dataset, _stored(spec, voxels), spec.transfer_syntax)
    return dataset


def _acquisition(dataset: Dataset, spec: PhantomSpec) -> None:
    dataset.AcquisitionNumber = "1"
    if spec.modality == "CT":
        dataset.KVP = "120"
        dataset.RescaleIntercept = str(RESCALE_INTERCEPT["CT"])
        dataset.RescaleSlope = "1"
        dataset.RescaleType = "HU"
        dataset.GantryDetectorTilt = decimals([spec.tilt_degrees])[0]
        return
    dataset.ScanningSequence = "SE"
    dataset.SequenceVariant = "SK"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime = "520"
    dataset.EchoTime = "11"
    dataset.EchoTrainLength = "1"
    dataset.MagneticFieldStrength = "1.5"
    dataset.EchoNumbers = "1"


def _patient_and_study(spec: PhantomSpec, sop_instance_uid: UID) -> Dataset:
    """Everything that does not depend on the slice's place."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION
    dataset.file_meta.MediaStorageSOPInstanceUID = sop_instance_uid
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SOP_CLASSES[spec.modality, spec.multiframe]
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.PatientName = f"Phantom^{spec.anatomy.title()}"
    dataset.PatientID = spec.patient_id
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    study = PhantomSpec(patient_id=spec.patient_id, seed=spec.seed)
    dataset.StudyInstanceUID = study.uid("study")
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = WHEN[0]
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = WHEN[1]
    dataset.StudyDescription = "Phantom study"
    dataset.Modality = spec.modality
    dataset.SeriesInstanceUID = spec.uid("series")
    dataset.SeriesNumber = "1" if spec.modality == "CT" else "2"
    dataset.SeriesDescription = spec.series_description
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "KNEE" if spec.anatomy == "knee" else "ABDOMEN"
    if spec.anatomy == "knee" and not spec.multiframe:
        dataset.Laterality = "L"
    dataset.FrameOfReferenceUID = spec.frame_of_reference or spec.uid("frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "Phantom"
    dataset.ManufacturerModelName = "Analytic"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    return dataset


def _image_pixel_module(dataset: Dataset, geometry: Geometry) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = geometry.rows, geometry.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0


def _stored(spec: PhantomSpec, voxels: npt.NDArray[np.int16]) -> npt.NDArray[np.uint16]:
    return (voxels - RESCALE_INTERCEPT[spec.modality]).astype(np.uint16)
