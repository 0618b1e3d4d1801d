"""Series to volume: find the images, prove that they are one volume, decode them into it.

::

    for group in discover_series([folder]):
        volume = assemble(prove_series(group.instances))

What is not one volume of one patient is refused with a reason (:class:`~dicom_node.errors.SeriesRefused`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from dicom_node.errors import InputRefused, SeriesRefused
from dicom_node.imaging.claims import claimed_pixel_bytes, may_hold
from dicom_node.imaging.completeness import prove_planes
from dicom_node.imaging.decoding import FrameDecoder
from dicom_node.imaging.eligibility import NOT_HOUNSFIELD, require_volume_images
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.instances import (
    Discovery,
    Instance,
    PassedOver,
    SeriesGroup,
    find_instances,
    read_dataset,
    read_instance,
)
from dicom_node.imaging.pixels import rescaled
from dicom_node.imaging.planes import Plane, names_of, planes_of
from dicom_node.imaging.volume import Volume

__all__ = [
    "Discovery",
    "Instance",
    "PassedOver",
    "SeriesGroup",
    "SeriesPlan",
    "assemble",
    "discover_series",
    "find_instances",
    "load_series",
    "prove_series",
    "read_instance",
]

MAX_VOXELS = 10**9
"""Largest volume that is decoded: 1000 slices of 1024 x 1024, 2 GB as int16."""


@dataclass(frozen=True)
class SeriesPlan:
    """A series that is proved to be one volume, before its pixels are read.

    Attributes:
        planes: Its slices, in the geometry's order.
        geometry: Their place.
        modality: "CT" or "MR".
        frame_of_reference_uid: The series' own, None where it has none.
        headers: Instance of each plane, in the same order.
        remarks: What a person should know although the series is accepted: tilt, uneven spacing, lossy compression.
    """

    planes: tuple[Plane, ...]
    geometry: Geometry
    modality: str
    frame_of_reference_uid: str | None
    headers: tuple[Instance, ...]
    remarks: tuple[str, ...]

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self.headers[0].header.SeriesInstanceUID)


def discover_series(paths: Iterable[Path]) -> tuple[SeriesGroup, ...]:
    """The series in these files and folders, each a case of its own.

    Raises:
        InputRefused: A path does not exist, or no file is an image; the message says what the files are.
    """
    discovery = find_instances(paths)
    if discovery.instances:
        return discovery.series
    if not discovery.passed_over:
        raise InputRefused("There are no files here; name a folder with the images of a CT or MR series.")
    reasons = sorted({found.reason for found in discovery.passed_over})
    raise InputRefused(
        f"None of {len(discovery.passed_over)} files is a CT or MR image: {'; '.join(reasons[:4])}"
        f"{'; ...' if len(reasons) > 4 else ''}."
    )


def prove_series(instances: Sequence[Instance]) -> SeriesPlan:
    """Prove from the headers that a series is one whole volume of one patient.

    Args:
        instances: Every instance of one series; the same instance may come twice.

    Raises:
        SeriesRefused: It is not; the kind says why for machines, the message names the images for people.
    """
    try:
        modality = require_volume_images(instances)
        unique = _without_copies(instances)
        _require_plausible_size(unique)
        ordered, geometry = prove_planes([plane for instance in unique for plane in planes_of(instance)])
        _require_units(ordered, modality)
    except SeriesRefused as refusal:
        if instances:
            refusal.uids.setdefault("SeriesInstanceUID", str(instances[0].header.SeriesInstanceUID))
        raise
    owners = {instance.sop_instance_uid: instance for instance in unique}
    headers = tuple(owners[plane.source.sop_instance_uid] for plane in ordered)
    return SeriesPlan(
        planes=tuple(ordered),
        geometry=geometry,
        modality=modality,
        frame_of_reference_uid=ordered[0].frame_of_reference_uid,
        headers=headers,
        remarks=tuple(_remarks(geometry, headers)),
    )


def assemble(plan: SeriesPlan) -> Volume:
    """Decode the pixels of a proved series into a volume, one slice at a time.

    Raises:
        SeriesRefused: Pixel data are damaged (kind ``pixel-data``).
    """
    voxels: npt.NDArray[np.int16] | npt.NDArray[np.float32] = np.empty(plan.geometry.shape, dtype=np.int16)
    with FrameDecoder() as decoder:
        for indices in _slices_by_file(plan):
            planes = [plan.planes[k] for k in indices]
            instance = plan.headers[indices[0]]
            frames = decoder.frames(
                instance, [plane.source.frame_number for plane in planes], [plane.name for plane in planes]
            )
            for k, plane, stored in zip(indices, planes, frames, strict=True):
                values = rescaled(stored, plane, instance.header, plan.modality)
                if values.dtype == np.float32 and voxels.dtype == np.int16:
                    voxels = voxels.astype(np.float32)
                voxels[k] = values
    return Volume(
        voxels=voxels,
        geometry=plan.geometry,
        modality=plan.modality,
        frame_of_reference_uid=plan.frame_of_reference_uid,
        sources=tuple(plane.source for plane in plan.planes),
        header=read_dataset(plan.planes[0].source.path, stop_before_pixels=True),
    )


def load_series(paths: Iterable[Path]) -> Volume:
    """The one series in these files and folders as a volume.

    Raises:
        InputRefused: There is none, or more than one (each is named); use :func:`discover_series` for several.
        SeriesRefused: It is not one whole volume.
    """
    groups = discover_series(paths)
    if len(groups) > 1:
        listed = "; ".join(group.description for group in groups[:8])
        raise InputRefused(f"There are {len(groups)} series here, one was expected: {listed}.")
    return assemble(prove_series(groups[0].instances))


def _slices_by_file(plan: SeriesPlan) -> list[list[int]]:
    """Slice indices of each file, in the order of its frames, so that each file is read once."""
    files: dict[Path, list[int]] = {}
    for k in sorted(range(len(plan.planes)), key=lambda k: plan.planes[k].source.frame_number or 0):
        files.setdefault(plan.planes[k].source.path, []).append(k)
    return list(files.values())


def _without_copies(instances: Sequence[Instance]) -> list[Instance]:
    """Each SOP instance once.

    Raises:
        SeriesRefused: Two files claim one SOPInstanceUID with different contents (kind ``duplicate-instance``).
    """
    unique: dict[str, Instance] = {}
    for instance in instances:
        known = unique.setdefault(instance.sop_instance_uid, instance)
        if known is not instance and not _same_contents(known.path, instance.path):
            raise SeriesRefused(
                f"Two different files claim to be the same image ({instance.name}): {known.path.name} and "
                f"{instance.path.name} have one SOPInstanceUID. Which is right cannot be told.",
                kind="duplicate-instance",
                SOPInstanceUID=instance.sop_instance_uid,
            )
    return list(unique.values())


def _same_contents(first: Path, second: Path) -> bool:
    """Whether two files hold the same data set; group 2 (who wrote the file) may differ."""
    if first.samefile(second) or first.read_bytes() == second.read_bytes():
        return True
    one, other = read_dataset(first), read_dataset(second)
    try:
        return one.file_meta.TransferSyntaxUID == other.file_meta.TransferSyntaxUID and pydicom.Dataset(
            one
        ) == pydicom.Dataset(other)
    except RecursionError:  # sequences nested beyond all sense, which pydicom compares by recursion
        return False


def _require_plausible_size(instances: Sequence[Instance]) -> None:
    """Headers are a few bytes; what they claim is added up before memory is asked for."""
    voxels = 0
    for instance in instances:
        header = instance.header
        sides = (int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1))
        if min(sides) < 1:
            raise SeriesRefused(f"{instance.name} has {sides[0]} rows and {sides[1]} columns.", kind="no-geometry")
        voxels += sides[0] * sides[1] * sides[2]
    if voxels > MAX_VOXELS:
        raise SeriesRefused(
            f"The series claims {voxels / 1e6:.0f} million voxels; at most {MAX_VOXELS / 1e6:.0f} million are taken.",
            kind="too-large",
        )
    for instance in instances:
        _require_bytes(instance)


def _require_bytes(instance: Instance) -> None:
    try:
        present = instance.path.stat().st_size
    except OSError as error:
        raise SeriesRefused(
            f"The file of {instance.name} cannot be read: {error.strerror}. Send it again.", kind="pixel-data"
        ) from error
    if not may_hold(instance.header, instance.transfer_syntax_uid, present):
        raise SeriesRefused(
            f"The header of {instance.name} claims {claimed_pixel_bytes(instance.header)} bytes of pixels, "
            f"the whole file has {present}. The file is damaged or cut short; send it again.",
            kind="pixel-data",
            SOPInstanceUID=instance.sop_instance_uid,
        )


def _require_units(planes: Sequence[Plane], modality: str) -> None:
    """CT values must be Hounsfield units; MR has no unit to check."""
    if modality != "CT":
        return
    without = [plane for plane in planes if plane.rescale is None]
    if without:
        raise SeriesRefused(
            f"{names_of(without)}: no RescaleSlope and RescaleIntercept, so the Hounsfield units are unknown.",
            kind="no-rescale",
        )
    other = [plane for plane in planes if plane.rescale is not None and plane.rescale.type in NOT_HOUNSFIELD]
    if other:
        kind = other[0].rescale.type if other[0].rescale else ""
        raise SeriesRefused(
            f"{names_of(other)}: the values are no Hounsfield units (RescaleType {kind}).", kind="not-hounsfield"
        )


def _remarks(geometry: Geometry, headers: Sequence[Instance]) -> Iterable[str]:
    if geometry.is_tilted:
        yield f"gantry tilt {geometry.tilt_degrees:.1f} degrees"
    if not geometry.is_evenly_spaced:
        least, most = geometry.slice_spacings.min(), geometry.slice_spacings.max()
        yield f"uneven slice spacing, {least:.4g} to {most:.4g} mm"
    if geometry.shape[0] == 1:
        yield "a single slice"
    if any(str(instance.header.get("LossyImageCompression") or "") == "01" for instance in headers):
        yield "lossy compressed"
