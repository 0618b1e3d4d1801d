"""Volumes and segmentations as files, for the inference process and for steps that outlive kill -9. Torch-free.

A folder holds arrays as ``.npy`` and one JSON document, written last, that describes them and carries their SHA-256:
a folder without the document is unfinished. Nothing is pickled. A checkpoint keeps the folder and the document's
SHA-256, which therefore covers everything in the folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.anatomy import load_anatomy
from dicom_node.durable_file import file_sha256, write_durably
from dicom_node.errors import SegmentationFailed
from dicom_node.imaging.certainty import Certainty
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.segment.segmentation import Segmentation

VOLUME_FILE = "volume.json"
SEGMENTATION_FILE = "segmentation.json"
SEGMENTATION_ARRAYS = ("labels", "winner", "runner_up")
"""Arrays of a stored segmentation: ``labels.npy``, and the certainty's two where it is known."""
_VOXELS, _HEADER = "voxels.npy", "header.dcm"


@dataclass(frozen=True)
class StoredFolder:
    """What a checkpoint keeps of a stored volume or segmentation.

    Attributes:
        folder: Where it is.
        sha256: Of its JSON document.
    """

    folder: Path
    sha256: str


def save_volume(volume: Volume, folder: Path) -> StoredFolder:
    """Store a volume durably.

    Args:
        volume: The volume.
        folder: Made where missing; what it holds under the same names is replaced.

    Raises:
        StorageFull: No room.
    """
    document = {
        "voxels_sha256": _write_array(folder / _VOXELS, volume.voxels),
        "header_sha256": _write_bytes(folder / _HEADER, _encode_header(volume)),
        "geometry": _geometry_document(volume.geometry),
        "modality": volume.modality,
        "frame_of_reference_uid": volume.frame_of_reference_uid,
        "sources": [
            [str(item.path), item.sop_class_uid, item.sop_instance_uid, item.frame_number] for item in volume.sources
        ],
    }
    return StoredFolder(folder, _write_document(folder / VOLUME_FILE, document))


def load_volume(stored: StoredFolder | Path, *, nameless: bool = False) -> Volume:
    """A stored volume; its voxels are mapped, not read.

    Args:
        stored: With a SHA-256 the document, and with it every file, is checked; a bare folder is taken as it is.
        nameless: Leave the header alone, which names the patient; the volume then has an empty one. For who needs the
            voxels and their place only.

    Raises:
        SegmentationFailed: The folder is unfinished or was changed; loading the series again makes it anew.
    """
    folder, document = read_document(stored, VOLUME_FILE)
    if isinstance(stored, StoredFolder):
        check_file(folder / _VOXELS, document["voxels_sha256"])
        if not nameless:
            check_file(folder / _HEADER, document["header_sha256"])
    return Volume(
        voxels=np.load(folder / _VOXELS, mmap_mode="r", allow_pickle=False),
        geometry=_geometry(document["geometry"]),
        modality=document["modality"],
        frame_of_reference_uid=document["frame_of_reference_uid"],
        sources=tuple(
            SourceSlice(Path(path), sop_class, sop_instance, frame)
            for path, sop_class, sop_instance, frame in document["sources"]
        ),
        header=Dataset() if nameless else _bare(dcmread(folder / _HEADER)),
    )


def save_segmentation(segmentation: Segmentation, folder: Path) -> StoredFolder:
    """Store a segmentation durably; see :func:`save_volume`. Overlays are not stored."""
    labels = segmentation.label_volume
    arrays: dict[str, npt.NDArray[Any]] = {"labels": labels.labels}
    if labels.certainty is not None:
        arrays |= {"winner": labels.certainty.winner, "runner_up": labels.certainty.runner_up}
    document = {
        **{f"{name}_sha256": _write_array(folder / f"{name}.npy", array) for name, array in arrays.items()},
        "geometry": _geometry_document(labels.geometry),
        "structures": {str(label): structure.name for label, structure in labels.structures.items()},
        "confidence": segmentation.confidence,
        "rim_entropy": segmentation.rim_entropy,
        "seconds": segmentation.seconds,
        "card": segmentation.card,
        "card_version": segmentation.card_version,
        "weights_sha256": segmentation.weights_sha256,
    }
    return StoredFolder(folder, _write_document(folder / SEGMENTATION_FILE, document))


def load_segmentation(stored: StoredFolder | Path) -> Segmentation:
    """A stored segmentation; its arrays are mapped, not read. Arguments and errors as for :func:`load_volume`."""
    folder, document = read_document(stored, SEGMENTATION_FILE)
    arrays = {}
    for name, sha256 in array_hashes(document).items():
        if isinstance(stored, StoredFolder):
            check_file(folder / f"{name}.npy", sha256)
        arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return described_segmentation(document, arrays)


