"""The knee's label maps: SPL knee atlas, pymskt's DESS knee and the HuBMAP knee, all turned to left knees.

The latter two have bones, cartilage and menisci only; skin, fat and muscles around them come from the SPL atlas by a
smooth warp.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

from models.label_maps import (
    LabelMap,
    Mask,
    axial_hull,
    outside_distance,
    paint,
    read_colour_table,
    read_nrrd,
    resample_nearest,
    shell_bone,
)
from models.tissues import KNEE_STRUCTURES, UNSETTLED, Tissue, structure_label

SPACING = 0.75
"""Edge of the knee maps' voxels in mm."""
FAT_MARGIN_MM = 24.0

_BONES = ("Femur", "Tibia", "Fibula", "Patella")
_SPL_ROWS: dict[str, tuple[Tissue, str | None]] = {
    "femur": (Tissue.TRABECULAR_BONE, "Femur"),
    "tibia": (Tissue.TRABECULAR_BONE, "Tibia"),
    "fibula": (Tissue.TRABECULAR_BONE, "Fibula"),
    "patella": (Tissue.TRABECULAR_BONE, "Patella"),
    "femoral_cartilage": (Tissue.CARTILAGE, "Cartilage_Femur"),
    "lateral_tibial_cartilage": (Tissue.CARTILAGE, "Cartilage_Tibia"),
    "medial_tibial_cartilage": (Tissue.CARTILAGE, "Cartilage_Tibia"),
    "patellar_cartilage": (Tissue.CARTILAGE, "Cartilage_Patella"),
    "medial_meniscus": (Tissue.MENISCUS, "Meniscus_Med"),
    "lateral_meniscus": (Tissue.MENISCUS, "Meniscus_Lat"),
    "anterior_cruciate_ligament": (Tissue.LIGAMENT, "Lig_ACL"),
    "posterior_cruciate_ligament": (Tissue.LIGAMENT, "Lig_PCL"),
    "patellar_ligament": (Tissue.LIGAMENT, "Lig_Patellar"),
    "fibular_collateral_ligament": (Tissue.LIGAMENT, None),
    "tibial_collateral_ligament": (Tissue.LIGAMENT, None),
    "vastus_lateralis_muscle": (Tissue.MUSCLE, "Quadriceps"),
    "vastus_medialis_muscle": (Tissue.MUSCLE, "Quadriceps"),
    "biceps_femoris_muscle": (Tissue.DEEP_MUSCLE, "Hamstrings"),
    "semimembranosus_muscle": (Tissue.DEEP_MUSCLE, "Hamstrings"),
    "semitendinosus_muscle": (Tissue.DEEP_MUSCLE, "Hamstrings"),
    "medial_head_gastrocnemius_muscle": (Tissue.DEEP_MUSCLE, "Gastrocnemius"),
    "lateral_head_gastrocnemius_muscle": (Tissue.DEEP_MUSCLE, "Gastrocnemius"),
    "infrapatellar_fat_body": (Tissue.FAT_PAD, None),
    "popliteal_artery": (Tissue.ARTERY, None),
    "popliteal_vein": (Tissue.VEIN, None),
    "great_saphenous_vein": (Tissue.VEIN, None),
    "small_saphenous_vein": (Tissue.VEIN, None),
    "tibialis_nerve": (Tissue.NERVE, None),
    "peroneus_nerve": (Tissue.NERVE, None),
    "iliotibial_tract": (Tissue.LIGAMENT, None),
    **{f"{name}_tendon": (Tissue.LIGAMENT, None) for name in (
        "adductor_magnus", "biceps_femoris", "popliteus", "soleus", "semitendinosus", "gracilis")},
    **{f"{name}_muscle": (Tissue.MUSCLE, None) for name in (
        "gracilis", "sartorius", "popliteus", "soleus", "tibialis_anterior", "extensor_digitorum_longus",
        "peroneus_longus")},
}  # fmt: skip
# pymskt names its labels in its documentation only.
_PYMSKT_TABLE = {
    "femoral_cartilage": 1, "medial_tibial_cartilage": 2, "lateral_tibial_cartilage": 3, "patellar_cartilage": 4,
    "femur": 5, "tibia": 6, "patella": 7, "fibula": 8, "lateral_meniscus": 9, "medial_meniscus": 10,
}  # fmt: skip
_HUBMAP_ROWS: dict[str, tuple[Tissue, str | None]] = {
    **{name: _SPL_ROWS[name] for name in ("femur", "tibia", "fibula", "patella", "patellar_ligament")},
    "femoral_cartilage_derived": (Tissue.CARTILAGE, "Cartilage_Femur"),
    "meniscus": (Tissue.MENISCUS, "Meniscus_Med"),
    "acl": (Tissue.LIGAMENT, "Lig_ACL"),
    "pcl": (Tissue.LIGAMENT, "Lig_PCL"),
    "mcl": (Tissue.LIGAMENT, None),
    "lcl": (Tissue.LIGAMENT, None),
}


