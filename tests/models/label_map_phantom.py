"""A small made-up trunk as a harmonised label map: body, liver on the right, kidney on the left, spine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.label_maps import LabelMap, outside_distance
from models.tissues import UNSETTLED, Tissue, structure_label


def ellipsoid(
    shape: tuple[int, int, int], centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    """Solid ellipsoid (k, j, i)."""
    axes = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return np.asarray(sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) <= 1)


def trunk_map(*, spacing: float = 4.0, unsettled: bool = True) -> LabelMap:
    """The map; the lowest levels are unsettled for the bladder."""
    shape = (24, 56, 64)
    core = ellipsoid(shape, (12, 28, 32), (np.inf, 18, 22))
    label = np.zeros(shape, np.int8)
    tissue = np.zeros(shape, np.uint8)
    tissue[core] = Tissue.VISCERAL_FAT
    parts = (
        ("Liver", Tissue.LIVER, (13, 26, 22), (8, 10, 8)),
        ("Kidney_L", Tissue.KIDNEY_CORTEX, (11, 34, 42), (6, 5, 5)),
        ("Spine", Tissue.TRABECULAR_BONE, (12, 40, 32), (np.inf, 4, 4)),
    )
    for name, kind, centre, radii in parts:
        voxels = ellipsoid(shape, centre, radii) & core
        label[voxels] = structure_label("torso", name)
        tissue[voxels] = kind
    if unsettled:
        label[:4][(label[:4] == 0) & core[:4]] = UNSETTLED
    return LabelMap(
        "trunk",
        "torso",
        "made up",
        spacing,
        label,
        tissue,
        outside_distance(core, spacing),
        frozenset(("Bladder",)) if unsettled else frozenset(),
    )


def knee_map() -> LabelMap:
    """A small made-up knee: femur above tibia with a cartilage on each, muscle around."""
    shape, spacing = (40, 40, 40), 2.0
    core = ellipsoid(shape, (20, 20, 20), (np.inf, 17, 17))
    label = np.zeros(shape, np.int8)
    tissue = np.zeros(shape, np.uint8)
    tissue[core] = Tissue.MUSCLE
    levels = np.arange(shape[0])[:, None, None]
    bone = ellipsoid(shape, (20, 20, 20), (np.inf, 9, 9))
    parts = (
        ("Femur", Tissue.TRABECULAR_BONE, 23, 40),
        ("Cartilage_Femur", Tissue.CARTILAGE, 20, 23),
        ("Cartilage_Tibia", Tissue.CARTILAGE, 17, 20),
        ("Tibia", Tissue.TRABECULAR_BONE, 0, 17),
    )
    for name, kind, low, high in parts:
        voxels = bone & (levels >= low) & (levels < high)
        label[voxels], tissue[voxels] = structure_label("knee", name), kind
    return LabelMap("knee", "knee", "made up", spacing, label, tissue, outside_distance(core, spacing))
