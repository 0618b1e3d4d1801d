"""Finding images: which of these files are instances of a scanner, and which series each belongs to."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.datadict import keyword_for_tag
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    MediaStorageDirectoryStorage,
    ParametricMapStorage,
    RTDoseStorage,
)

from dicom_node.errors import InputRefused
from dicom_node.imaging.claims import refuse_inflation_bomb
from dicom_node.uids import LABEL_MAP_SEGMENTATION, SEGMENTATION

RESULT_CLASSES = {SEGMENTATION, LABEL_MAP_SEGMENTATION, ParametricMapStorage, RTDoseStorage}
"""Objects with pixels that are computed from images, not acquired."""

HEADER_KEYWORDS = (
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "ConversionType"),
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber"),
    *("FrameOfReferenceUID", "BodyPartExamined"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "LossyImageCompression"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "VolumeBasedCalculationTechnique"),
    *("EchoTime", "EchoNumbers", "InversionTime", "FlipAngle", "DiffusionBValue", "DiffusionGradientOrientation"),
    *("TemporalPositionIdentifier", "TriggerTime", "NominalCardiacTriggerDelayTime", "ComplexImageComponent"),
    *("AcquisitionNumber", "AcquisitionTime", "ContentTime", "KVP", "ConvolutionKernel", "ReconstructionDiameter"),
)
PRIVATE_HEADER_TAGS = (0x00190010, 0x0019100C, 0x20010010, 0x20011003, 0x00430010, 0x00431039)
"""Diffusion b-values of Siemens, Philips and GE, each after its private creator."""
HEADER_TAGS: list[BaseTag] = [Tag(name) for name in (*HEADER_KEYWORDS, *PRIVATE_HEADER_TAGS)]

UID_PATTERN = re.compile(r"[0-9]+(\.[0-9]+){1,}")
"""Digits and dots (PS3.5 9.1); leading zeros, though forbidden, are in use."""

WHOLE_NUMBERS = (
    *("InstanceNumber", "SeriesNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
)


@dataclass(frozen=True)
class Instance:
    """One SOP instance of a scanner, without its pixels.

    Attributes:
        path: The file.
        header: The attributes that tell a series' geometry and kind (HEADER_KEYWORDS), and the file meta information.
    """

    path: Path
    header: Dataset

    @property
    def sop_instance_uid(self) -> str:
        """SOPInstanceUID."""
        return str(self.header.SOPInstanceUID)

    @property
    def sop_class_uid(self) -> UID:
        """SOPClassUID."""
        return _uid(self.header.SOPClassUID)

    @property
    def transfer_syntax_uid(self) -> UID:
        """TransferSyntaxUID the file is written in."""
        return _uid(self.header.file_meta.TransferSyntaxUID)

    @property
    def modality(self) -> str:
        """Modality, empty where the header has none."""
        return str(self.header.get("Modality") or "")

    @property
    def number(self) -> int | None:
        """InstanceNumber, None where the header has none."""
        value = self.header.get("InstanceNumber")
        return None if value in (None, "") else int(value)

    @property
    def name(self) -> str:
        """What messages call it: ``image 7``, or the file's name where InstanceNumber is missing."""
        return f"file {self.path.name}" if self.number is None else f"image {self.number}"


@dataclass(frozen=True)
class PassedOver:
    """A file that is no image, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class SeriesGroup:
    """The instances that share one SeriesInstanceUID; not yet proved to be a volume."""

    series_instance_uid: str
    instances: tuple[Instance, ...]

    @property
    def description(self) -> str:
        """Number, modality, description and size in words; no patient's name."""
        header = self.instances[0].header
        label = str(header.get("SeriesDescription") or "").strip()
        count = f"{len(self.instances)} file" + ("s" if len(self.instances) > 1 else "")
        number = header.get("SeriesNumber")
        words = [f"series {number}" if number not in (None, "") else "unnumbered series", self.instances[0].modality]
        return " ".join([*words, *([f'"{label}"'] if label else []), f"({count})"])


@dataclass(frozen=True)
class Discovery:
    """What lies in some folders.

    Attributes:
        instances: Images, in the order of their paths.
        passed_over: The other files, each with a reason.
    """

    instances: tuple[Instance, ...]
    passed_over: tuple[PassedOver, ...]

    @property
    def series(self) -> tuple[SeriesGroup, ...]:
        """Instances by SeriesInstanceUID, in the order of SeriesNumber, then as found."""
        groups: dict[str, list[Instance]] = {}
        for instance in self.instances:
            groups.setdefault(str(instance.header.SeriesInstanceUID), []).append(instance)
        ordered = sorted(groups.items(), key=lambda entry: int(entry[1][0].header.get("SeriesNumber") or 0))
        return tuple(SeriesGroup(uid, tuple(members)) for uid, members in ordered)