def read_spl_knee(folder: Path) -> LabelMap:
    """The SPL knee atlas."""
    source = read_nrrd(folder / "seg.nrrd").transpose(2, 1, 0)[:, ::-1]  # stored y runs against LPS
    source = _pad(resample_nearest(source, (1.0, 0.2773402, 0.2773402), SPACING))
    label, tissue = paint(source, read_colour_table(folder / "knee.ctbl"), _SPL_ROWS, "knee")
    core = axial_hull(source > 0, 2.0) | (source > 0)
    tissue[core & (tissue == Tissue.AIR)] = Tissue.VISCERAL_FAT
    tissue[~core] = Tissue.AIR
    _refine(tissue)
    outside = outside_distance(core, SPACING)
    return _as_left("spl_knee", "3D Slicer licence", label, tissue, outside, frozenset())


def read_pymskt_knee(path: Path, filler: LabelMap) -> LabelMap:
    """Pymskt's right knee on the DESS grid, completed from `filler`."""
    stored = read_nrrd(path)  # axes run to posterior, feet and right
    source = _pad(resample_nearest(stored.transpose(1, 0, 2)[::-1, :, ::-1], (0.36458, 0.36458, 0.7), SPACING))
    rows = {name: _SPL_ROWS[name] for name in _PYMSKT_TABLE}
    label, tissue = paint(source, _PYMSKT_TABLE, rows, "knee")
    return _complete("pymskt_knee", "MIT", label, tissue, filler)


def read_hubmap_knee(path: Path, filler: LabelMap) -> LabelMap:
    """The HuBMAP female knee, its one meniscus divided at the middle of the tibia, completed from `filler`."""
    image = nib.load(path)
    volume = np.asarray(image.dataobj, dtype=np.int16).transpose(2, 1, 0)  # type: ignore[attr-defined]
    document = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    table = {name: int(number) for number, name in document["labels"].items()}
    label, tissue = paint(_pad(resample_nearest(volume, (0.8, 0.8, 0.8), SPACING)), table, _HUBMAP_ROWS, "knee")
    middle = np.argwhere(label == structure_label("knee", "Tibia"))[:, 2].mean()
    lateral = np.broadcast_to(np.arange(label.shape[2]) > middle, label.shape)  # a left knee
    label[(label == structure_label("knee", "Meniscus_Med")) & lateral] = structure_label("knee", "Meniscus_Lat")
    return _complete("hubmap_knee", "CC BY 4.0", label, tissue, filler)


def _pad(volume: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    margin = round(FAT_MARGIN_MM / SPACING)
    return np.pad(volume, ((0, 0), (margin, margin), (margin, margin)))


def _refine(tissue: npt.NDArray[np.uint8]) -> None:
    """Cortex of the bones, in place."""
    shell_bone(tissue, tissue == Tissue.TRABECULAR_BONE, 1.6 / SPACING)


def _as_left(
    name: str,
    licence: str,
    label: npt.NDArray[np.int8],
    tissue: npt.NDArray[np.uint8],
    outside: npt.NDArray[np.uint8],
    unsettled: frozenset[str],
) -> LabelMap:
    """The map as a left knee (fibula towards the patient's left)."""
    fibula, tibia = (np.argwhere(label == structure_label("knee", bone))[:, 2].mean() for bone in ("Fibula", "Tibia"))
    if fibula < tibia:
        label, tissue = np.ascontiguousarray(label[..., ::-1]), np.ascontiguousarray(tissue[..., ::-1])
        outside = np.ascontiguousarray(outside[..., ::-1])
    return LabelMap(name, "knee", licence, SPACING, label, tissue, outside, unsettled)


def _complete(
    name: str, licence: str, label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], filler: LabelMap
) -> LabelMap:
    """Bring in from `filler` what the map lacks: fat, muscles, ligaments."""
    blank = np.zeros(label.shape, np.uint8)
    left = _as_left(name, licence, label, tissue, blank, frozenset())
    label, tissue = left.label.copy(), left.tissue.copy()
    own = {KNEE_STRUCTURES[n - 1] for n in np.unique(label) if n > 0}
    positions = bent_positions(label.shape, _landmarks(label), _landmarks(filler.label), smoothing=20.0)
    covered = (positions[0] >= 1) & (positions[0] < filler.label.shape[0] - 1)
    index = nearest_voxels(positions, filler.label.shape)
    other_label, other_tissue = filler.label[index], filler.tissue[index]
    free = tissue == Tissue.AIR
    borrowed = free & ~np.isin(other_label, [structure_label("knee", s) for s in own])
    tissue[free & (other_tissue != Tissue.AIR)] = Tissue.VISCERAL_FAT
    tissue[borrowed] = other_tissue[borrowed]
    label[borrowed & covered] = other_label[borrowed & covered]
    label[free & ~covered & (other_tissue != Tissue.AIR)] = UNSETTLED
    refine_bones(label, tissue)
    outside = np.where(label > 0, 0, filler.outside[index]).astype(np.uint8)
    outside[tissue != Tissue.AIR] = 0
    missing = frozenset(KNEE_STRUCTURES) - own
    keep = covered_levels(covered)
    return LabelMap(name, "knee", licence, SPACING, label[keep], tissue[keep], outside[keep], missing)


