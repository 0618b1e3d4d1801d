"""Pymskt's three distal femora, surfaces of different people, as knee maps.

Each surface is filled, turned to a left knee and put in the place of the SPL knee's femur, whose surroundings are bent
to it; a cartilage of even thickness covers it where the SPL knee has cartilage. The femur is real, its surroundings are
borrowed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.knee_maps import (
    FAT_MARGIN_MM,
    SPACING,
    bent_positions,
    bone_marks,
    covered_levels,
    nearest_voxels,
    refine_bones,
)
from models.label_maps import LabelMap, Mask, ball, dilate, fill_axial
from models.tissues import Tissue, structure_label

CARTILAGE_MM = 2.2
"""Thickness of the cartilage that is laid on the surface."""
BELOW_MM = 75.0
"""How far the map reaches below the femur at most: it ends where the SPL knee does."""


def read_femur(path: Path, filler: LabelMap) -> LabelMap:
    """One right femur (legacy VTK, points in LPS mm), mirrored to a left one, in the surroundings of `filler`.

    Raises:
        ValueError: The file is not such a surface.
    """
    femur = _filled(_points(path))
    positions = _bent(femur, filler)
    label, tissue = _surroundings(positions, filler)
    label[femur], tissue[femur] = structure_label("knee", "Femur"), Tissue.TRABECULAR_BONE
    _lay_cartilage(label, tissue, femur)
    refine_bones(label, tissue)
    outside = filler.outside[nearest_voxels(positions, filler.outside.shape)].copy()
    outside[tissue != Tissue.AIR] = 0
    keep = covered_levels((positions[0] >= 1) & (positions[0] <= filler.label.shape[0] - 2))
    name = f"pymskt_femur_{path.name[0]}"
    return LabelMap(name, "knee", "MIT", SPACING, label[keep], tissue[keep], outside[keep].astype(np.uint8))


def _points(path: Path) -> npt.NDArray[np.float64]:
    """Points of the surface, dense enough to leave no hole on the map's grid: vertices and centres of the triangles."""
    words = path.read_text(encoding="ascii").split()
    if words[:2] != ["#", "vtk"] or "POLYGONS" not in words:
        raise ValueError(f"{path}: expected a surface in VTK's legacy ASCII format")
    first = words.index("POINTS")
    count = int(words[first + 1])
    points = np.array(words[first + 3 : first + 3 + 3 * count], np.float64).reshape(-1, 3)
    start = words.index("POLYGONS")
    faces = np.array(words[start + 3 : start + 3 + int(words[start + 2])], np.int64).reshape(-1, 4)[:, 1:]
    corners = points[faces]
    middles = [corners.mean(1), *(corners[:, [a, b]].mean(1) for a, b in ((0, 1), (1, 2), (0, 2)))]
    return np.concatenate([points, *middles])


def _filled(points: npt.NDArray[np.float64]) -> Mask:
    """The femur as voxels (k, j, i) of a left knee, with room around and below."""
    points = points * (-1.0, 1.0, 1.0)  # a right femur in LPS, mirrored
    margin = round(FAT_MARGIN_MM / SPACING)
    low = points.min(0) - (margin * SPACING, 2 * margin * SPACING, BELOW_MM)
    size = np.ceil((points.max(0) - low) / SPACING).astype(int) + np.array((margin, 2 * margin, 0))
    index = np.round((points - low) / SPACING).astype(int)
    shell = np.zeros(tuple(size[::-1]), bool)
    inside = (index >= 0) & (index < size)
    i, j, k = index[inside.all(1)].T
    shell[k, j, i] = True
    return fill_axial(ndimage.binary_closing(shell, ball(2)))


def _bent(femur: Mask, filler: LabelMap) -> npt.NDArray[np.float64]:
    """Where the voxels lie in the filler (3, k, j, i), by the marks of the femur's lower end."""
    here = bone_marks(femur, from_top=False, depth_mm=45.0)
    there = bone_marks(filler.label == structure_label("knee", "Femur"), from_top=False, depth_mm=45.0)
    return bent_positions(femur.shape, here, there, smoothing=5.0)


def _surroundings(
    positions: npt.NDArray[np.float64], filler: LabelMap
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    """Filler's label and tissue; where its femur was, what lies nearest to it."""
    own = (filler.label == structure_label("knee", "Femur")) | (filler.tissue == Tissue.AIR)
    nearest = ndimage.distance_transform_edt(own, return_distances=False, return_indices=True)
    label, tissue = filler.label[tuple(nearest)], filler.tissue[tuple(nearest)]
    air = filler.tissue == Tissue.AIR
    label[air], tissue[air] = 0, Tissue.AIR
    index = nearest_voxels(positions, label.shape)
    return label[index].copy(), tissue[index].copy()


def _lay_cartilage(label: npt.NDArray[np.int8], tissue: npt.NDArray[np.uint8], femur: Mask) -> None:
    """Femoral cartilage of even thickness where the borrowed one was. In place."""
    number = structure_label("knee", "Cartilage_Femur")
    near = dilate(label == number, 4.0 / SPACING)
    shell = dilate(femur, CARTILAGE_MM / SPACING) & ~femur & near
    others = np.isin(label, [structure_label("knee", s) for s in ("Cartilage_Tibia", "Cartilage_Patella", "Tibia")])
    borrowed = (label == number) & ~shell
    label[borrowed], tissue[borrowed] = 0, Tissue.JOINT_FLUID
    label[shell & ~others], tissue[shell & ~others] = number, Tissue.CARTILAGE
