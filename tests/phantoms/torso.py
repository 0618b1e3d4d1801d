"""An analytic human-like trunk, 460 mm tall; coordinates in LPS mm, the middle at the first lumbar vertebra."""

from __future__ import annotations

import numpy as np

from tests.phantoms.solids import Box, Ellipsoid, Grid, Mask, Part, Point, Rule, Tube
from tests.phantoms.tissues import Tissue

NAMES = {
    1: "Liver",
    2: "Spleen",
    3: "Kidney_R",
    4: "Kidney_L",
    5: "Gallbladder",
    6: "Pancreas",
    7: "Stomach",
    8: "Bladder",
    9: "Heart",
    10: "Lung_R",
    11: "Lung_L",
    12: "A_Aorta",
    13: "V_Venacava_I",
    14: "Spine",
    15: "Sacrum",
    16: "Pelvis_L",
    17: "Pelvis_R",
    18: "Femur_L",
    19: "Femur_R",
    20: "Iliopsoas_L",
    21: "Iliopsoas_R",
    22: "ErectorSpinae_L",
    23: "ErectorSpinae_R",
}
LEFT_AND_RIGHT = ((1, 0), (-1, 1))
"""Sign of x on each side of the patient, and what to add to the left label."""
SOFT = (Tissue.FAT, Tissue.MUSCLE)
LUMBAR_Y = 52.0
VERTEBRA_MM = 32.0


def torso_parts() -> list[Part]:
    """Everything in the trunk, painted from the skin inwards."""
    return [*_walls(), *_skeleton(), *_chest(), *_upper_abdomen(), *_vessels(), *_bowel_and_pelvis()]


def _walls() -> list[Part]:
    return [
        Part(Rule(_trunk(0.0)), Tissue.SKIN),
        Part(Rule(_trunk(3.0)), Tissue.FAT),
        Part(Rule(_trunk(19.0)), Tissue.MUSCLE),
        Part(Rule(_trunk(33.0)), Tissue.FAT),
        *(
            Part(Ellipsoid((side * 37, 84, 0), (30, 21, 320)), Tissue.MUSCLE, 22 + right)
            for side, right in LEFT_AND_RIGHT
        ),
        *(
            Part(
                Tube(((side * 34, 52, 10), (side * 45, 46, -90), (side * 68, 10, -190)), (10, 24, 26)),
                Tissue.MUSCLE,
                20 + right,
            )
            for side, right in LEFT_AND_RIGHT
        ),
        *(Part(Ellipsoid((side * 82, 78, -200), (60, 34, 75)), Tissue.MUSCLE) for side in (-1, 1)),
    ]


def _skeleton() -> list[Part]:
    vertebrae = Rule(_vertebral_column(22.0), ((-40, 20, -150), (40, 120, 260)))
    marrow = Rule(_vertebral_column(19.5), ((-40, 20, -150), (40, 120, 260)))
    return [
        Part(Rule(_ribs, ((-180, -130, -20), (180, 130, 240))), Tissue.CORTEX, only_over=SOFT),
        Part(Tube(((0, -92, 70), (0, -86, 190)), (11, 14)), Tissue.MARROW),
        Part(Tube(((0, LUMBAR_Y, -150), (0, LUMBAR_Y, 260)), (20, 20)), Tissue.DISC),
        Part(vertebrae, Tissue.CORTEX, 14),
        Part(marrow, Tissue.MARROW, 14),
        Part(Tube(((0, 80, -160), (0, 80, 260)), (9, 9)), Tissue.CANAL),
        Part(Tube(((0, 56, -148), (0, 84, -215)), (38, 17)), Tissue.CORTEX, 15),
        Part(Tube(((0, 56, -148), (0, 84, -215)), (35, 14)), Tissue.MARROW, 15),
        *(part for side, right in LEFT_AND_RIGHT for part in _hip(side, right)),
    ]


def _hip(side: int, right: int) -> list[Part]:
    crest = ((side * 58, 58, -150), (side * 100, 10, -118), (side * 105, -38, -140))
    socket = ((side * 60, 60, -155), (side * 92, 14, -190))
    femur = ((side * 92, 8, -205), (side * 128, 12, -240))
    return [
        Part(Tube(crest, (9, 8, 7)), Tissue.CORTEX, 16 + right),
        Part(Tube(socket, (13, 20)), Tissue.CORTEX, 16 + right),
        Part(Tube(socket, (10, 16)), Tissue.MARROW, 16 + right),
        Part(Tube(femur, (25, 17)), Tissue.CORTEX, 18 + right),
        Part(Tube(femur, (22, 13)), Tissue.MARROW, 18 + right),
    ]


