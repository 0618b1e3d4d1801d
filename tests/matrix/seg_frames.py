"""A reader of BINARY SEG: every frame put where its own Plane Position says (PS3.3 C.8.20.2, C.7.6.16.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset

from tests.matrix.agreement import Reading
from tests.matrix.source_planes import SourcePlanes


def read_segments(path: Path, planes: SourcePlanes) -> dict[str, Reading]:
    """Every segment by its SegmentLabel, on the planes of the source series."""
    dataset = pydicom.dcmread(path)
    if dataset.SegmentationType != "BINARY" or dataset.BitsAllocated != 1:
        raise ValueError(f"{path.name}: only BINARY segmentations of one bit are read")
    labels = {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in dataset.SegmentSequence}
    masks = {number: np.zeros(planes.shape, dtype=bool) for number in labels}
    outside, off, references = dict.fromkeys(labels, 0), dict.fromkeys(labels, 0.0), dict.fromkeys(labels, True)
    count = int(dataset.NumberOfFrames) * dataset.Rows * dataset.Columns
    # bits of a frame run from the least significant upwards and frames follow without padding (PS3.5 8.1.1)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), count=count, bitorder="little")
    frames = bits.reshape(-1, dataset.Rows, dataset.Columns).astype(bool)
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(_macro(dataset, groups, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        points = _plane(dataset, groups).points_of(frame[None])
        if not len(points):
            continue
        k, away = planes.nearest(points)
        j, i = np.rint(planes.in_plane(points, k)).astype(int).T
        inside = (j >= 0) & (j < planes.size[0]) & (i >= 0) & (i < planes.size[1])
        masks[number][k[inside], j[inside], i[inside]] = True
        outside[number] += int(np.count_nonzero(~inside))
        off[number] = max(off[number], float(away.max()))
        references[number] &= _derived_from(groups) == [planes.names[k[0]]]
    return {
        labels[number]: Reading(masks[number], outside[number], off[number], references=references[number])
        for number in labels
    }


def _plane(dataset: Dataset, groups: Dataset) -> SourcePlanes:
    """The plane of one frame."""
    directions = np.array(_macro(dataset, groups, "PlaneOrientationSequence").ImageOrientationPatient, dtype=np.float64)
    measures = _macro(dataset, groups, "PixelMeasuresSequence")
    return SourcePlanes(
        origins=np.array([_macro(dataset, groups, "PlanePositionSequence").ImagePositionPatient], dtype=np.float64),
        row=directions[:3],
        column=directions[3:],
        spacing=(float(measures.PixelSpacing[0]), float(measures.PixelSpacing[1])),
        size=(int(dataset.Rows), int(dataset.Columns)),
        names=(("", None),),
        thickness=1.0,
    )


def _derived_from(groups: Dataset) -> list[tuple[str, int | None]]:
    return [
        (str(image.ReferencedSOPInstanceUID), image.get("ReferencedFrameNumber"))
        for derivation in groups.get("DerivationImageSequence") or []
        for image in derivation.get("SourceImageSequence") or []
    ]


def _macro(dataset: Dataset, groups: Dataset, keyword: str) -> Dataset:
    """A functional group of a frame, or the one shared by all frames."""
    owner = groups if keyword in groups else dataset.SharedFunctionalGroupsSequence[0]
    return owner[keyword].value[0]
