"""A CT and an MR study whose truth is known, with the node's results: as they are, and a few millimetres off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.series import load_series
from dicom_node.profiles import Profile
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.identity import derived_role, derived_uid
from dicom_node.results.object_file import write_object
from dicom_node.results.rtstruct import encode_rtstruct
from tests.phantoms import Phantom, PhantomSpec, build, spec_for, write
from tests.results.sources import PROVENANCE

SHIFT_PIXELS = 1
"""By how many pixels along the rows the results of the control lie off: 3.1 mm (CT) and 1.25 mm (MR)."""


@dataclass(frozen=True)
class Subject:
    """What a study shows.

    Attributes:
        spec: The series.
        structures: Names of the structures that its results hold: of hues that are far apart; none touches another or
            the border of the image.
    """

    spec: PhantomSpec
    structures: tuple[str, ...]


CT = Subject(
    replace(spec_for("CT", "torso", 40, 128), slices=5, stack_offset=27.5, patient_id="VIEWER-CT"), ("Liver", "Spleen")
)
"""Axial, 11 mm apart: few slices, which a browser without a graphics card shows soon, through both organs."""
MR = Subject(
    replace(spec_for("MR", "knee", 60, 128), slices=5, stack_offset=2.5, patient_id="VIEWER-MR"), ("Patella", "Lig_PCL")
)
"""Sagittal, 2 mm apart, through the cruciate ligament."""


@dataclass(frozen=True)
class Result:
    """A result object as a file, with what a viewer's address needs.

    Attributes:
        series_uid: SeriesInstanceUID.
        path: The file.
    """

    series_uid: str
    path: Path


@dataclass(frozen=True)
class Study:
    """A study as files.

    Attributes:
        subject: What it shows.
        phantom: Its truth.
        folder: Series and results.
    """

    subject: Subject
    phantom: Phantom
    folder: Path

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return str(self.phantom.datasets[0].StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID of the source."""
        return str(self.phantom.datasets[0].SeriesInstanceUID)

    def mask(self, structure: str, k: int) -> npt.NDArray[np.bool_]:
        """(rows, columns) where a structure truly is on a slice."""
        (label,) = (label for label, name in self.phantom.names.items() if name == structure)
        return np.asarray(self.phantom.labels[k] == label)

    @property
    def middle(self) -> int:
        """The middle slice."""
        return len(self.phantom.labels) // 2

    def instance_number(self, k: int) -> int:
        """InstanceNumber of a slice."""
        return int(self.phantom.datasets[k].InstanceNumber)

    def result(self, kind: str, *, shifted: bool = False) -> Result:
        """The node's result of a kind: "BINARY", "LABELMAP" or "RTSTRUCT"; the control's where ``shifted``."""
        path = self.folder / f"{'shifted' if shifted else 'true'}-{kind}.dcm"
        profile = _profile(kind, self.subject)
        case = _case(self.subject, shifted=shifted)
        role = derived_role("rtstruct" if kind == "RTSTRUCT" else "seg", profile.identity, "series")
        return Result(str(derived_uid(case, role)), path)


def write_study(subject: Subject, folder: Path) -> Study:
    """Write a study's series, read it as the node does, and write the node's results beside it."""
    study = Study(subject, build(subject.spec), folder)
    write(subject.spec, folder / "series")
    volume = load_series([folder / "series"])
    structures = {label: load_anatomy()[name] for label, name in study.phantom.names.items()}
    for shifted in (False, True):
        labels = np.roll(study.phantom.labels, SHIFT_PIXELS if shifted else 0, axis=2)
        provenance = replace(PROVENANCE, card=subject.spec.anatomy, case_id=_case(subject, shifted=shifted))
        for kind in ("BINARY", "LABELMAP", "RTSTRUCT"):
            encode = encode_rtstruct if kind == "RTSTRUCT" else encode_seg
            made = encode(volume, LabelVolume(labels, volume.geometry, structures), provenance, _profile(kind, subject))
            result = study.result(kind, shifted=shifted)
            assert made.SeriesInstanceUID == result.series_uid
            write_object(result.path, made)
    return study


def _profile(kind: str, subject: Subject) -> Profile:
    seg = "LABELMAP" if kind == "LABELMAP" else "BINARY"
    return Profile(structures=subject.structures, seg=seg)


def _case(subject: Subject, *, shifted: bool) -> str:
    return f"viewer-{subject.spec.patient_id}-{'shifted' if shifted else 'true'}"