def save_mask(mask: npt.NDArray[np.uint8], path: Path) -> str:
    """Store a mask durably, a bit a voxel.

    Args:
        mask: (k, j, i) of 0 and 1.
        path: ``.npy``.

    Returns:
        SHA-256 of the file.

    Raises:
        StorageFull: No room.
    """
    size = np.frombuffer(np.array(mask.shape, dtype="<i8").tobytes(), dtype=np.uint8)
    return _write_array(path, np.concatenate([size, np.packbits(mask)])[None])


def load_mask(path: Path, sha256: str) -> npt.NDArray[np.uint8]:
    """A stored mask, (k, j, i) of 0 and 1.

    Raises:
        SegmentationFailed: It is missing or was changed.
    """
    check_file(path, sha256)
    content = np.load(path, allow_pickle=False)[0]
    shape = tuple(int(size) for size in np.frombuffer(content[:24].tobytes(), dtype="<i8"))
    return np.unpackbits(content[24:], count=math.prod(shape)).reshape(shape)


def array_hashes(document: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the ``.npy`` of each array that a segmentation's document names."""
    keys = {name: f"{name}_sha256" for name in SEGMENTATION_ARRAYS}
    return {name: document[key] for name, key in keys.items() if key in document}


def described_segmentation(document: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Segmentation:
    """The segmentation that a document and its arrays describe."""
    anatomy = load_anatomy()
    return Segmentation(
        label_volume=LabelVolume(
            labels=arrays["labels"],
            geometry=_geometry(document["geometry"]),
            structures={int(label): anatomy[name] for label, name in document["structures"].items()},
            certainty=Certainty(arrays["winner"], arrays["runner_up"]) if "winner" in arrays else None,
        ),
        confidence=document["confidence"],
        rim_entropy=document.get("rim_entropy", {}),  # cases stored by an earlier version have none
        seconds=document["seconds"],
        card=document["card"],
        card_version=document["card_version"],
        weights_sha256=document["weights_sha256"],
    )


def _geometry_document(geometry: Geometry) -> dict[str, Any]:
    return {
        "origins": geometry.origins.tolist(),
        "row_direction": geometry.row_direction.tolist(),
        "column_direction": geometry.column_direction.tolist(),
        "row_spacing": float(geometry.row_spacing),
        "column_spacing": float(geometry.column_spacing),
        "rows": int(geometry.rows),
        "columns": int(geometry.columns),
        "slice_thickness": float(geometry.slice_thickness),
    }


def _geometry(document: dict[str, Any]) -> Geometry:
    arrays = {
        key: np.array(document[key], dtype=np.float64) for key in ("origins", "row_direction", "column_direction")
    }
    return Geometry(**{**document, **arrays})


def _write_array(path: Path, array: npt.NDArray[Any]) -> str:
    """Write a .npy file slice by slice; returns its SHA-256."""
    digest = hashlib.sha256()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    )

    def chunks() -> Iterator[bytes]:
        digest.update(header.getvalue())
        yield header.getvalue()
        for part in array:
            encoded = part.tobytes()
            digest.update(encoded)
            yield encoded

    write_durably(path, chunks())
    return digest.hexdigest()


def _write_bytes(path: Path, content: bytes) -> str:
    write_durably(path, [content])
    return hashlib.sha256(content).hexdigest()


def _write_document(path: Path, document: dict[str, Any]) -> str:
    return _write_bytes(path, json.dumps(document, allow_nan=False).encode("utf-8"))


def read_document(stored: StoredFolder | Path, name: str) -> tuple[Path, dict[str, Any]]:
    """The folder and its document, checked where its SHA-256 is known.

    Raises:
        SegmentationFailed: There is none, or not this one.
    """
    folder = stored.folder if isinstance(stored, StoredFolder) else stored
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise SegmentationFailed(f"{folder} holds no {name}: it was never finished, or removed") from error
    if isinstance(stored, StoredFolder) and hashlib.sha256(content).hexdigest() != stored.sha256:
        raise SegmentationFailed(f"{folder / name} is not what was written: its SHA-256 differs from {stored.sha256}")
    document: dict[str, Any] = json.loads(content)
    return folder, document


def check_file(path: Path, sha256: str) -> None:
    """Compare a file with its SHA-256.

    Raises:
        SegmentationFailed: It is missing or another.
    """
    try:
        found = file_sha256(path)
    except FileNotFoundError as error:
        raise SegmentationFailed(f"{path} is missing") from error
    if found != sha256:
        raise SegmentationFailed(f"{path} is not what was written: expected SHA-256 {sha256}, got {found}")


def _encode_header(volume: Volume) -> bytes:
    header = _bare(volume.header)
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = UID(volume.sources[0].sop_class_uid)
    header.file_meta.MediaStorageSOPInstanceUID = UID(volume.sources[0].sop_instance_uid)
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    encoded = io.BytesIO()
    header.save_as(encoded, enforce_file_format=True)
    return encoded.getvalue()


def _bare(header: Dataset) -> Dataset:
    """A header's elements without the file it was read from (its preamble, meta information and encoding)."""
    bare = Dataset()
    for element in header:
        bare.add(element)
    return bare
