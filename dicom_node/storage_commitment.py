"""Storage commitment in words of its own: what is asked, what is reported (PS3.4 annex J, Push Model). Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import UID

from dicom_node.errors import InputRefused
from dicom_node.uids import is_uid

REQUEST_ACTION: Final = 1
ALL_COMMITTED, SOME_FAILED = 1, 2  # event types, PS3.4 J.3.3
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_CONFLICT, DUPLICATE_TRANSACTION = 0x0110, 0x0112, 0x0119, 0x0131
"""Failure reasons, PS3.3 C.14.1.1."""
REPORT_REFUSALS: Final[Mapping[str, tuple[int, str]]] = {
    "unknown": (PROCESSING_FAILURE, "nobody was asked this"),
    "foreign": (PROCESSING_FAILURE, "somebody else was asked this"),
}
"""Status and words for a report that is not taken. One status for both, the general one that PS3.7 10.1.1.1.8 allows:
who reports in another's name does not learn which transactions there are."""
_REASONS: Final = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_INSTANCE: "it does not have this object",
    0x0122: "it does not support this SOP class",
    CLASS_CONFLICT: "it has another SOP class under this UID",
    DUPLICATE_TRANSACTION: "the transaction UID was used before",
    0x0213: "its resources are limited",
}


@dataclass(frozen=True)
class Reference:
    """One SOP instance that is to be committed to."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Report:
    """The outcome of a transaction.

    Attributes:
        transaction_uid: Of the request it answers.
        committed: Instances that will be kept.
        failed: Failure reason (PS3.3 C.14.1.1) of the others.
    """

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: Mapping[Reference, int] = field(default_factory=dict)

    @property
    def event_type(self) -> int:
        """1 where all are committed to, 2 otherwise."""
        return SOME_FAILED if self.failed else ALL_COMMITTED


def failure_in_words(reason: int) -> str:
    """What a failure reason means."""
    return _REASONS.get(reason, "no reason known here") + f" (failure reason {reason:04X})"


def request_information(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """The action information of an N-ACTION (PS3.4 J.3.2.1.1)."""
    information = Dataset()
    information.TransactionUID = UID(transaction_uid)
    information.ReferencedSOPSequence = _items(references)
    return information


def read_request(information: Dataset) -> tuple[str, tuple[Reference, ...]]:
    """Transaction UID and instances of an action information.

    Raises:
        InputRefused: It lacks one of them.
    """
    references = _references(information, "ReferencedSOPSequence")
    if not references:
        raise InputRefused("the request for commitment names no instance")
    return _transaction(information), references


def report_information(report: Report) -> Dataset:
    """The event information of an N-EVENT-REPORT (PS3.4 J.3.3.1.1)."""
    information = Dataset()
    information.TransactionUID = UID(report.transaction_uid)
    if report.committed:
        information.ReferencedSOPSequence = _items(report.committed)
    if report.failed:
        failed = _items(tuple(report.failed))
        for item, reason in zip(failed, report.failed.values(), strict=True):
            item.FailureReason = reason
        information.FailedSOPSequence = failed
    return information


def read_report(information: Dataset) -> Report:
    """The report of an event information.

    Raises:
        InputRefused: It names no transaction, or an instance without UIDs.
    """
    failed = _references(information, "FailedSOPSequence")
    reasons = [
        int(item.get("FailureReason") or PROCESSING_FAILURE) for item in information.get("FailedSOPSequence", ())
    ]
    return Report(
        _transaction(information),
        _references(information, "ReferencedSOPSequence"),
        dict(zip(failed, reasons, strict=True)),
    )


def _transaction(information: Dataset) -> str:
    uid = str(information.get("TransactionUID", ""))
    if not is_uid(uid):
        raise InputRefused("TransactionUID is absent or not a UID")
    return uid


def _references(information: Dataset, keyword: str) -> tuple[Reference, ...]:
    found = []
    for item in information.get(keyword) or ():
        reference = Reference(str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
        if not is_uid(reference.sop_class_uid) or not is_uid(reference.sop_instance_uid):
            raise InputRefused(f"an item of {keyword} names no SOP class and instance")
        found.append(reference)
    return tuple(found)


def _items(references: Sequence[Reference]) -> ItemSequence:
    items = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
        item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
        items.append(item)
    return ItemSequence(items)