def _chest() -> list[Part]:
    return [
        Part(Rule(_lung(-1), ((-140, -100, 0), (0, 120, 230))), Tissue.LUNG, 10, (*SOFT, Tissue.DISC)),
        Part(Rule(_lung(1), ((0, -100, 0), (140, 120, 230))), Tissue.LUNG, 11, (*SOFT, Tissue.DISC)),
        Part(Ellipsoid((22, -32, 98), (52, 42, 50), turn=-30), Tissue.HEART, 9),
        Part(Ellipsoid((34, -40, 92), (26, 18, 30), turn=-30), Tissue.BLOOD, 9),
        Part(Ellipsoid((-8, -22, 104), (20, 22, 34)), Tissue.BLOOD, 9),
        Part(Tube(((0, 8, 148), (0, 14, 260)), (9, 9)), Tissue.GAS),
        *(Part(Tube(((0, 8, 148), (side * 48, 14, 120)), (7, 5)), Tissue.GAS) for side in (-1, 1)),
        *(Part(tube, Tissue.BLOOD) for tube in _lung_vessels()),
    ]


def _upper_abdomen() -> list[Part]:
    liver = Rule(_liver, ((-145, -100, -80), (60, 90, 100)))
    over_liver = (*SOFT, Tissue.LUNG, Tissue.HEART)
    return [
        Part(Tube(((18, 18, 80), (30, -10, 45)), (9, 12)), Tissue.STOMACH, 7),
        Part(Tube(((74, 4, 58), (72, -28, 25), (40, -62, -8), (4, -58, -20)), (36, 34, 26, 15)), Tissue.STOMACH, 7),
        Part(Ellipsoid((70, -46, 44), (24, 14, 26)), Tissue.GAS, 7),
        Part(Ellipsoid((106, 42, 36), (22, 42, 50), turn=25), Tissue.SPLEEN, 2),
        Part(liver, Tissue.LIVER, 1, over_liver),
        *(Part(tube, Tissue.BLOOD, 1, (Tissue.LIVER,)) for tube in _liver_veins()),
        Part(Ellipsoid((-48, -58, -30), (15, 18, 30), turn=20), Tissue.BILE, 5),
        Part(Ellipsoid((-66, 50, -36), (28, 24, 54), turn=-35), Tissue.KIDNEY, 3),
        Part(Ellipsoid((-56, 42, -36), (14, 9, 26), turn=-35), Tissue.FAT),
        Part(Ellipsoid((66, 50, -18), (27, 24, 56), turn=35), Tissue.KIDNEY, 4),
        Part(Ellipsoid((56, 42, -18), (14, 9, 28), turn=35), Tissue.FAT),
        Part(
            Tube(((-34, -4, -42), (-14, -14, -22), (20, -8, -10), (58, 18, 12), (82, 32, 24)), (17, 13, 11, 10, 7)),
            Tissue.PANCREAS,
            6,
        ),
        Part(Tube(((-10, -50, -22), (-48, -20, -26), (-50, 4, -70), (0, 12, -84)), (13, 12, 12, 11)), Tissue.BOWEL),
    ]


def _vessels() -> list[Part]:
    aorta = ((-6, -20, 130), (-8, -22, 162), (6, 2, 180), (22, 28, 162), (20, 26, 40), (10, 16, -112))
    cava = ((-16, -8, 92), (-20, 22, 60), (-20, 20, -114))
    return [
        Part(Tube(aorta, (15, 15, 14, 13, 11, 9)), Tissue.BLOOD, 12),
        Part(Tube(cava, (13, 13, 11)), Tissue.BLOOD, 13),
        *(
            Part(Tube(((s * 4, 18, -114), (s * 42, 20, -160), (s * 72, -34, -220)), (8, 7, 6)), Tissue.BLOOD)
            for s in (-1, 1)
        ),
    ]


def _bowel_and_pelvis() -> list[Part]:
    colon: list[tuple[tuple[Point, ...], tuple[float, ...]]] = [
        (((-92, -8, -150), (-98, 4, -70), (-90, -40, -62), (0, -76, -84)), (26, 23, 20, 19)),
        (((0, -76, -84), (84, -40, -30), (100, 18, -50), (98, 14, -140), (50, 0, -175)), (19, 18, 17, 15, 15)),
        (((50, 0, -175), (10, 30, -165), (0, 46, -200), (0, 50, -240)), (15, 16, 20, 18)),
    ]
    gas = Rule(lambda x, y, z: np.sin(z / 11 + x / 17) + np.cos(y / 9 - x / 23) > 1.1)
    return [
        Part(Rule(_small_bowel, ((-85, -85, -180), (85, 30, -55))), Tissue.BOWEL, 0, (Tissue.FAT,)),
        *(Part(Tube(points, radii), Tissue.BOWEL) for points, radii in colon),
        Part(gas, Tissue.GAS, 0, (Tissue.BOWEL,)),
        Part(Ellipsoid((0, -22, -205), (42, 34, 30)), Tissue.MUSCLE),
        Part(Ellipsoid((0, -22, -205), (39, 31, 27)), Tissue.URINE, 8),
        Part(Box((-200, -200, 300), (200, 200, 400)), Tissue.AIR),
    ]


