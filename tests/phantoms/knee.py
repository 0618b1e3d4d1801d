"""An analytic left knee, 120 mm wide; coordinates in LPS mm, the middle in the joint space, lateral towards +x."""

from __future__ import annotations

import numpy as np

from tests.phantoms.solids import Ellipsoid, Grid, Mask, Part, Rule, Tube
from tests.phantoms.tissues import Tissue

NAMES = {
    1: "Femur",
    2: "Tibia",
    3: "Patella",
    4: "Fibula",
    5: "Cartilage_Femur",
    6: "Cartilage_Tibia",
    7: "Cartilage_Patella",
    8: "Meniscus_Lat",
    9: "Meniscus_Med",
    10: "Lig_Patellar",
    11: "Lig_ACL",
    12: "Lig_PCL",
}
CORTEX_MM = 1.6
CARTILAGE_MM = 2.4


def knee_parts() -> list[Part]:
    """Everything in the knee, painted from the skin inwards."""
    return [*_soft_tissue(), *_cartilage(), *_bones(), *_ligaments()]


def _soft_tissue() -> list[Part]:
    return [
        Part(Rule(_limb(0.0)), Tissue.SKIN),
        Part(Rule(_limb(2.0)), Tissue.FAT),
        Part(Ellipsoid((0, -24, 90), (48, 30, 60)), Tissue.MUSCLE),
        Part(Ellipsoid((-30, 38, 60), (17, 17, 75)), Tissue.MUSCLE),
        Part(Ellipsoid((30, 38, 60), (14, 15, 75)), Tissue.MUSCLE),
        Part(Ellipsoid((-20, 36, -60), (22, 17, 62)), Tissue.MUSCLE),
        Part(Ellipsoid((22, 36, -60), (20, 16, 62)), Tissue.MUSCLE),
        Part(Tube(((2, 38, 90), (2, 34, 0), (2, 34, -90)), (4.5, 4.0, 4.0)), Tissue.BLOOD),
        Part(Ellipsoid((0, 0, -1), (44, 34, 22)), Tissue.FIBROUS, only_over=(Tissue.MUSCLE,)),
        Part(Ellipsoid((0, 4, 1), (40, 30, 12)), Tissue.URINE),
    ]


def _femur(grow: float) -> list[Ellipsoid | Tube]:
    return [
        Tube(((0, -6, 26), (0, -10, 130)), (25 + grow, 14 + grow)),
        Ellipsoid((-22, 6, 20), (18 + grow, 31 + grow, 21 + grow), turn=6),
        Ellipsoid((22, 4, 21), (19 + grow, 30 + grow, 20 + grow), turn=-6),
    ]


def _tibia(grow: float) -> list[Ellipsoid | Tube]:
    return [
        Ellipsoid((0, 3, -24), (39 + grow, 25 + grow, 20 + grow), below=-7.5 + grow),
        Tube(((0, 0, -30), (-3, -4, -130)), (24 + grow, 13 + grow)),
    ]


def _patella(grow: float) -> list[Ellipsoid | Tube]:
    return [Ellipsoid((1, -41, 20), (21 + grow, 9 + grow, 22 + grow))]


def _cartilage() -> list[Part]:
    joint = (Tissue.FAT, Tissue.FIBROUS, Tissue.URINE, Tissue.MUSCLE)
    femoral = Rule(_only_where(_femur(CARTILAGE_MM), lambda _x, y, z: (z < 22) | ((y < -12) & (z < 40))))
    tibial = Rule(_only_where(_tibia(CARTILAGE_MM), lambda x, _y, z: (z > -12) & (np.abs(x) > 7) & (np.abs(x) < 36)))
    patellar = Rule(_only_where(_patella(CARTILAGE_MM), lambda _x, y, _z: y > -38))
    return [
        Part(Rule(_meniscus(1)), Tissue.FIBROUS, 8, joint),
        Part(Rule(_meniscus(-1)), Tissue.FIBROUS, 9, joint),
        Part(tibial, Tissue.CARTILAGE, 6, joint),
        Part(patellar, Tissue.CARTILAGE, 7, joint),
        Part(femoral, Tissue.CARTILAGE, 5, (*joint, Tissue.CARTILAGE)),
    ]


def _bones() -> list[Part]:
    parts = []
    for label, bone in ((1, _femur), (2, _tibia), (3, _patella), (4, _fibula)):
        parts += [Part(solid, Tissue.CORTEX, label) for solid in bone(0.0)]
        parts += [Part(solid, Tissue.MARROW, label) for solid in bone(-CORTEX_MM)]
    return parts


def _fibula(grow: float) -> list[Ellipsoid | Tube]:
    return [
        Ellipsoid((37, 20, -34), (10 + grow, 11 + grow, 13 + grow)),
        Tube(((37, 20, -34), (34, 14, -130)), (7 + grow, 6 + grow)),
    ]


def _ligaments() -> list[Part]:
    ropes = {
        10: Tube(((0, -40, 1), (0, -32, -38)), (5, 5)),
        11: Tube(((10, 18, 14), (-4, -12, -8)), (4, 4)),
        12: Tube(((-8, 4, 8), (2, 24, -10)), (5, 5)),
        0: Tube(((0, -44, 40), (0, -40, 110)), (6, 8)),  # quadriceps tendon
    }
    bones = (Tissue.CORTEX, Tissue.MARROW, Tissue.CARTILAGE)
    over = tuple(tissue for tissue in Tissue if tissue not in (*bones, Tissue.AIR))
    return [Part(rope, Tissue.FIBROUS, label, over) for label, rope in ropes.items()]


def _limb(depth: float):
    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        width = 60 + 4 * np.sin(z / 50) - depth
        return np.abs(x / width) ** 2.2 + np.abs((y - 2) / (62 + 0.05 * z - depth)) ** 2.2 <= 1

    return formula


def _only_where(solids: list[Ellipsoid | Tube], condition):
    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        inside = np.zeros(x.shape, dtype=bool)
        for solid in solids:
            inside |= solid.contains(x, y, z)
        return inside & condition(x, y, z)

    return formula


def _meniscus(side: int):
    """A wedge that is open towards the middle of the joint."""

    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        radius = np.hypot(x - side * 20, (y - 4) * 0.85)
        wedge = (radius < 20) & (radius > 11) & (np.abs(z + 2.5) < 0.45 * (radius - 10.5))
        return wedge & ~((np.abs(y - 4) < 9) & (x * side < 20)) & (x * side > 0)

    return formula
