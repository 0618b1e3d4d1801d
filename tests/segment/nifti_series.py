"""A NIfTI CT and its labels as an axial DICOM series with the labels on its slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def read_lps(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(voxels (k, j, i), LPS position of the first, spacing (k, j, i)); k headwards, j posterior, i left.

    Only for files whose axes are the patient's axes; nothing is resampled.
    """
    image = nibabel.as_closest_canonical(nibabel.load(path))
    assert np.allclose(image.affine[:3, :3], np.diag(np.diag(image.affine[:3, :3])), atol=1e-4)
    voxels = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    first = nibabel.affines.apply_affine(image.affine, [image.shape[0] - 1, image.shape[1] - 1, 0])
    return voxels, first * np.array([-1, -1, 1]), np.array(image.header.get_zooms()[::-1], dtype=np.float64)


def write_ct_series(path: Path, folder: Path) -> None:
    """Write a NIfTI CT (Hounsfield units) as CT Image objects: 16 bit signed, rescale intercept -1024."""
    voxels, first, spacing = read_lps(path)
    stored = (np.rint(voxels) + 1024).astype("<i2")
    entropy = [path.name]
    shared = {
        "StudyInstanceUID": generate_uid(entropy_srcs=[*entropy, "study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=[*entropy, "series"]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=[*entropy, "frame"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for k, plane in enumerate(stored):
        uid = generate_uid(entropy_srcs=[*entropy, str(k)])
        dataset = _image(plane, first + np.array([0, 0, k * spacing[0]]), spacing, {**shared, "SOPInstanceUID": uid})
        dataset.InstanceNumber = str(k + 1)
        dataset.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def _image(
    plane: npt.NDArray[np.int16],
    position: npt.NDArray[np.float64],
    spacing: npt.NDArray[np.float64],
    uids: dict[str, str],
) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uids["SOPInstanceUID"]
    attributes: dict[str, Any] = {
        **uids,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientName": "Example^Abdomen",
        "PatientID": "EXAMPLE",
        "SeriesNumber": "1",
        "ImagePositionPatient": [f"{value:.4f}" for value in position],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "PixelSpacing": [f"{spacing[1]:.6g}", f"{spacing[2]:.6g}"],
        "SliceThickness": f"{spacing[0]:.6g}",
        "Rows": plane.shape[0],
        "Columns": plane.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "PixelData": plane.tobytes(),
    }
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset
