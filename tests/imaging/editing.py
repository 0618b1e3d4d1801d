"""Phantom series that are damaged or changed on purpose before the node sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from dicom_node.errors import SeriesRefused
from dicom_node.imaging.series import SeriesPlan, find_instances, prove_series
from tests.phantoms import PhantomSpec, build

SMALL = PhantomSpec(slices=6, rows=16, columns=12)
SMALL_MR = PhantomSpec(modality="MR", slices=6, rows=16, columns=12)

Edit = Callable[[int, Dataset], None]


def new_instance(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()


def together(*specs: PhantomSpec, edit: Edit | None = None) -> list[Dataset]:
    """The data sets of several phantoms as one series of one study; ``edit`` gets the phantom's index."""
    first = build(specs[0]).datasets[0]
    datasets = []
    for index, spec in enumerate(specs):
        for dataset in build(spec).datasets:
            dataset.SeriesInstanceUID = first.SeriesInstanceUID
            dataset.StudyInstanceUID = first.StudyInstanceUID
            dataset.FrameOfReferenceUID = first.FrameOfReferenceUID
            new_instance(dataset)
            if edit:
                edit(index, dataset)
            datasets.append(dataset)
    return datasets


def write_all(datasets: Iterable[Dataset], folder: Path) -> Path:
    """Each data set as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


def edited(spec: PhantomSpec, folder: Path, edit: Edit) -> Path:
    """A phantom series in a folder, ``edit`` applied to each data set with its index."""
    datasets = build(spec).datasets
    for index, dataset in enumerate(datasets):
        edit(index, dataset)
    return write_all(datasets, folder)


def prove(folder: Path) -> SeriesPlan:
    """The proof of everything in a folder, taken as one series."""
    return prove_series(find_instances([folder]).instances)


def refusal(folder: Path) -> SeriesRefused:
    """The refusal that everything in a folder, taken as one series, must meet."""
    with pytest.raises(SeriesRefused) as caught:
        prove(folder)
    return caught.value
