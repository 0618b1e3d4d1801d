"""The results of a case as files: encoded, written durably, decoded again from the disk and compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.anatomy import Profile
from dicom_node.errors import InputRefused
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import Volume
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.identity import Provenance
from dicom_node.results.object_file import write_object
from dicom_node.results.rtstruct import encode_rtstruct
from dicom_node.results.verification import Verification, verify_rtstruct, verify_seg

SEG_SUFFIX = ".seg.dcm"
RTSTRUCT_SUFFIX = ".rtstruct.dcm"


@dataclass(frozen=True)
class ResultFiles:
    """What was written.

    Attributes:
        files: ``STEM.seg.dcm`` and, unless a note says why not, ``STEM.rtstruct.dcm``.
        notes: Why there is no RTSTRUCT, where there is none.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def encode_results(
    volume: Volume, label_volume: LabelVolume, provenance: Provenance, target: Path, profile: Profile
) -> ResultFiles:
    """Encode and write a SEG and an RTSTRUCT; :func:`verify_results` has to follow.

    An irregular series that the profile allows no contours of keeps its SEG; a note carries the reason.

    Args:
        volume: The source.
        label_volume: Labels on its slices.
        provenance: What made them.
        target: Folder and stem of the files.
        profile: How results are made.

    Raises:
        InputRefused: There is nothing to write, or no frame of reference to write it in.
        StorageFull: The disk has no room.
    """
    seg = target.with_name(f"{target.name}{SEG_SUFFIX}")
    write_object(seg, encode_seg(volume, label_volume, provenance, profile.seg))
    try:
        structure_set = encode_rtstruct(
            volume,
            label_volume,
            provenance,
            allow_irregular=profile.irregular_contours,
            name_length=profile.name_length,
        )
    except InputRefused as refusal:
        return ResultFiles((seg,), (f"no RTSTRUCT: {refusal.message}",))
    rtstruct = target.with_name(f"{target.name}{RTSTRUCT_SUFFIX}")
    write_object(rtstruct, structure_set)
    return ResultFiles((seg, rtstruct), ())


def verify_results(files: Iterable[Path], label_volume: LabelVolume, volume: Volume) -> tuple[Verification, ...]:
    """Decode written results from the disk and compare them with what they were made from.

    Args:
        files: Of :func:`encode_results`.
        label_volume: What they were made from.
        volume: The source.

    Returns:
        One verification per file, in their order.

    Raises:
        VerificationFailed: A file does not hold the label volume; it stays on the disk for examination.
    """
    return tuple(
        (verify_rtstruct if path.name.endswith(RTSTRUCT_SUFFIX) else verify_seg)(path, label_volume, volume)
        for path in files
    )
