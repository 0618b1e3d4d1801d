"""Label maps to DICOM and back: what ``dicom-node encode`` and ``dicom-node decode`` do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from dicom_node.anatomy import Structure
from dicom_node.durable_file import file_sha256
from dicom_node.errors import InputRefused, UsageError
from dicom_node.imaging.body import body_outline
from dicom_node.imaging.instances import read_dataset
from dicom_node.imaging.label_file import write_label_file, write_segment_file
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.series import SeriesPlan, assemble, discover_series, prove_series
from dicom_node.imaging.volume import Volume
from dicom_node.profiles import Profile
from dicom_node.results.decoded import DecodedObject
from dicom_node.results.delineation import delineate
from dicom_node.results.identity import Provenance
from dicom_node.results.label_sources import gather_labels
from dicom_node.results.object_file import read_object, refusing_damage
from dicom_node.results.result_files import encode_results, verify_results
from dicom_node.results.rtstruct_decoding import decode_rtstruct
from dicom_node.results.seg_decoding import decode_seg
from dicom_node.results.structure_table import StructureTable, load_structure_table

SEGMENT_SUFFIX = ".seg.nrrd"
OUTPUT_SUFFIXES = (SEGMENT_SUFFIX, ".nii", ".nii.gz", ".nrrd")


@dataclass(frozen=True)
class EncodedFiles:
    """What ``encode`` wrote.

    Attributes:
        files: ``*.seg.dcm``, ``*.sc.dcm`` and, unless a note says why not, ``*.rtstruct.dcm``; decoded again and
            compared.
        notes: What a person should know: another grid, labels left out, no RTSTRUCT and why.
        warnings: What is implausible about the labels; the objects say so too.
    """

    files: list[Path]
    notes: list[str]
    warnings: list[str]


@dataclass(frozen=True)
class DecodedFiles:
    """What ``decode`` wrote.

    Attributes:
        paths: The label maps: one, and a further one for each layer of structures that overlap those before.
        notes: What a person should know: which structures lie in which file, where there are several.
        structures: What the labels mean.
    """

    paths: list[Path]
    notes: list[str]
    structures: dict[int, Structure]


def encode(
    series_paths: Iterable[Path], labels_path: Path | None, structures_toml: Path, output: Path, profile: Profile
) -> EncodedFiles:
    """Write anyone's label files as SEG and RTSTRUCT of a series.

    Identifiers derive from the series, from the bytes of the files and the labels' date: encoding the same again writes
    the same objects.

    Args:
        series_paths: Files and folders of one CT or MR series.
        labels_path: Label map in the patient space of the series; or the folder of the files that structures name; None
            where these lie beside the table.
        structures_toml: What the labels mean.
        output: Folder for the files.
        profile: How results are made.

    Raises:
        NodeError: Wrong usage or settings, a series or label file that is refused, a result that fails its check.
    """
    is_folder = labels_path is not None and labels_path.is_dir()
    table = load_structure_table(structures_toml, labels_path if is_folder else None)
    label_map = None if is_folder else labels_path
    plan = _plan(series_paths)
    external = profile.external and "RTSTRUCT" in profile.results
    volume = assemble(plan) if external or "SC" in profile.results else _volume_without_pixels(plan)
    gathered = gather_labels(volume.geometry, label_map, table)
    delineation = delineate(volume, gathered.label_volume, body_outline(volume) if external else None)
    label_files = [*([label_map] if label_map else []), *(file.path for file in table.files.values())]
    provenance = _provenance(volume, label_files, structures_toml, table)
    target = output / f"case-{provenance.case_id[:16]}"
    results = encode_results(delineation, provenance, target, profile)
    verify_results(results.files, delineation)
    return EncodedFiles(
        files=[file.path for file in results.files],
        notes=[*gathered.notes, *results.notes, *_unheeded(profile, table)],
        warnings=[*delineation.objections, *delineation.warnings],
    )


def decode(object_path: Path, series_paths: Iterable[Path], output: Path) -> DecodedFiles:
    """Write a SEG or RTSTRUCT as a label map on the grid of its series.

    Args:
        object_path: The SEG or RTSTRUCT, of this node or of anyone.
        series_paths: Files and folders of the series it belongs to.
        output: ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.seg.nrrd``. The last holds structures that overlap; in the other
            formats these go to files beside the first, with ``-2``, ``-3`` ... before the suffix.

    Raises:
        NodeError: Wrong usage; a series or object that is refused, or that do not belong together.
    """
    suffix = next((suffix for suffix in OUTPUT_SUFFIXES if output.name.endswith(suffix)), None)
    if suffix is None:
        raise UsageError(f"{output}: expected a name that ends in {', '.join(OUTPUT_SUFFIXES)}")
    dataset = read_object(object_path)
    plan = _plan(series_paths)
    _require_same_frame(dataset, plan)
    label_volume = _decode(dataset, plan).label_volume
    structures = {label: item for layer in label_volume.layers for label, item in layer.structures.items()}
    structures = dict(sorted(structures.items()))
    if suffix == SEGMENT_SUFFIX:
        write_segment_file(output, label_volume)
        return DecodedFiles([output], [], structures)
    return DecodedFiles(*_write_layers(label_volume, output, suffix), structures)


def _write_layers(label_volume: LabelVolume, output: Path, suffix: str) -> tuple[list[Path], list[str]]:
    """A file for each layer; and which structures lie in which file, where there are several."""
    paths, notes = [], []
    for number, layer in enumerate(label_volume.layers, start=1):
        stem = output.name.removesuffix(suffix)
        paths.append(output if number == 1 else output.with_name(f"{stem}-{number}{suffix}"))
        write_label_file(paths[-1], layer.labels, layer.geometry)
        if label_volume.overlays:
            notes.append(f"{paths[-1].name}: {', '.join(item.name for item in layer.structures.values())}")
    return paths, notes


def _decode(dataset: Dataset, plan: SeriesPlan) -> DecodedObject:
    if dataset.get("SOPClassUID") == RTStructureSetStorage:
        return decode_rtstruct(dataset, plan.geometry)
    return decode_seg(dataset, plan.geometry)


def _unheeded(profile: Profile, table: StructureTable) -> Iterator[str]:
    """What was asked for but needs probabilities that the table does not give."""
    if any(file.kind == "probability" for file in table.files.values()):
        return
    if profile.contours == "smooth" and "RTSTRUCT" in profile.results:
        yield "contours follow pixel edges: smooth ones need a probability for each structure, and none is given"
    if profile.seg == "FRACTIONAL" and "SEG" in profile.results:
        yield "the fractional segmentation holds 0 and 1 alone: no structure is given a probability"


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


def _provenance(
    volume: Volume, label_files: Sequence[Path], structures_toml: Path, table: StructureTable
) -> Provenance:
    """Who made the labels; the case is the series and the files, its time that of the newest label file."""
    digest = hashlib.sha256("\n".join(sorted({source.sop_instance_uid for source in volume.sources})).encode())
    hashes = [file_sha256(path) for path in label_files]
    for content in (*hashes, file_sha256(structures_toml)):
        digest.update(content.encode())
    created = datetime.fromtimestamp(max(int(path.stat().st_mtime) for path in label_files))  # noqa: DTZ006 - DICOM dates are local
    digest.update(created.isoformat().encode())  # it is written into the objects: one UID, one content
    return Provenance(
        case_id=digest.hexdigest(),
        card=table.algorithm or "label map",
        version=table.version or hashes[0][:8],
        weights_sha256="",
        created=created,
        algorithm_type=table.algorithm_type,
    )


def _require_same_frame(dataset: Dataset, plan: SeriesPlan) -> None:
    """Refuse an object of other patient coordinates; contours that name none at all could be anybody's."""
    with refusing_damage("object"):
        frames = _frames_of_reference(dataset)
    if not plan.frame_of_reference_uid or plan.frame_of_reference_uid in frames:
        return
    if frames:
        raise InputRefused(
            "the object and the series have different frames of reference, so its labels say nothing about this "
            "series; give the series it was made from",
            SeriesInstanceUID=plan.series_instance_uid,
        )
    if dataset.get("SOPClassUID") == RTStructureSetStorage:
        raise InputRefused(
            "the structure set has no FrameOfReferenceUID, so nobody can tell whether it belongs to the series",
            SeriesInstanceUID=plan.series_instance_uid,
        )


def _frames_of_reference(dataset: Dataset) -> set[str]:
    """The object's own frame of reference; where it has none, those that it refers to, or that its ROIs lie in."""
    own = str(dataset.get("FrameOfReferenceUID") or "")
    referenced = [item.get("FrameOfReferenceUID") for item in dataset.get("ReferencedFrameOfReferenceSequence") or []]
    rois = [item.get("ReferencedFrameOfReferenceUID") for item in dataset.get("StructureSetROISequence") or []]
    for found in ([own], referenced, rois):
        uids = {str(uid) for uid in found if uid}
        if uids:
            return uids
    return set()
