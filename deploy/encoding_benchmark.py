"""Encoding thirty structures: this node's writers beside the field's own, in seconds and in peak memory.

Each measurement is a process of its own, so that its peak of resident memory is nobody else's; the contestants of one
kind of object take turns on the same labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dicom_node.anatomy import load_anatomy
from dicom_node.cli.printing import print_table
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.label_volume import LabelVolume
from dicom_node.imaging.volume import SourceSlice, Volume
from dicom_node.results.dicom_seg import encode_seg
from dicom_node.results.identity import Provenance
from dicom_node.results.object_file import write_object
from dicom_node.results.rtstruct import encode_rtstruct
from tests.plain_highdicom import plain_segmentation

RUNS = 3
EXTENT_MM = 400.0
"""Of the volume, in every direction."""

Prepare = Callable[[Volume, LabelVolume, Path], Callable[[], object]]
"""Makes what is measured: a function that encodes the labels and writes the object into a folder."""
REPOSITORY = Path(__file__).resolve().parent.parent
RT_UTILS = (REPOSITORY / ".cache/peers/bin/python", REPOSITORY / "deploy/peers/rt_utils_writer.py")
"""How rt-utils is run, in an environment of its own: series, masks and output follow."""


@dataclass(frozen=True)
class Measured:
    """One run of one contestant: seconds, peak of resident memory beyond what it began with, size of the object."""

    seconds: float
    peak_mib: float
    file_mib: float


Measure = Callable[[int, int], Measured]
"""Measures a contestant once, for so many slices of so many rows and columns."""


def main() -> int:
    """Measure and print; 0 when done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    options = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    for kind, contestants in CONTESTANTS.items():
        rows += compare(kind, contestants, options.slices, options.size)
    label_mib = options.slices * options.size**2 / 2**20
    print_table(
        f"30 structures on {options.slices} x {options.size} x {options.size}, label volume {label_mib:.1f} MiB, "
        f"median of {RUNS}",
        ("object", "writer", "seconds", "peak MiB beyond labels", "labels and peak, in label volumes", "file MiB",
         "times the other's seconds", "times the other's peak"),
        rows,
    )  # fmt: skip
    return 0


def thirty_structures(slices: int = 300, size: int = 512) -> tuple[Volume, LabelVolume]:
    """Thirty structures of anatomy.toml in a trunk: organs of every size, and vessels and muscles along its axis.

    Args:
        slices: Of the volume, over 400 mm.
        size: Rows and columns, over 400 mm.

    Returns:
        An axial CT series without voxels of its own, and labels 1 to 30 of it.
    """
    geometry = Geometry(
        origins=np.array([[-EXTENT_MM / 2, -EXTENT_MM / 2, k * EXTENT_MM / slices] for k in range(slices)]),
        row_direction=np.array([1.0, 0.0, 0.0]),
        column_direction=np.array([0.0, 1.0, 0.0]),
        row_spacing=EXTENT_MM / size,
        column_spacing=EXTENT_MM / size,
        rows=size,
        columns=size,
        slice_thickness=EXTENT_MM / slices,
    )
    structures = dict(enumerate(islice(load_anatomy().values(), 30), start=1))
    return _series(geometry), LabelVolume(_trunk(geometry.shape), geometry, structures)


def compare(kind: str, contestants: Sequence[tuple[str, Measure]], slices: int, size: int) -> list[tuple[object, ...]]:
    """Rows of the table for one kind of object; the last contestant is the one compared with."""
    runs: dict[str, list[Measured]] = {name: [] for name, _ in contestants}
    for _ in range(RUNS):
        for name, measured in contestants:
            runs[name].append(measured(slices, size))
    label_volume = slices * size**2 / 2**20
    seconds = {name: statistics.median(run.seconds for run in found) for name, found in runs.items()}
    peaks = {name: statistics.median(run.peak_mib for run in found) for name, found in runs.items()}
    other = contestants[-1][0]
    return [
        (
            kind, name, f"{seconds[name]:.2f}", f"{peaks[name]:.0f}", f"{1 + peaks[name] / label_volume:.2f}",
            f"{runs[name][0].file_mib:.1f}", f"{seconds[name] / seconds[other]:.3f}",
            f"{peaks[name] / peaks[other]:.3f}",
        )
        for name, _ in contestants
    ]  # fmt: skip


def here(prepare: Prepare) -> Measure:
    """A contestant that runs in this environment."""
    return partial(_in_a_process, prepare)


def _in_a_process(prepare: Prepare, slices: int, size: int) -> Measured:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(prepare, slices, size, sender))
    process.start()
    sender.close()
    measured: Measured = receiver.recv()
    process.join()
    return measured


