"""Label maps to DICOM and back: what ``dicom-node encode`` and ``dicom-node decode`` do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from dicom_node.anatomy import Profile, Structure, load_profiles
from dicom_node.durable_file import file_sha256
from dicom_node.errors import InputRefused, UsageError
from dicom_node.imaging.instances import read_dataset
from dicom_node.imaging.label_file import read_label_file, write_label_file
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.series import SeriesPlan, discover_series, prove_series
from dicom_node.imaging.volume import Volume
from dicom_node.results.decoded import DecodedLabels
from dicom_node.results.dicom_seg import decode_seg
from dicom_node.results.identity import Provenance
from dicom_node.results.object_file import read_object
from dicom_node.results.result_files import encode_results, verify_results
from dicom_node.results.rtstruct_decoding import decode_rtstruct
from dicom_node.results.structure_table import StructureTable, load_structure_table


@dataclass(frozen=True)
class EncodedFiles:
    """What ``encode`` wrote.

    Attributes:
        files: ``*.seg.dcm`` and, unless a note says why not, ``*.rtstruct.dcm``; decoded again and compared.
        notes: What a person should know: another grid, labels left out, no RTSTRUCT and why.
    """

    files: list[Path]
    notes: list[str]


@dataclass(frozen=True)
class DecodedFile:
    """What ``decode`` wrote.

    Attributes:
        path: The label map.
        structures: What its labels mean.
        notes: What a person should know: overlaps.
    """

    path: Path
    structures: dict[int, Structure]
    notes: list[str]


def encode(
    series_paths: Iterable[Path], labels_path: Path, structures_toml: Path, output: Path, profile: Profile | None = None
) -> EncodedFiles:
    """Write anyone's label map as SEG and RTSTRUCT of a series.

    Identifiers derive from the series, from the bytes of both files and the label map's date: encoding the same again
    writes the same objects.

    Args:
        series_paths: Files and folders of one CT or MR series.
        labels_path: NIfTI label map in the patient space of the series.
        structures_toml: What the labels mean.
        output: Folder for the files.
        profile: How results are made; the default profile where None.

    Raises:
        NodeError: Wrong usage or settings, a series or label map that is refused, a result that fails its check.
    """
    table = load_structure_table(structures_toml)
    volume = _volume_without_pixels(_plan(series_paths))
    label_volume, notes = _labels_for(volume, labels_path, table)
    provenance = _provenance(volume, labels_path, structures_toml, table)
    results = encode_results(
        volume,
        label_volume,
        provenance,
        output / f"case-{provenance.case_id[:16]}",
        profile or load_profiles()["default"],
    )
    verify_results(results.files, label_volume, volume)
    return EncodedFiles(files=list(results.files), notes=[*notes, *results.notes])


def decode(object_path: Path, series_paths: Iterable[Path], output: Path) -> DecodedFile:
    """Write a SEG or RTSTRUCT as a NIfTI label map on the grid of its series.

    Args:
        object_path: The SEG or RTSTRUCT, of this node or of anyone.
        series_paths: Files and folders of the series it belongs to.
        output: ``.nii`` or ``.nii.gz``.

    Raises:
        NodeError: Wrong usage; a series or object that is refused, or that do not belong together.
    """
    if not output.name.endswith((".nii", ".nii.gz")):
        raise UsageError(f"{output}: the label map is written as NIfTI; expected a name ending in .nii or .nii.gz")
    dataset = read_object(object_path)
    plan = _plan(series_paths)
    _require_same_frame(dataset, plan)
    decoded = _decode(dataset, plan)
    write_label_file(output, decoded.label_volume.labels, plan.geometry)
    notes = []
    if decoded.overlaps:
        notes.append(f"{decoded.overlaps} voxels belong to several structures; the label map keeps the last of them")
    return DecodedFile(path=output, structures=decoded.label_volume.structures, notes=notes)


def _decode(dataset: Dataset, plan: SeriesPlan) -> DecodedLabels:
    if dataset.get("SOPClassUID") == RTStructureSetStorage:
        return decode_rtstruct(dataset, plan.geometry)
    return decode_seg(dataset, plan.geometry)


def _plan(series_paths: Iterable[Path]) -> SeriesPlan:
    groups = discover_series(series_paths)
    if len(groups) > 1:
        listed = "; ".join(group.description for group in groups[:8])
        raise InputRefused(f"there are {len(groups)} series here, one was expected: {listed}; name the files of one")
    return prove_series(groups[0].instances)


def _volume_without_pixels(plan: SeriesPlan) -> Volume:
    """The series as far as encoding needs it: no pixel is read, ``voxels`` is a read-only zero without memory."""
    return Volume(
        voxels=np.broadcast_to(np.zeros((), dtype=np.int16), plan.geometry.shape),
        geometry=plan.geometry,
        modality=plan.modality,
        frame_of_reference_uid=plan.frame_of_reference_uid,
        sources=tuple(plane.source for plane in plan.planes),
        header=read_dataset(plan.planes[0].source.path, stop_before_pixels=True),
    )


def _labels_for(volume: Volume, labels_path: Path, table: StructureTable) -> tuple[LabelVolume, list[str]]:
    """The label map on the series' grid, without the labels that the table does not explain."""
    if not labels_path.is_file():
        raise UsageError(f"{labels_path}: no such file; expected a NIfTI label map")
    label_file = read_label_file(labels_path, volume.geometry)
    label_volume = LabelVolume(label_file.labels, volume.geometry, table.structures)
    counts = label_volume.voxel_counts()
    notes = []
    if label_file.resampled:
        notes.append("the label map has another grid than the series; labels were taken from the nearest voxel")
    unexplained = [int(label) for label in np.flatnonzero(counts) if label and label not in table.structures]
    if unexplained:
        notes.append(f"labels without a [[structure]] were left out: {', '.join(map(str, unexplained))}")
        label_file.labels[np.isin(label_file.labels, unexplained)] = 0
    empty = [structure.name for label, structure in sorted(table.structures.items()) if not counts[label]]
    if empty:
        notes.append(f"structures without a voxel were left out: {', '.join(empty)}")
    return label_volume, notes


def _provenance(volume: Volume, labels_path: Path, structures_toml: Path, table: StructureTable) -> Provenance:
    """Who made the labels; the case is the series and the two files, its time that of the label map."""
    digest = hashlib.sha256("\n".join(sorted({source.sop_instance_uid for source in volume.sources})).encode())
    labels_sha256 = file_sha256(labels_path)
    digest.update(labels_sha256.encode())
    digest.update(file_sha256(structures_toml).encode())
    created = datetime.fromtimestamp(int(labels_path.stat().st_mtime))  # noqa: DTZ006 - DICOM dates are local
    digest.update(created.isoformat().encode())  # it is written into the objects: one UID, one content
    return Provenance(
        case_id=digest.hexdigest(),
        card=table.algorithm or "label map",
        version=table.version or labels_sha256[:8],
        weights_sha256="",
        created=created,
        algorithm_type=table.algorithm_type,
    )


def _require_same_frame(dataset: Dataset, plan: SeriesPlan) -> None:
    frame = str(dataset.get("FrameOfReferenceUID") or "")
    if not frame and dataset.get("ReferencedFrameOfReferenceSequence"):
        frame = str(dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID)
    if frame and plan.frame_of_reference_uid and frame != plan.frame_of_reference_uid:
        raise InputRefused(
            "the object and the series have different frames of reference, so its labels say nothing about this "
            "series; give the series it was made from",
            SeriesInstanceUID=plan.series_instance_uid,
        )
