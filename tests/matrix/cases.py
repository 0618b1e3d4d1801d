"""The series of the matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.phantoms import PhantomSpec
from tests.phantoms.spec import Directions

AXES = {
    f"{sign}{axis}": tuple((1.0 if sign == "+" else -1.0) * (other == axis) for other in "xyz")
    for axis in "xyz"
    for sign in "+-"
}
"""Unit vectors of the patient's axes (LPS) by name."""

SYNTAXES: dict[str, UID] = {
    "implicit VR": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG lossless": JPEGLossless,
    "JPEG lossless SV1": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
OBLIQUE_SEEDS = range(12)
TILTS = (-30.0, -15.0, -5.0, 5.0, 15.0, 30.0)
UNEVEN = tuple(float(2 * k if k < 12 else 24 + 5 * (k - 12)) for k in range(24))
"""mm: twelve slices 2 mm apart, then twelve 5 mm apart."""


@dataclass(frozen=True)
class Case:
    """One series of the matrix.

    Attributes:
        name: What is special about it.
        spec: How it is built.
    """

    name: str
    spec: PhantomSpec

    def __str__(self) -> str:
        return self.name

    @property
    def is_uniform(self) -> bool:
        """Whether one rectangular grid holds it: no tilt, even spacing."""
        return not self.spec.tilt_degrees and self.spec.positions is None

    @property
    def plastimatch_reads_it(self) -> bool:
        """Whether plastimatch puts contours on this series without a defect of its own.

        It takes one rectangular grid from single-frame files and does not decode JPEG-LS and JPEG 2000.
        """
        undecoded = self.spec.transfer_syntax in (JPEGLSLossless, JPEG2000Lossless)
        return self.is_uniform and not self.spec.multiframe and not undecoded

    @property
    def pyradplan_reads_it(self) -> bool:
        """Whether pyRadPlan puts contours on this series without a defect of its own: CT in its usual orientation."""
        usual = self.spec.orientation in ("axial", (AXES["+x"], AXES["+y"]))
        return self.is_uniform and self.spec.modality == "CT" and not self.spec.multiframe and usual


def random_directions(seed: int) -> Directions:
    """A row and a column direction at right angles, any of all rotations with equal chance (QR of normal deviates)."""
    matrix, upper = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(upper))
    row, column = (tuple(float(value) for value in matrix[:, index]) for index in (0, 1))
    return row, column


def axis_aligned() -> list[tuple[str, Directions]]:
    """The 24 pairs of a row and a column direction along the patient's axes."""
    return [(f"{row}{column}", (AXES[row], AXES[column])) for row, column in product(AXES, AXES) if row[1] != column[1]]


def _plain(**changes: object) -> PhantomSpec:
    """A series with square pixels and more rows than columns: a case is off it in what its name says alone."""
    return replace(PhantomSpec(row_spacing=1.25, column_spacing=1.25), **changes)


def _orientations() -> list[Case]:
    """Every orientation in both slice orders; planes across the body as CT, others as MR."""
    return [
        Case(
            f"{name}{' against' if against else ''}",
            _plain(modality="MR" if "z" in name else "CT", orientation=directions, reverse_order=against, seed=1),
        )
        for (name, directions), against in product(axis_aligned(), (False, True))
    ]


def _obliques() -> list[Case]:
    return [
        Case(
            f"oblique {seed}",
            _plain(
                modality="CT" if seed % 2 else "MR", orientation=random_directions(seed), reverse_order=seed % 3 == 0
            ),
        )
        for seed in OBLIQUE_SEEDS
    ]


def _pixels() -> list[Case]:
    """Pixels that are not square, alone and with an orientation; sizes of the matrix."""
    narrow_rows = {"row_spacing": 0.7, "column_spacing": 2.1, "rows": 96, "columns": 40, "slice_spacing": 2.0}
    narrow_columns = {"row_spacing": 2.0, "column_spacing": 0.6, "rows": 40, "columns": 110}
    return [
        Case("narrow rows", _plain(**narrow_rows)),
        Case("narrow columns", _plain(**narrow_columns)),
        Case("narrow rows sagittal", _plain(modality="MR", orientation="sagittal", **narrow_rows)),
        Case("narrow columns oblique", _plain(orientation="oblique", **narrow_columns)),
        Case("narrow columns -y+x", _plain(orientation=(AXES["-y"], AXES["+x"]), **narrow_columns)),
        Case("square matrix", _plain(rows=56, columns=56)),
        Case("square matrix sagittal", _plain(modality="MR", orientation="sagittal", rows=56, columns=56)),
        Case("odd matrix", _plain(slices=23, rows=61, columns=47)),
    ]


def _others() -> list[Case]:
    return [
        *(Case(f"tilt {degrees:+.0f}", _plain(tilt_degrees=degrees)) for degrees in TILTS),
        Case("uneven", _plain(positions=UNEVEN)),
        Case("uneven coronal", _plain(modality="MR", orientation="coronal", positions=UNEVEN, reverse_order=True)),
        Case("enhanced CT", _plain(multiframe=True)),
        Case("enhanced CT against", _plain(multiframe=True, reverse_order=True, flip_rows=True)),
        Case("enhanced MR", _plain(modality="MR", orientation="sagittal", multiframe=True)),
        Case("enhanced MR oblique", PhantomSpec("MR", "oblique", multiframe=True, reverse_order=True)),
        Case("600 slices", _plain(slices=600, rows=40, columns=32, slice_spacing=0.2)),
        Case("one slice", _plain(slices=1, stack_offset=-13.0)),
        *(Case(name, _plain(transfer_syntax=syntax)) for name, syntax in SYNTAXES.items()),
    ]


CASES = (*_orientations(), *_obliques(), *_pixels(), *_others())
"""All of them; names are unique."""
