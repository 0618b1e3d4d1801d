"""BodyParts3D's torso and knee as label maps.

The source is share-alike (CC BY-SA as its mirror states it): weights trained on it carry that licence, and their card
says so. ``dicom-node train --without bodyparts3d_torso --without bodyparts3d_knee`` trains without it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.label_maps import (
    IntVolume,
    LabelMap,
    axial_hull,
    dilate,
    erode,
    fill_axial,
    outside_distance,
    paint,
    shell_bone,
)
from models.tissues import UNSETTLED, Tissue, structure_label
from models.torso_maps import refine_tissues
from models.torso_names import Row, torso_row

_KNEE: dict[str, Row] = {
    "femur": (Tissue.TRABECULAR_BONE, "Femur"),
    "tibia": (Tissue.TRABECULAR_BONE, "Tibia"),
    "fibula": (Tissue.TRABECULAR_BONE, "Fibula"),
    "patella": (Tissue.TRABECULAR_BONE, "Patella"),
    "quadriceps": (Tissue.MUSCLE, "Quadriceps"),
    "hamstrings_lateral": (Tissue.DEEP_MUSCLE, "Hamstrings"),
    "hamstrings_medial": (Tissue.DEEP_MUSCLE, "Hamstrings"),
    "gastrocnemius": (Tissue.DEEP_MUSCLE, "Gastrocnemius"),
    "iliotibial_tract": (Tissue.LIGAMENT, None),
    "popliteal_vessels": (Tissue.ARTERY, None),
}


_KNEE_LACKS = (
    "Cartilage_Femur", "Cartilage_Tibia", "Cartilage_Patella", "Meniscus_Med", "Meniscus_Lat", "Lig_ACL", "Lig_PCL",
    "Lig_Patellar",
)  # fmt: skip
JOINT_MM = 20.0
"""Unmodelled voxels of the knee this near to a bone may be cartilage, meniscus or ligament."""
GAP_MM = 8.0
"""Gaps in a muscle up to twice this wide are muscle: the source models single bellies apart from each other."""
WALL_MM = 8.0
"""Unmodelled voxels this near to the trunk's surface are muscle of its wall."""


def read_bodyparts(path: Path) -> LabelMap:
    """The torso or the knee (told apart by the file's name), a NIfTI with its JSON of names beside it."""
    image = nib.load(path)
    volume = np.asarray(image.dataobj, dtype=np.int16).transpose(2, 1, 0)  # type: ignore[attr-defined]
    spacing = float(image.header.get_zooms()[0])  # type: ignore[attr-defined]
    document = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
    table = {name: int(label) for label, name in document["labels"].items()}
    anatomy = "knee" if "knee" in path.name else "torso"
    margin = round((60 if anatomy == "torso" else 24) / spacing)
    source = np.pad(volume, ((0, 0), (margin, margin), (margin, margin)))
    label, tissue = _paint(source, table, anatomy)
    core = axial_hull(_trunk(source, table) if anatomy == "torso" else source > 0, 2.0) | (tissue > 0)
    empty = core & (tissue == Tissue.AIR)
    tissue[empty] = Tissue.VISCERAL_FAT
    if anatomy == "torso":
        refine_tissues(label, tissue)
        _canal(label, tissue, empty)
        _fill_muscles(label, tissue, empty, spacing)
        wall = empty & ~erode(core, WALL_MM / spacing) & (tissue == Tissue.VISCERAL_FAT)
        tissue[wall] = Tissue.MUSCLE
    else:
        bones = tissue == Tissue.TRABECULAR_BONE
        shell_bone(tissue, bones, 1.6 / spacing)
        label[empty & dilate(bones, JOINT_MM / spacing)] = UNSETTLED
    return LabelMap(
        f"bodyparts3d_{anatomy}", anatomy, "CC BY-SA 2.1 JP", spacing, label, tissue,
        outside_distance(core, spacing), frozenset(_KNEE_LACKS) if anatomy == "knee" else frozenset(),
    )  # fmt: skip


def _row(name: str, anatomy: str) -> Row:
    """What is not known by name is a muscle."""
    return (_KNEE.get(name) if anatomy == "knee" else torso_row(name)) or (Tissue.MUSCLE, None)


def _paint(
    source: IntVolume, table: dict[str, int], anatomy: str
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    return paint(source, table, {name: _row(name, anatomy) for name in table}, anatomy)


def _trunk(source: IntVolume, table: dict[str, int]) -> npt.NDArray[np.bool_]:
    """Everything but the arms."""
    arms = [label for name, label in table.items() if name.startswith(("humerus", "scapula"))]
    return (source > 0) & ~np.isin(source, arms)


def _canal(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], empty: npt.NDArray[np.bool_]) -> None:
    """The spinal canal: the hole of the vertebrae. In place."""
    spine = np.isin(tissue, (Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE, Tissue.DISC)) & (label > 0)
    closed = erode(dilate(spine, 2), 2)
    tissue[fill_axial(closed) & empty] = Tissue.SPINAL_CANAL


def _fill_muscles(
    label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], empty: npt.NDArray[np.bool_], spacing: float
) -> None:
    """The gaps between the bellies of the labelled muscles. In place."""
    reach = GAP_MM / spacing
    boxes = dict(enumerate(ndimage.find_objects(label.clip(min=0).astype(np.int64)), start=1))
    for name in ("ErectorSpinae_L", "ErectorSpinae_R", "Iliopsoas_L", "Iliopsoas_R", "Gluteal_L", "Gluteal_R"):
        number = structure_label("torso", name)
        if (found := boxes.get(number)) is None:
            continue
        margin = math.ceil(reach) + 1
        box = tuple(slice(max(0, part.start - margin), part.stop + margin) for part in found)
        closed = erode(dilate(label[box] == number, reach), reach)
        gaps = closed & empty[box] & (label[box] == 0)
        tissue[box][gaps], label[box][gaps] = Tissue.DEEP_MUSCLE, number
