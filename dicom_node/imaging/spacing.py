"""Is a slice missing? What the distances between planes prove.

Only positions are evidence. InstanceNumber is not (a series from which slices were lost may be renumbered), nor is
SliceThickness alone (slices may overlap or lie apart), nor SpacingBetweenSlices (vendors disagree on what it means).

The rule
--------
Distances between neighbouring planes are grouped into *blocks*: at least three equal distances in a row. A block is a
way of scanning that was kept up; a distance outside the blocks is judged against the blocks beside it that are not in
doubt themselves.

1. All distances equal: regular.
2. A distance outside the blocks is *too wide* where it exceeds the wider block beside it by more than half of the
   narrower one (without any block: the narrowest other distance by half): slices are missing, for a lost slice adds a
   whole distance. A smaller one is a step, as between two table positions or two blocks, and the volume is processed
   on its true planes.
3. A block whose distance is a whole multiple (2, 3, ...) of a finer block's looks the same as a series from which every
   second (third, ...) slice was lost. It is taken as true only where SliceThickness grows with it by at least half as
   much (2.5 mm slices every 2.5 mm, then 5 mm slices every 5 mm, as in head CT); otherwise slices are missing.
4. A block whose distance is a whole multiple of a single distance outside the blocks is in doubt as well: every second
   slice may have been lost but for that one place. No thickness settles it; slices are missing.
5. Blocks of other ratios (2 mm, then 5 mm) cannot come from lost slices: uneven, processed on the true planes.

In doubt the series is refused as a gap. What positions cannot show: slices missing at either end, and a
series of which every second slice was lost from end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_node.imaging.geometry import SPACING_TOLERANCE_MM, FloatArray

BLOCK_LENGTH = 3
"""Equal distances in a row that make a block."""
TOO_WIDE = 0.5
"""Part of the narrower distance beside it by which a distance may exceed the wider one; a lost slice adds all of it."""
MULTIPLE_TOLERANCE = 0.05
"""How far a ratio may be from a whole number and still count as a multiple."""
SPACING_TOLERANCE_RELATIVE = 0.02
"""Positions are rounded by some scanners; thin slices make the same rounding relatively larger."""


@dataclass(frozen=True)
class Gap:
    """A distance that is too wide.

    Attributes:
        below: Index of the plane before it.
        width_mm: The distance.
        expected_mm: The distance that the planes around it have.
    """

    below: int
    width_mm: float
    expected_mm: float

    @property
    def missing(self) -> int:
        """How many slices would fill it, at least one."""
        return max(1, round(self.width_mm / self.expected_mm) - 1)


def find_gaps(distances: FloatArray, thicknesses: Sequence[float | None]) -> list[Gap]:
    """The gaps of a stack, by the rule of this module.

    Args:
        distances: (n,) mm of the planes along their normal, ascending, without duplicates.
        thicknesses: SliceThickness of each plane in mm, None where unknown.

    Returns:
        One entry per gap, in order; empty for a whole series, evenly spaced or not.
    """
    widths = np.diff(distances)
    blocks = _blocks(widths)
    singles = np.ones(len(widths), dtype=bool)
    for block in blocks:
        singles[block] = False
    doubtful = {
        gap.below: gap
        for gap in (
            *_blocks_beside_single_distances(widths, blocks, widths[singles]),
            *_doubtful_blocks(widths, blocks, thicknesses),
        )
    }
    solid = [block for block in blocks if block.start not in doubtful]
    gaps = list(doubtful.values())
    for index in np.flatnonzero(singles):
        narrow, wide = _expected(widths, solid, int(index))
        if widths[index] > wide + TOO_WIDE * narrow:
            gaps.append(Gap(int(index), float(widths[index]), wide))
    return sorted(gaps, key=lambda gap: gap.below)


def same_spacing(first: float, second: float) -> bool:
    """Whether two distances are one, within the rounding of positions."""
    return abs(first - second) <= max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE_RELATIVE * min(first, second))


def _blocks(widths: FloatArray) -> list[slice]:
    """Runs of at least BLOCK_LENGTH equal distances."""
    blocks, start = [], 0
    for index in range(1, len(widths) + 1):
        if index < len(widths) and same_spacing(widths[index], widths[start]):
            continue
        if index - start >= BLOCK_LENGTH:
            blocks.append(slice(start, index))
        start = index
    return blocks


def _expected(widths: FloatArray, blocks: list[slice], index: int) -> tuple[float, float]:
    """What a distance outside the blocks is measured by: the narrower and the wider block beside it."""
    before = [block for block in blocks if block.stop <= index]
    after = [block for block in blocks if block.start > index]
    beside = [*before[-1:], *after[:1]]
    if not beside:
        others = np.delete(widths, index)
        narrowest = float(others.min()) if len(others) else float(widths[index])
        return narrowest, narrowest
    medians = [float(np.median(widths[block])) for block in beside]
    return min(medians), max(medians)


def _doubtful_blocks(widths: FloatArray, blocks: list[slice], thicknesses: Sequence[float | None]) -> list[Gap]:
    gaps = []
    for block in blocks:
        width = float(np.median(widths[block]))
        for finer in blocks:
            fine = float(np.median(widths[finer]))
            multiple = round(width / fine)
            if multiple < 2 or abs(width / fine - multiple) > MULTIPLE_TOLERANCE * multiple:
                continue
            if not _thicker(thicknesses, block, finer, multiple):
                gaps.append(Gap(block.start, width, fine))
                break
    return gaps


def _blocks_beside_single_distances(widths: FloatArray, blocks: list[slice], singles: FloatArray) -> list[Gap]:
    gaps = []
    for block in blocks:
        width = float(np.median(widths[block]))
        for single in map(float, singles):
            multiple = round(width / single)
            rounding = multiple * 2 * SPACING_TOLERANCE_MM
            if multiple >= 2 and abs(width - multiple * single) <= max(rounding, MULTIPLE_TOLERANCE * width):
                gaps.append(Gap(block.start, width, single))
                break
    return gaps


def _thicker(thicknesses: Sequence[float | None], block: slice, finer: slice, multiple: int) -> bool:
    """Whether the slices inside a block are thicker than those inside the finer one, as its distance suggests."""
    wide, fine = _known(thicknesses, block), _known(thicknesses, finer)
    if not len(wide) or not len(fine):
        return False
    return bool(np.median(wide) / np.median(fine) >= 1 + (multiple - 1) / 2)


def _known(thicknesses: Sequence[float | None], block: slice) -> npt.NDArray[np.float64]:
    return np.array([value for value in thicknesses[block.start + 1 : block.stop] if value], dtype=np.float64)