def _run(prepare: Prepare, slices: int, size: int, sender: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(*thirty_structures(16, 64), folder)()  # imports and tables that a running node has already
        write = prepare(*thirty_structures(slices, size), folder)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew (proc(5))
        before = _resident_mib("VmRSS")
        started = time.perf_counter()
        write()
        seconds = time.perf_counter() - started
        peak = _resident_mib("VmHWM") - before
        sender.send(Measured(seconds, peak, max(path.stat().st_size for path in folder.iterdir()) / 2**20))


def rt_utils_rtstruct(slices: int, size: int) -> Measured:
    """RTSTRUCT as rt-utils makes it: a mask for each structure, ``save``; reading the series is left out."""
    volume, labels = thirty_structures(slices, size)
    with tempfile.TemporaryDirectory() as name:
        folder, series, masks = Path(name), Path(name) / "series", Path(name) / "masks.npz"
        series.mkdir()
        for number, image in enumerate(source_images(volume)):
            _with_pixels(image).save_as(series / f"{number}.dcm", enforce_file_format=True)
        np.savez(masks, labels=labels.labels, names=[structure.name for structure in labels.structures.values()])
        command = [*map(str, RT_UTILS), str(series), str(masks), str(folder / "rt-utils.dcm")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)
        found = json.loads(done.stdout)
        if "error" in found:
            raise RuntimeError(f"rt-utils: {found['error']}")
        file_mib = (folder / "rt-utils.dcm").stat().st_size / 2**20
        return Measured(found["seconds"], found["peak_mib"] - found["before_mib"], file_mib)


def _with_pixels(image: Dataset) -> Dataset:
    """rt-utils reads pixels that it does not need."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelData = bytes(2 * image.Rows * image.Columns)
    image["PixelData"].VR = "OW"
    return image


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def node_seg(volume: Volume, labels: LabelVolume, folder: Path) -> Callable[[], object]:
    """This node's SEG; fsynced, as every result is."""
    return lambda: write_object(folder / "node.seg.dcm", encode_seg(volume, labels, PROVENANCE))


def node_rtstruct(volume: Volume, labels: LabelVolume, folder: Path) -> Callable[[], object]:
    """This node's RTSTRUCT, along pixel edges; fsynced."""
    return lambda: write_object(folder / "node.rtstruct.dcm", encode_rtstruct(volume, labels, PROVENANCE))


def highdicom_seg(volume: Volume, labels: LabelVolume, folder: Path) -> Callable[[], object]:
    """SEG as highdicom's documentation makes it: source images and a label map in, ``save_as`` out."""
    images = source_images(volume)
    algorithm = AlgorithmIdentificationSequence(
        name="bench", version="1", family=codes.DCM.ArtificialIntelligence, source="bench"
    )
    path = folder / "highdicom.seg.dcm"
    return lambda: plain_segmentation(images, labels, "BINARY", algorithm).save_as(path)


CONTESTANTS: dict[str, Sequence[tuple[str, Measure]]] = {
    "SEG": (("dicom-node", here(node_seg)), ("highdicom", here(highdicom_seg))),
    "RTSTRUCT": (("dicom-node", here(node_rtstruct)), ("rt-utils", rt_utils_rtstruct)),
}
"""By kind of object; ours first, the one compared with last. A further kind is a further entry."""

PROVENANCE = Provenance(
    case_id="bench", card="bench", version="1", weights_sha256="", created=datetime(2026, 1, 2)  # noqa: DTZ001 - as in the source
)  # fmt: skip


def source_images(volume: Volume) -> list[Dataset]:
    """The series as data sets, one per slice, without pixel data."""
    geometry = volume.geometry
    images = []
    for source, origin in zip(volume.sources, geometry.origins, strict=True):
        image = Dataset()
        image.update(volume.header)
        image.SOPInstanceUID = source.sop_instance_uid
        image.ImagePositionPatient = [float(value) for value in origin]
        image.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        image.PixelSpacing = [geometry.row_spacing, geometry.column_spacing]
        image.SliceThickness = geometry.slice_thickness
        image.Rows, image.Columns = geometry.rows, geometry.columns
        images.append(image)
    return images


def _series(geometry: Geometry) -> Volume:
    header = Dataset()
    header.SOPClassUID, header.Modality = CTImageStorage, "CT"
    header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = "Bench^Trunk", "BENCH", "", ""
    header.StudyID, header.StudyDate, header.StudyTime, header.AccessionNumber = "1", "20260102", "030405", ""
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=["bench", name]) for name in ("study", "series", "frame of reference")
    )
    header.SeriesNumber = 1
    instances = [str(generate_uid(entropy_srcs=["bench", str(k)])) for k in range(geometry.shape[0])]
    return Volume(
        voxels=np.broadcast_to(np.int16(0), geometry.shape),
        geometry=geometry,
        modality="CT",
        frame_of_reference_uid=str(header.FrameOfReferenceUID),
        sources=tuple(SourceSlice(Path(f"{k}.dcm"), CTImageStorage, uid) for k, uid in enumerate(instances)),
        header=header,
    )


def _trunk(shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Ellipsoids within an elliptic trunk, the largest first: later ones take from earlier ones."""
    random = np.random.default_rng(30)
    radii = np.repeat(
        [(0.45, 0.2, 0.2), (9.0, 0.12, 0.1), (0.25, 0.12, 0.13), (9.0, 0.05, 0.06), (0.12, 0.07, 0.06)], 6, 0
    )
    angles, reaches = np.arange(30) * 2.4, np.sqrt(random.uniform(0.1, 1.0, 30))  # 2.4: the golden angle spreads them
    centres = np.stack(
        [random.uniform(0.15, 0.85, 30), 0.5 + 0.28 * reaches * np.sin(angles), 0.5 + 0.38 * reaches * np.cos(angles)],
        axis=1,
    )
    j, i = ((np.arange(size) + 0.5) / size for size in shape[1:])
    labels = np.zeros(shape, dtype=np.uint8)
    for k, plane in enumerate(labels):
        for label, ((z, y, x), (thickness, height, width)) in enumerate(zip(centres, radii, strict=True), start=1):
            off = ((k + 0.5) / shape[0] - z) / thickness
            plane[((j - y) / height)[:, None] ** 2 + ((i - x) / width)[None, :] ** 2 < 1 - off**2] = label
    return labels


if __name__ == "__main__":
    sys.exit(main())
