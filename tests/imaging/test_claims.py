"""What a header may claim of so many bytes."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.imaging.claims import may_hold


@pytest.mark.parametrize(
    ("syntax", "size", "present", "believed"),
    [
        (ExplicitVRLittleEndian, 512, 512 * 512 * 2, True),
        (ExplicitVRLittleEndian, 512, 512 * 512 * 2 - 1, False),
        (JPEG2000Lossless, 2048, 154, True),  # a uniform slice, as OpenJPEG writes it
        (JPEGLSLossless, 2048, 340, True),
        (JPEG2000Lossless, 60_000, 154, False),
        (RLELossless, 512, 512 * 512 * 2 // 64, True),
        (RLELossless, 512, 1000, False),
    ],
)
def test_a_claim_is_held_against_the_bytes(syntax: UID, size: int, present: int, believed: bool) -> None:
    header = Dataset()
    header.Rows = header.Columns = size
    header.BitsAllocated = 16
    assert may_hold(header, syntax, present) is believed
