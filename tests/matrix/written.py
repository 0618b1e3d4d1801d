"""From a case to files, the real way: phantom files, series, volume, encoders."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from dicom_node.anatomy import Structure, load_anatomy
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.series import assemble, discover_series, prove_series
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.object_file import write_object
from dicom_node.results.rtstruct import encode_rtstruct
from tests.matrix.agreement import Mask
from tests.matrix.cases import Case
from tests.matrix.source_planes import SourcePlanes, read_planes
from tests.phantoms import Phantom, build, write
from tests.results.sources import PROVENANCE

EMPTY = "Femur_L"
"""A structure that stands in the table and has no voxel."""
PROFILE = Profile(irregular_contours=True)


@dataclass(frozen=True)
class Written:
    """A case as files.

    Attributes:
        case: Which.
        phantom: Its truth.
        volume: The series as the node reads it.
        labels: What was written.
        series: Folder of the source files.
        seg: Our SEG.
        rtstruct: Our RTSTRUCT.
    """

    case: Case
    phantom: Phantom
    volume: Volume
    labels: LabelVolume
    series: Path
    seg: Path
    rtstruct: Path

    @cached_property
    def planes(self) -> SourcePlanes:
        """Where the slices lie, as the independent reader finds them."""
        return read_planes(self.series)

    @cached_property
    def truth(self) -> dict[str, Mask]:
        """Mask of each structure that has voxels, by its name."""
        masks = {name: self.phantom.labels == label for label, name in self.phantom.names.items()}
        return {name: mask for name, mask in masks.items() if mask.any()}

    def remove(self) -> None:
        """Take the files away."""
        shutil.rmtree(self.series.parent)


def write_case(case: Case, folder: Path) -> Written:
    """Write a case's series, read it as the node does, and write its results beside it."""
    phantom = build(case.spec)
    write(case.spec, folder / "series")
    (group,) = discover_series([folder / "series"])
    volume = assemble(prove_series(group.instances))
    labels = LabelVolume(phantom.labels, volume.geometry, _structures(phantom.names))
    provenance = replace(PROVENANCE, case_id=case.name)
    seg, rtstruct = folder / "result.seg.dcm", folder / "result.rtstruct.dcm"
    write_object(seg, encode_seg(volume, labels, provenance))
    write_object(rtstruct, encode_rtstruct(volume, labels, provenance, PROFILE))
    return Written(case, phantom, volume, labels, folder / "series", seg, rtstruct)


def _structures(names: Mapping[int, str]) -> dict[int, Structure]:
    anatomy = load_anatomy()
    return {label: anatomy[name] for label, name in {**names, max(names) + 1: EMPTY}.items()}
