"""The results of a case as files: encoded, written durably, decoded again from the disk and compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import InputRefused
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.profiles import Profile, ResultKind
from dicom_node.results.delineation import Delineation
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.identity import Provenance, nothing_found
from dicom_node.results.key_image import encode_key_image
from dicom_node.results.key_image_checking import verify_key_image
from dicom_node.results.object_file import write_object
from dicom_node.results.rtstruct import encode_rtstruct
from dicom_node.results.verification import Verification, verify_rtstruct, verify_seg

SUFFIXES: dict[ResultKind, str] = {"SEG": ".seg.dcm", "RTSTRUCT": ".rtstruct.dcm", "SC": ".sc.dcm"}


@dataclass(frozen=True)
class ResultFile:
    """One object on the disk.

    Attributes:
        path: ``STEM.seg.dcm``, ``STEM.rtstruct.dcm`` or ``STEM.sc.dcm``.
        kind: What it is.
        profile: What it was made for.
    """

    path: Path
    kind: ResultKind
    profile: Profile


@dataclass(frozen=True)
class ResultFiles:
    """What was written.

    Attributes:
        files: The objects that the profile asks for, unless a note says why not.
        notes: Why there is no RTSTRUCT, where there is none.
    """

    files: tuple[ResultFile, ...]
    notes: tuple[str, ...]


def encode_results(delineation: Delineation, provenance: Provenance, target: Path, profile: Profile) -> ResultFiles:
    """Encode and write what a profile asks for; :func:`verify_results` has to follow.

    An irregular series that the profile allows no structure set of keeps its other results; a note carries the reason.
    The body's outline alone is no result.

    Args:
        delineation: What is to be delivered.
        provenance: What made it.
        target: Folder and stem of the files.
        profile: How results are made.

    Raises:
        InputRefused: None of the wanted structures was found, or there is no frame of reference to write them in.
        StorageFull: The disk has no room.
    """
    _require_wanted(delineation, profile)
    written, notes = [], []
    for kind in profile.results:
        path = target.with_name(f"{target.name}{SUFFIXES[kind]}")
        try:
            _write(kind, path, delineation, provenance, profile)
        except InputRefused as refusal:
            if kind != "RTSTRUCT" or profile.results == ("RTSTRUCT",):
                raise
            notes.append(f"no RTSTRUCT: {refusal.message}")
        else:
            written.append(ResultFile(path, kind, profile))
    return ResultFiles(tuple(written), tuple(notes))


def verify_results(files: Iterable[ResultFile], delineation: Delineation) -> tuple[Verification, ...]:
    """Decode written results from the disk and compare them with what they were made from.

    Args:
        files: Of :func:`encode_results`.
        delineation: What they were made from.

    Returns:
        One verification per file, in their order.

    Raises:
        VerificationFailed: A file does not hold the labels; it stays on the disk for examination.
    """
    return tuple(_verify(file, delineation) for file in files)


def _require_wanted(delineation: Delineation, profile: Profile) -> None:
    found = [structure.name for _, structure in delineation.labels.present()]
    if not found:
        raise nothing_found(delineation.volume, profile)
    if profile.structures and not set(found) & set(profile.structures):
        reason = (
            f"none of the wanted structures ({', '.join(profile.structures)}) was found in the series; found were "
            f"{', '.join(found)}"
        )
        raise InputRefused(reason, SeriesInstanceUID=delineation.volume.series_instance_uid)


def _contoured(delineation: Delineation, profile: Profile) -> LabelVolume:
    """What a structure set holds: with the body's outline only where this profile wants it, whoever else does."""
    return delineation.outlined if profile.external else delineation.labels


def _write(kind: ResultKind, path: Path, delineation: Delineation, provenance: Provenance, profile: Profile) -> None:
    volume, remarks = delineation.volume, delineation.remarks
    if kind == "SEG":
        write_object(path, encode_seg(volume, delineation.labels, provenance, profile, remarks=remarks))
    elif kind == "SC":
        write_object(path, encode_key_image(volume, delineation.labels, provenance, profile))
    else:
        write_object(
            path, encode_rtstruct(volume, _contoured(delineation, profile), provenance, profile, remarks=remarks)
        )


def _verify(file: ResultFile, delineation: Delineation) -> Verification:
    if file.kind == "SEG":
        return verify_seg(file.path, delineation.labels, delineation.volume, file.profile)
    if file.kind == "SC":
        return verify_key_image(file.path, delineation.labels, delineation.volume, file.profile)
    return verify_rtstruct(file.path, _contoured(delineation, file.profile), delineation.volume, file.profile)
