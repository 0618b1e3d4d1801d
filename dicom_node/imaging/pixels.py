"""From encoded pixel data to modality units, frame by frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.errors import InputRefused
from dicom_node.imaging.claims import claimed_pixel_bytes, may_hold
from dicom_node.imaging.instances import read_dataset
from dicom_node.imaging.planes import Plane, Rescale

AIR_HU = -1000
"""What padding outside the reconstructed circle becomes in CT."""
INT16 = np.iinfo(np.int16)

StoredFrame = npt.NDArray[np.integer]
Frame = npt.NDArray[np.int16] | npt.NDArray[np.float32]


class DamagedPixels(Exception):
    """Pixel data that cannot be decoded, and why."""


def read_frames(path: Path, frame_numbers: Sequence[int | None]) -> Iterator[StoredFrame]:
    """Stored values of some frames of one file, decoded in this process (see :mod:`dicom_node.imaging.decoding`).

    Args:
        path: The file.
        frame_numbers: Frames from 1, or [None] for a single-frame instance.

    Yields:
        (rows, columns) stored values, sign-extended from BitsStored and cleared of what lies above them (overlays).

    Raises:
        DamagedPixels: The file or its pixel data are damaged.
    """
    try:
        dataset = read_dataset(path)
    except InputRefused as refusal:
        raise DamagedPixels(refusal.message) from refusal
    if any(keyword not in dataset for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelData")):
        raise DamagedPixels("the file ends before its pixels")
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    _require_bytes(dataset, syntax)
    indices = [0 if number is None else number - 1 for number in frame_numbers]
    expected = (int(dataset.Rows), int(dataset.Columns))
    frames = get_decoder(syntax).iter_array(dataset, indices=indices, raw=True)
    for _ in indices:
        try:
            with warnings.catch_warnings():
                # pydicom warns of bytes after the pixels; too few of them is an error and is reported.
                warnings.simplefilter("ignore")
                frame, _ = next(frames)
        except Exception as error:  # on damaged bytes decoders raise nearly anything
            raise DamagedPixels(str(error)) from error
        if frame.shape != expected:
            raise DamagedPixels(f"{frame.shape} instead of {expected} pixels")
        yield _stored_values(frame, dataset)


def _require_bytes(dataset: Dataset, syntax: UID) -> None:
    """Decoders ask for the memory of what the header claims before they look at what there is."""
    present = len(dataset.PixelData or b"")
    if not may_hold(dataset, syntax if syntax.is_encapsulated else ExplicitVRLittleEndian, present):
        claimed = claimed_pixel_bytes(dataset)
        raise DamagedPixels(f"the header claims {claimed} bytes of pixels, the file holds {present}")


def rescaled(stored: StoredFrame, plane: Plane, header: Dataset, modality: str) -> Frame:
    """Stored values in modality units: Hounsfield units for CT, the scanner's units for MR.

    MONOCHROME1 changes how values are shown, not what they mean, and is not looked at (PS3.3 C.7.6.3.1.2).

    Args:
        stored: (rows, columns) of :func:`read_frames`.
        plane: Gives the rescale; none means stored values are the units.
        header: Gives PixelPaddingValue and its range (PS3.3 C.7.5.1.1.2).
        modality: "CT" or "MR"; padding becomes air in CT and is left alone in MR.

    Returns:
        (rows, columns) int16 where that is exact, else float32.
    """
    rescale = plane.rescale or Rescale(1.0, 0.0)
    padding = _padding_mask(stored, header) if modality == "CT" else None
    if rescale.is_integer:
        values = stored.astype(np.int64) * int(rescale.slope) + int(rescale.intercept)
        if padding is not None:
            values[padding] = AIR_HU
        if INT16.min <= values.min() and values.max() <= INT16.max:
            return values.astype(np.int16)
        return values.astype(np.float32)
    scaled = (stored.astype(np.float64) * rescale.slope + rescale.intercept).astype(np.float32)
    if padding is not None:
        scaled[padding] = AIR_HU
    return scaled


def _stored_values(frame: npt.NDArray[np.integer], dataset: Dataset) -> StoredFrame:
    """BitsStored bits below HighBit, with their sign (PS3.5 8.1.1)."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if stored == allocated:
        return frame
    bits = frame.itemsize * 8
    low = _high_bit(dataset, stored) - stored + 1
    low = low if 0 <= low <= bits - stored else 0
    signed = bool(dataset.get("PixelRepresentation", 0))
    wide = frame.astype(f"{'i' if signed else 'u'}{frame.itemsize}", copy=False)
    return np.asarray((wide << (bits - stored - low)) >> (bits - stored))


def _high_bit(dataset: Dataset, stored: int) -> int:
    value = dataset.get("HighBit")
    return stored - 1 if value in (None, "") else int(value)


def _padding_mask(stored: StoredFrame, header: Dataset) -> npt.NDArray[np.bool_] | None:
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if value in (None, ""):
        return None
    first = _as_stored(int(value), header)
    last = _as_stored(int(limit), header) if limit not in (None, "") else first
    return np.asarray((stored >= min(first, last)) & (stored <= max(first, last)))


def _as_stored(value: int, header: Dataset) -> int:
    """Padding values of signed images are often written as unsigned ones: 63536 for -2000."""
    whole = 1 << int(header.BitsAllocated)
    if header.get("PixelRepresentation") and value >= whole // 2:
        return value - whole
    if not header.get("PixelRepresentation") and value < 0:
        return value + whole
    return value