def find_instances(paths: Iterable[Path]) -> Discovery:
    """Read the headers of every file in these files and folders (and the folders within).

    Raises:
        InputRefused: A path does not exist.
    """
    instances: list[Instance] = []
    passed_over: list[PassedOver] = []
    for path in _files(paths):
        try:
            instances.append(read_instance(path))
        except InputRefused as refusal:
            passed_over.append(PassedOver(path, refusal.message))
    return Discovery(tuple(instances), tuple(passed_over))


def read_instance(path: Path) -> Instance:
    """Header of one file, without its pixels.

    Raises:
        InputRefused: The file is not readable, not DICOM, or no image; the message is the reason without the path.
    """
    header = read_dataset(path, specific_tags=HEADER_TAGS, stop_before_pixels=True)
    _require_image(header)
    _require_whole_numbers(header)
    return Instance(path, header)


def read_dataset(
    path: Path, *, stop_before_pixels: bool = False, specific_tags: list[BaseTag] | None = None
) -> pydicom.FileDataset:
    """A DICOM file as pydicom reads it, with every failure named.

    Raises:
        InputRefused: The file is not readable, not DICOM, or damaged; the message is the reason without the path.
    """
    try:
        with warnings.catch_warnings():
            # Scanners break the value rules daily; the values that count are checked where they are used.
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                refuse_inflation_bomb(file)
            dataset = pydicom.dcmread(
                path,
                stop_before_pixels=stop_before_pixels,
                specific_tags=list(specific_tags) if specific_tags else None,
            )
            for part in (dataset.file_meta, dataset):
                _require_readable(part)
    except InputRefused:
        raise
    except InvalidDicomError as error:
        raise InputRefused("not a DICOM file") from error
    except OSError as error:
        raise InputRefused(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # on damaged bytes pydicom raises nearly anything
        raise InputRefused(f"damaged DICOM file: {error}") from error
    return dataset


def _require_readable(dataset: pydicom.Dataset) -> None:
    """Look at every value: they are converted when they are first looked at, and damaged ones are to raise here.

    What pydicom says of a value quotes it, and it may be a patient's name under another value representation.
    """
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            items = element.value if element.VR == "SQ" else ()
        except Exception as error:  # on damaged bytes pydicom raises nearly anything
            name = keyword_for_tag(tag) or str(tag)
            raise InputRefused(f"damaged DICOM file: the value of {name} cannot be read") from error
        for item in items:
            _require_readable(item)


def _uid(value: object) -> UID:
    return UID(str(value), validation_mode=IGNORE)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        elif path.is_file():
            yield path
        else:
            raise InputRefused(f"{path} does not exist; name a folder or files of a CT or MR series")


def _require_whole_numbers(header: pydicom.FileDataset) -> None:
    """Later steps count with these; a damaged one is named here."""
    for keyword in WHOLE_NUMBERS:
        value = header.get(keyword)
        if value in (None, ""):
            continue
        try:
            valid = int(value) == float(value)
        except (TypeError, ValueError, OverflowError):  # the last: an infinite one
            valid = False
        if not valid:
            raise InputRefused(f"damaged DICOM file: {keyword} is {str(value)[:40]!r}, not a whole number")


def _require_image(header: pydicom.FileDataset) -> None:
    """Refuse what is no image, by its SOP class and by what an image cannot do without."""
    sop_class = _uid(header.get("SOPClassUID") or "")
    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise InputRefused("a DICOMDIR index, not an image")
    if not sop_class:
        raise InputRefused("a DICOM file without SOPClassUID, not an image")
    if sop_class in RESULT_CLASSES or "Rows" not in header or "Columns" not in header:
        raise InputRefused(f"{sop_class.name}, not an image of a scanner")
    if not UID_PATTERN.fullmatch(str(header.file_meta.get("TransferSyntaxUID") or "")):
        raise InputRefused("damaged DICOM file: the file meta information has no valid TransferSyntaxUID")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not header.get(keyword):
            raise InputRefused(f"damaged DICOM file: {keyword} is missing")
        if not UID_PATTERN.fullmatch(str(header.get(keyword))):
            raise InputRefused(f"damaged DICOM file: {keyword} is no UID")
