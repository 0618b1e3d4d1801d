"""Per-frame functional groups of a Segmentation (PS3.3 C.7.6.16), encoded.

The item of a frame differs from that of another frame on the same slice by two numbers only. So each slice's item is
encoded once and the numbers are put in: thousands of items cost no thousands of data sets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

_FRAME_CONTENT = Tag("FrameContentSequence")
_IDENTIFICATION = Tag("SegmentIdentificationSequence")
_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True)
class SliceGroups:
    """What the items of all frames on one slice have in common, in Explicit VR Little Endian.

    Attributes:
        head: Elements before the frame content.
        content: The frame content, which ends in DimensionIndexValues, without those.
        position: Index of the slice along the last dimension, from 1.
        middle: Elements between the frame content and the segment identification.
        identification: The segment identification, which ends in ReferencedSegmentNumber, without that; empty where
            all frames share one segment, or have many (label maps).
    """

    head: bytes
    content: bytes
    position: int
    middle: bytes
    identification: bytes

    @classmethod
    def of(cls, item: Dataset, dimensions: int) -> SliceGroups:
        """The common part of an item of PerFrameFunctionalGroupsSequence.

        Args:
            item: Of any frame on the slice. Both numbers stand at the end of their sequences: each has one item with
                one element.
            dimensions: How many values DimensionIndexValues has.
        """
        content = _encoded(element for element in item if element.tag == _FRAME_CONTENT)
        return cls(
            head=_encoded(element for element in item if element.tag < _FRAME_CONTENT),
            content=content[: -4 * dimensions],
            position=struct.unpack("<L", content[-4:])[0],
            middle=_encoded(element for element in item if _FRAME_CONTENT < element.tag < _IDENTIFICATION),
            identification=_encoded(element for element in item if element.tag == _IDENTIFICATION)[:-2],
        )

    def item(self, segment_number: int | None) -> bytes:
        """The item of one frame.

        Args:
            segment_number: None in label maps.
        """
        indices = [self.position] if segment_number is None else [segment_number, self.position]
        parts = [self.head, self.content, struct.pack(f"<{len(indices)}L", *indices), self.middle]
        if self.identification:
            parts += [self.identification, struct.pack("<H", segment_number)]
        content = b"".join(parts)
        return _ITEM + struct.pack("<L", len(content)) + content


def per_frame_groups(items: Iterable[bytes]) -> RawDataElement:
    """PerFrameFunctionalGroupsSequence of encoded items, as an element that is written as it stands."""
    value = b"".join(items)
    return RawDataElement(Tag("PerFrameFunctionalGroupsSequence"), "SQ", len(value), value, 0, False, True)


def _encoded(elements: Iterable[DataElement]) -> bytes:
    part = Dataset()
    for element in elements:
        part.add(element)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, part)
    return buffer.getvalue()
