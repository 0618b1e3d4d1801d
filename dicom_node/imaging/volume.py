"""A volume: voxels with their place in the patient, and the instances they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.imaging.geometry import Geometry


@dataclass(frozen=True)
class SourceSlice:
    """Where one slice of a volume came from.

    Attributes:
        path: File of the instance.
        sop_class_uid: Its SOP class.
        sop_instance_uid: Its SOP instance.
        frame_number: Frame within a multi-frame instance, from 1 (PS3.3 10.3); None for single-frame instances.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True)
class Volume:
    """One CT or MR series as a volume.

    Attributes:
        voxels: (k, j, i) int16 or float32 after rescale: Hounsfield units for CT, arbitrary units for MR.
        geometry: Place of every slice, in the order of ``voxels``.
        modality: "CT" or "MR".
        frame_of_reference_uid: The source's own FrameOfReferenceUID; None where the source has none.
        sources: One per slice, in the order of ``voxels``.
        header: Attributes of the first source instance without pixel data; patient and study are copied from it.
    """

    voxels: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    geometry: Geometry
    modality: str
    frame_of_reference_uid: str | None
    sources: tuple[SourceSlice, ...]
    header: Dataset

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID of the source."""
        return str(self.header.SeriesInstanceUID)

    @property
    def study_instance_uid(self) -> str:
        """StudyInstanceUID of the source."""
        return str(self.header.StudyInstanceUID)
