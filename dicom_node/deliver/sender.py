"""C-STORE SCU: result files to one destination, each with its own answer."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
import pynetdicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.deliver.association import accepted_syntaxes, open_association, sop_class_name
from dicom_node.deliver.peer_words import without_patient
from dicom_node.errors import DeliveryRefused
from dicom_node.settings import DestinationTable

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_PLAIN: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
"""Between these two only the headers of elements differ: values, and so pixels, stay byte for byte."""

_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_STORED_WITH_WARNING: Final = frozenset({0x0001, 0x0107, 0x0116})
_NEVER: Final = frozenset({0x0117, 0x0122, 0x0124})
"""Invalid UID, SOP class not supported, not authorised (PS3.7 annex C): asking again changes nothing."""

# Files leave as they lie on disk, byte for byte, and in pieces: nothing is decoded that was verified already.
pynetdicom._config.STORE_SEND_CHUNKED_DATASET = True


@dataclass(frozen=True)
class SendOutcome:
    """What became of one instance.

    Attributes:
        status: The C-STORE status (PS3.4 B.2.3), or the HTTP status of a DICOMweb service that says no more; None when
            none was answered.
        ok: The destination has it, perhaps with a warning.
        warning: Stored, but elements were coerced or discarded, or did not fit.
        retryable: Whether another attempt may end better.
        is_unsure: It was taken by an answer that does not say that it is stored: worth asking for.
        message: For a person; empty after a plain success.
    """

    sop_instance_uid: str
    status: int | None
    ok: bool
    warning: bool = False
    retryable: bool = False
    is_unsure: bool = False
    message: str = ""


@dataclass(frozen=True)
class ResultFile:
    """A PS3.10 file and what its file meta says of it."""

    path: Path
    sop_class: str
    sop_instance: str
    syntax: str


def send(
    destination: DestinationTable,
    files: Sequence[Path],
    calling_ae: str,
    *,
    before_each: Callable[[], None] | None = None,
) -> tuple[SendOutcome, ...]:
    """Send files over one association.

    Each SOP class is proposed in the transfer syntax the file is stored in and, beside it, in explicit and implicit
    little endian where that is a mere change of encoding. When the connection breaks, what was answered until then
    counts, and the rest is reported as retryable.

    Args:
        destination: Where to.
        files: PS3.10 files.
        calling_ae: Our AE title.
        before_each: Called before each C-STORE; what it raises ends the association.

    Returns:
        One outcome a file, in the order of ``files``.

    Raises:
        DeliveryFailed: No association for now; nothing was sent.
        DeliveryRefused: Rejected for good, or a file is no DICOM file; nothing was sent.
        OSError: A file cannot be read; nothing was sent.
    """
    if not files:
        return ()
    results = [read_result(path) for path in files]
    outcomes: list[SendOutcome] = []
    with open_association(destination, _contexts(results), calling_ae) as association:
        accepted = accepted_syntaxes(association)
        for result in results:
            if outcomes and outcomes[-1].status is None:  # what breaks once stays broken; pynetdicom notices late
                outcomes.append(unanswered(result.sop_instance, "the connection was lost before it could be sent"))
            else:
                if before_each is not None:
                    before_each()
                outcomes.append(_send_one(association, result, accepted.get(result.sop_class, frozenset())))
    return tuple(outcomes)


def read_result(path: Path) -> ResultFile:
    """Read the file meta of a result.

    Raises:
        DeliveryRefused: It is no DICOM file.
        OSError: It cannot be read.
    """
    try:
        meta = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True).file_meta
        return ResultFile(
            path, str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID)
        )
    except (InvalidDicomError, AttributeError) as error:
        raise DeliveryRefused(f"{path.name} is no DICOM file that can be sent: {error}") from error


def _contexts(results: Sequence[ResultFile]) -> list[PresentationContext]:
    proposed: dict[tuple[str, tuple[str, ...]], None] = {}
    for result in results:
        proposed[result.sop_class, (result.syntax,)] = None
    for result in results:
        others = tuple(syntax for syntax in _convertible(result.syntax) if syntax != result.syntax)
        if others:
            proposed[result.sop_class, others] = None
    return [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in proposed]


def _convertible(syntax: str) -> tuple[str, ...]:
    return _PLAIN if syntax in {*_PLAIN, _DEFLATED} else ()


def _send_one(association: Association, result: ResultFile, accepted: frozenset[str]) -> SendOutcome:
    syntax = next((syntax for syntax in (result.syntax, *_convertible(result.syntax)) if syntax in accepted), None)
    if syntax is not None:
        source = result.path if syntax == result.syntax else _converted(result.path, syntax)
        try:
            return _outcome(result, association.send_c_store(source))
        except RuntimeError as error:  # the association ended since it was last looked at
            return unanswered(result.sop_instance, f"the connection was lost before it could be sent: {error}")
    return SendOutcome(
        result.sop_instance,
        _SOP_CLASS_NOT_SUPPORTED,
        ok=False,
        message=f"the destination does not accept {sop_class_name(result.sop_class)} in {UID(result.syntax).name}",
    )


def _converted(path: Path, syntax: str) -> Dataset:
    """The data set in another plain transfer syntax."""
    dataset = pydicom.dcmread(path)
    buffer = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    pydicom.dcmwrite(buffer, dataset, implicit_vr=syntax == IMPLICIT_LITTLE, little_endian=True, overwrite=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def _outcome(result: ResultFile, answer: Dataset) -> SendOutcome:
    if "Status" not in answer:
        return unanswered(result.sop_instance, "the destination did not answer in time, or broke the connection")
    comment = without_patient(str(answer.get("ErrorComment", "") or ""), result.path)
    return outcome_of_status(result.sop_instance, int(answer.Status), "C-STORE", comment)


def outcome_of_status(sop_instance: str, status: int, service: str, comment: str = "") -> SendOutcome:
    """What a status of storage means (PS3.4 B.2.3; STOW-RS gives the same as its reasons, PS3.18 I.2.2).

    Args:
        sop_instance: SOP Instance UID of what was sent.
        status: What was answered.
        service: Which service answered, for the message.
        comment: What the destination said beside it.
    """
    words = f"{service} status {status:04X}" + (f": {comment}" if comment else "")
    if status == 0:
        return SendOutcome(sop_instance, status, ok=True)
    if status in _STORED_WITH_WARNING or status >> 12 == 0xB:
        return SendOutcome(sop_instance, status, ok=True, warning=True, message=f"stored with a warning, {words}")
    never = status in _NEVER or status >> 8 == 0xA9 or status >> 12 == 0xC
    return SendOutcome(sop_instance, status, ok=False, retryable=not never, message=f"not stored, {words}")


def unanswered(sop_instance: str, message: str) -> SendOutcome:
    """What becomes of an instance whose fate is not known: it is asked for, and sent again."""
    return SendOutcome(sop_instance, None, ok=False, retryable=True, message=message)
