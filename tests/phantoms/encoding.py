"""Pixel data of a phantom in any transfer syntax the node accepts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gdcm
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

GDCM_SYNTAXES = {
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def set_pixel_data(dataset: Dataset, stored: npt.NDArray[np.uint16], transfer_syntax: UID) -> None:
    """Put stored values into a data set, encoded.

    Args:
        dataset: Complete but for PixelData; its file_meta gets the transfer syntax.
        stored: (rows, columns) or (frames, rows, columns) stored values.
        transfer_syntax: Native, deflated, or one of the lossless compressions.
    """
    order = ">u2" if transfer_syntax == ExplicitVRBigEndian else "<u2"
    dataset.PixelData = stored.astype(order).tobytes()
    dataset["PixelData"].VR = "OW"
    if not transfer_syntax.is_compressed or transfer_syntax.is_deflated:
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
        return
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if transfer_syntax in GDCM_SYNTAXES:
        _compress_with_gdcm(dataset, transfer_syntax)
    elif transfer_syntax in (RLELossless, JPEGLSLossless):
        dataset.compress(transfer_syntax, generate_instance_uid=False)
    else:
        raise ValueError(f"phantoms are not made in {transfer_syntax.name}")


def _compress_with_gdcm(dataset: Dataset, transfer_syntax: UID) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain.dcm", Path(folder) / "packed.dcm"
        dataset.save_as(plain, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(GDCM_SYNTAXES[transfer_syntax]))
        if not reader.Read():
            raise RuntimeError(f"gdcm cannot read the phantom before {transfer_syntax.name}")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError(f"gdcm cannot compress to {transfer_syntax.name}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(packed))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise RuntimeError(f"gdcm cannot write {transfer_syntax.name}")
        compressed = pydicom.dcmread(packed)
        dataset.PixelData = compressed.PixelData
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = transfer_syntax
