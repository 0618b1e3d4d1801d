"""What a phantom series is to be, and what it is once built."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from dicom_node.imaging.geometry import FloatArray, Geometry

Directions = tuple[tuple[float, float, float], tuple[float, float, float]]

CENTRE_MM = np.array([12.5, -20.25, -150.75])
"""Patient coordinates of the phantom's middle: far from zero in every axis, so that a lost sign or origin shows."""

RESCALE_INTERCEPT = {"CT": -1024, "MR": 0}

STANDARD_DIRECTIONS: dict[str, Directions] = {
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
}


@dataclass(frozen=True)
class PhantomSpec:
    """One series.

    Attributes:
        modality: "CT" or "MR".
        orientation: "axial", "sagittal", "coronal", "oblique", or (row direction, column direction) in LPS.
        slices: Number of slices; ignored where ``positions`` is given.
        rows: Rows of a slice.
        columns: Columns of a slice.
        row_spacing: mm between rows.
        column_spacing: mm between columns.
        slice_spacing: mm between planes along their normal.
        positions: mm of each plane along the normal, ascending, for uneven spacing or gaps.
        stack_offset: mm along the normal by which the middle of the stack lies off the phantom's middle.
        tilt_degrees: Gantry tilt: origins shift along the column direction from slice to slice.
        flip_rows: Negate the row direction.
        flip_columns: Negate the column direction.
        reverse_order: InstanceNumber runs against the normal.
        multiframe: One Enhanced CT or Enhanced MR object instead of single-frame objects.
        transfer_syntax: How pixel data (and the data set) are encoded.
        anatomy: "shapes", "torso" or "knee".
        seed: Changes noise, UIDs and file order.
        patient_id: PatientID; the study derives from it and the seed.
        series_description: SeriesDescription.
        frame_of_reference: FrameOfReferenceUID; derived from the whole spec where empty. Give two specs the same one
            to make a CT and an MR that share a frame of reference.
    """

    modality: str = "CT"
    orientation: str | Directions = "axial"
    slices: int = 24
    rows: int = 64
    columns: int = 48
    row_spacing: float = 1.5
    column_spacing: float = 1.0
    slice_spacing: float = 3.0
    positions: tuple[float, ...] | None = None
    stack_offset: float = 0.0
    tilt_degrees: float = 0.0
    flip_rows: bool = False
    flip_columns: bool = False
    reverse_order: bool = False
    multiframe: bool = False
    transfer_syntax: UID = ExplicitVRLittleEndian
    anatomy: str = "shapes"
    seed: int = 0
    patient_id: str = "PHANTOM"
    series_description: str = "Analytic phantom"
    frame_of_reference: str = ""

    @property
    def plane_distances(self) -> FloatArray:
        """(n,) mm of each plane along the normal, the middle of the stack at ``stack_offset``."""
        if self.positions is not None:
            distances = np.asarray(self.positions, dtype=np.float64)
        else:
            distances = np.arange(self.slices) * self.slice_spacing
        return np.asarray(distances - (distances[0] + distances[-1]) / 2 + self.stack_offset)

    def uid(self, *purpose: object) -> UID:
        """A UID that is the same each time for this spec and purpose."""
        return generate_uid(entropy_srcs=["phantom", repr(self), *map(str, purpose)])


@dataclass(frozen=True)
class Phantom:
    """A built series with its truth.

    Attributes:
        spec: What it was built from.
        datasets: pydicom data sets with ``file_meta``, encoded in the spec's transfer syntax; one per slice in the
            order of ``geometry``, or a single multi-frame one.
        labels: (k, j, i) uint8; 0 is background.
        voxels: (k, j, i) int16 values after rescale: Hounsfield units (CT) or arbitrary units (MR).
        geometry: Analytic place of every slice.
        names: Structure name (of anatomy.toml) of each label.
    """

    spec: PhantomSpec
    datasets: list[Dataset]
    labels: npt.NDArray[np.uint8]
    voxels: npt.NDArray[np.int16]
    geometry: Geometry
    names: dict[int, str]


def geometry_of(spec: PhantomSpec) -> Geometry:
    """The planes of a spec, their common middle at CENTRE_MM unless ``stack_offset`` moves it."""
    row, column = _directions(spec)
    normal = np.cross(row, column)
    distances = spec.plane_distances
    axis = normal + np.tan(np.radians(spec.tilt_degrees)) * column
    corner = (
        CENTRE_MM - row * spec.column_spacing * (spec.columns - 1) / 2 - column * spec.row_spacing * (spec.rows - 1) / 2
    )
    return Geometry(
        origins=corner + np.outer(distances, axis),
        row_direction=row,
        column_direction=column,
        row_spacing=spec.row_spacing,
        column_spacing=spec.column_spacing,
        rows=spec.rows,
        columns=spec.columns,
        slice_thickness=spec.slice_spacing,
    )


def spec_for(modality: str, anatomy: str, slices: int | None = None, size: int | None = None) -> PhantomSpec:
    """A series that covers the whole of an anatomy: fewer slices or pixels make it coarser, not smaller."""
    if anatomy == "shapes":
        return PhantomSpec(modality=modality, slices=slices or 24, rows=size or 64, columns=size or 48)
    slices = slices or {"torso": 88, "knee": 48}[anatomy]
    size = size or {"torso": 160, "knee": 192}[anatomy]
    in_plane_mm, stack_mm = {"torso": (400.0, 440.0), "knee": (160.0, 120.0)}[anatomy]
    return PhantomSpec(
        modality=modality,
        orientation="sagittal" if anatomy == "knee" else "axial",
        slices=slices,
        rows=size,
        columns=size,
        row_spacing=in_plane_mm / size,
        column_spacing=in_plane_mm / size,
        slice_spacing=stack_mm / slices,
        anatomy=anatomy,
        patient_id=f"PHANTOM-{anatomy}-{modality}".upper(),
        series_description=f"Analytic phantom, {anatomy}",
    )


def decimals(values: FloatArray | list[float]) -> list[DSfloat]:
    """Decimal strings of at most 16 characters (PS3.5 6.2, DS)."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def _directions(spec: PhantomSpec) -> tuple[FloatArray, FloatArray]:
    if spec.orientation == "oblique":
        rotation = _rotation(0, 23.0) @ _rotation(1, -14.0) @ _rotation(2, 31.0)
        row, column = rotation[:, 0], rotation[:, 1]
    elif isinstance(spec.orientation, str):
        row, column = (np.array(direction) for direction in STANDARD_DIRECTIONS[spec.orientation])
    else:
        row, column = (np.array(direction, dtype=np.float64) for direction in spec.orientation)
        row = row / np.linalg.norm(row)
        column = column - row * (column @ row)
        column = column / np.linalg.norm(column)
    return (-row if spec.flip_rows else row), (-column if spec.flip_columns else column)


def _rotation(axis: int, degrees: float) -> FloatArray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix
