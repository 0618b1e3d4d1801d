"""Phantoms as volumes and label volumes, without the way through files; and the series every result is tried on."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

from pydicom import Dataset

from dicom_node.anatomy import load_anatomy
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.results.identity import Provenance
from tests.phantoms import Phantom, PhantomSpec, build

PROVENANCE = Provenance(
    case_id="case-of-a-test",
    card="torso",
    version="1.2",
    weights_sha256="ab" * 32,
    created=datetime(2026, 3, 4, 5, 6, 7),  # noqa: DTZ001 - like the dates of the source, without a time zone
)

REGULAR = {
    "axial": PhantomSpec(),
    "sagittal": PhantomSpec(modality="MR", orientation="sagittal"),
    "coronal": PhantomSpec(modality="MR", orientation="coronal"),
    "oblique": PhantomSpec(modality="MR", orientation="oblique"),
    "anisotropic": PhantomSpec(row_spacing=0.7, column_spacing=2.1, rows=96, columns=40, slice_spacing=2.0),
    "flipped rows": PhantomSpec(flip_rows=True),
    "prone": PhantomSpec(flip_rows=True, flip_columns=True),
    "feet first": PhantomSpec(flip_columns=True, reverse_order=True),
    "odd pixels": PhantomSpec(rows=61, columns=47),
    "enhanced CT": PhantomSpec(multiframe=True),
    "enhanced MR": PhantomSpec(modality="MR", orientation="sagittal", multiframe=True),
}
IRREGULAR = {
    "tilted": PhantomSpec(tilt_degrees=15.0),
    "uneven": PhantomSpec(positions=tuple(float(2 * k if k < 12 else 24 + 5 * (k - 12)) for k in range(24))),
}
EVERY = {**REGULAR, **IRREGULAR}


@cache
def phantom(name: str) -> Phantom:
    return build(EVERY[name])


def volume_of(phantom: Phantom) -> Volume:
    header = Dataset()
    header.update({element.tag: element for element in phantom.datasets[0] if element.keyword != "PixelData"})
    return Volume(
        voxels=phantom.voxels,
        geometry=phantom.geometry,
        modality=phantom.spec.modality,
        frame_of_reference_uid=str(header.FrameOfReferenceUID),
        sources=tuple(_sources(phantom)),
        header=header,
    )


def with_header(volume: Volume, **values: object) -> Volume:
    """The same volume with other attributes in its header; None removes one."""
    header = copy.deepcopy(volume.header)
    for keyword, value in values.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    return replace(volume, header=header)


def labels_of(phantom: Phantom) -> LabelVolume:
    anatomy = load_anatomy()
    return LabelVolume(
        labels=phantom.labels,
        geometry=phantom.geometry,
        structures={label: anatomy[name] for label, name in phantom.names.items()},
    )


def _sources(phantom: Phantom) -> list[SourceSlice]:
    if phantom.spec.multiframe:
        whole = phantom.datasets[0]
        return [
            SourceSlice(Path("enhanced.dcm"), str(whole.SOPClassUID), str(whole.SOPInstanceUID), frame_number=k + 1)
            for k in range(phantom.geometry.shape[0])
        ]
    return [
        SourceSlice(Path(f"{k}.dcm"), str(source.SOPClassUID), str(source.SOPInstanceUID))
        for k, source in enumerate(phantom.datasets)
    ]