def refine_bones(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8]) -> None:
    """Cortex of the labelled bones. In place."""
    bones = np.isin(label, [structure_label("knee", bone) for bone in _BONES])
    shell_bone(tissue, bones, 1.6 / SPACING)


def bent_positions(
    shape: Sequence[int], here: npt.NDArray[np.float64], there: npt.NDArray[np.float64], smoothing: float
) -> npt.NDArray[np.float64]:
    """Where the voxels of a knee lie in another map (3, k, j, i), by marks (N, 3) of both that belong together."""
    spline = RBFInterpolator(here, there, kernel="thin_plate_spline", smoothing=smoothing)
    cell = 12
    coarse = [np.arange(0, n + cell, cell) for n in shape]
    mesh = np.stack(np.meshgrid(*coarse, indexing="ij"), -1).reshape(-1, 3).astype(np.float64)
    values = spline(mesh).reshape(*(len(axis) for axis in coarse), 3)
    position = np.meshgrid(*(np.arange(n) / cell for n in shape), indexing="ij")
    return np.stack(
        [ndimage.map_coordinates(values[..., axis], position, order=1, mode="nearest") for axis in range(3)]
    )


def nearest_voxels(positions: npt.NDArray[np.float64], shape: Sequence[int]) -> tuple[npt.NDArray[np.intp], ...]:
    """Positions (3, k, j, i) as indices into a volume, those outside it at its faces."""
    return tuple(np.clip(np.round(p).astype(np.intp), 0, n - 1) for p, n in zip(positions, shape, strict=True))


def covered_levels(covered: Mask) -> slice:
    """From the first to the last level of which the filler covers more than half: beyond, bones have no flesh."""
    levels = np.flatnonzero(covered.mean((1, 2)) > 0.5)
    return slice(int(levels[0]), int(levels[-1]) + 1)


def _landmarks(label: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Marks of the bone ends at the joint, which do not depend on the field of view: (N, 3) voxels."""
    ends = (("Femur", False, 45.0), ("Tibia", True, 35.0), ("Fibula", True, 18.0), ("Patella", True, 80.0))
    return np.concatenate(
        [
            bone_marks(label == structure_label("knee", bone), from_top=from_top, depth_mm=depth)
            for bone, from_top, depth in ends
        ]
    )


def bone_marks(bone: Mask, *, from_top: bool, depth_mm: float) -> npt.NDArray[np.float64]:
    """Centre and extents of one end of a bone, `depth_mm` deep: (7, 3) voxels."""
    tops = np.flatnonzero(bone.any((1, 2)))
    edge = tops[-1] if from_top else tops[0]
    end = bone & (np.abs(np.arange(bone.shape[0])[:, None, None] - edge) < depth_mm / SPACING)
    voxels = np.argwhere(end).astype(np.float64)
    centre = voxels.mean(0)
    marks = [centre]
    for axis in range(3):
        for share in (1, 99):
            mark = centre.copy()
            mark[axis] = np.percentile(voxels[:, axis], share)
            marks.append(mark)
    return np.array(marks)