def _trunk(depth: float):
    """The body without its outer ``depth`` mm: a rounded cross-section that swells at the chest and the hips."""

    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        swell = 7 * np.cos((z - 120) / 55) + 9 * np.exp(-(((z + 200) / 60) ** 2))
        width, back = 158 + swell - depth, 108 - depth
        front = 112 + 6 * np.sin(z / 70) - depth
        deep = np.where(y > 0, back, front)
        return np.abs(x / width) ** 2.3 + np.abs(y / deep) ** 2.3 <= 1

    return formula


def _ribs(x: Grid, y: Grid, z: Grid) -> Mask:
    shell = _trunk(22.0)(x, y, z) & ~_trunk(31.0)(x, y, z)
    behind = np.mod(z - 0.42 * y, 29.0) < 11.0
    costal_arch = z > -15 + 0.5 * np.maximum(-y, 0) - 0.0 * x
    return shell & behind & costal_arch & (np.abs(x) > 14)


def _vertebral_column(radius: float):
    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        level = np.abs(np.mod(z, VERTEBRA_MM) - VERTEBRA_MM / 2)
        body = ((x / radius) ** 2 + ((y - LUMBAR_Y) / (radius * 0.85)) ** 2 <= 1) & (level < VERTEBRA_MM / 2 - 3.5)
        arch = np.hypot(x, y - 80)
        lamina = (arch < radius - 5) & (level < 11)
        spinous = (np.abs(x) < radius - 18) & (y > 88) & (y < 112) & (level < 8)
        transverse = (np.abs(x) < radius + 16) & (np.abs(y - 80) < radius - 17) & (level < 5)
        return (body | lamina | spinous | transverse) & (z > -150)

    return formula


def _dome(x: Grid, y: Grid, side: int) -> Grid:
    """Height of the diaphragm in mm; the right one stands higher."""
    top = 82.0 if side < 0 else 70.0
    return top - ((x - side * 66) ** 2 + (y + 8) ** 2) / 105


def _lung(side: int):
    def formula(x: Grid, y: Grid, z: Grid) -> Mask:
        cage = _trunk(31.0)(x, y, z) & (x * side > 9)
        reach = np.clip(1 - ((z - 60) / 165) ** 4, 0.0, 1.0)
        apex = ((x - side * 66) / (66 * reach + 1e-3)) ** 2 + ((y - 6) / (92 * reach + 1e-3)) ** 2 <= 1
        return cage & apex & (z > _dome(x, y, side)) & (z < 225)

    return formula


def _lung_vessels() -> list[Tube]:
    tubes = []
    for side in (-1, 1):
        for angle in range(0, 360, 40):
            turn = np.radians(angle + 13 * side)
            end = (side * (62 + 26 * np.cos(turn)), 12 + 44 * np.sin(turn), 118 + 52 * np.sin(2 * turn + 0.7))
            tubes.append(Tube(((side * 40, 12, 122), end), (4.0, 1.2)))
    return tubes


def _liver(x: Grid, y: Grid, z: Grid) -> Mask:
    right = ((x + 66) / 76) ** 2 + ((y + 2) / 82) ** 2 + ((z - 10) / 84) ** 2 <= 1
    left = ((x + 2) / 58) ** 2 + ((y + 50) / 36) ** 2 + ((z - 34) / 32) ** 2 <= 1
    inferior = z > -76 + 0.62 * (x + 120)
    under_dome = z < np.maximum(_dome(x, y, -1) - 3, 24 * (x > -20) + 30)
    return (right & inferior | left) & under_dome & _trunk(35.0)(x, y, z)


def _liver_veins() -> list[Tube]:
    portal = (-30.0, -8.0, 2.0)
    ends = ((-98.0, 10.0, 24.0), (-88.0, 24.0, -18.0), (-20.0, -52.0, 34.0), (-80.0, -42.0, 6.0))
    hepatic = ((-84.0, 6.0, 48.0), (-44.0, -36.0, 46.0))
    return [
        *(Tube((portal, end), (5.5, 2.0)) for end in ends),
        *(Tube(((-20.0, 14.0, 58.0), end), (5.5, 2.0)) for end in hepatic),
    ]


def _small_bowel(x: Grid, y: Grid, z: Grid) -> Mask:
    belly = (x / 82) ** 2 + ((y + 26) / 52) ** 2 + ((z + 122) / 62) ** 2 <= 1
    coils = np.sin(x / 8.5 + 1.3 * np.sin(z / 14)) + np.sin(y / 8.0 + z / 21) + np.sin(z / 9.0 - x / 19)
    return belly & (coils > -0.75)
