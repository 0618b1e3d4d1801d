"""The node's errors. The worker decides from ``retryable`` alone.

::

    NodeError
    ├── UsageError            the command line is wrong                           exit 2
    ├── SettingsError         node.toml or another settings file is wrong         exit 2
    ├── InputRefused          what came cannot be processed, and why              exit 3
    │   └── SeriesRefused     a series that is not one volume of one patient
    ├── VerificationFailed    an encoded result does not hold the label volume    exit 4
    ├── ResultHeld            a result that nobody should receive unseen          exit 4
    ├── DeliveryFailed        a destination did not take a result (retryable)     exit 5
    │   └── DeliveryRefused   a destination will never take it (not retryable)
    ├── ResultOutdated        results have to be made anew (retryable)            exit 1
    ├── SegmentationFailed    the network or its process failed (retryable)       exit 1
    ├── ImageGone             the file of an image was removed (retryable)        exit 1
    ├── StorageFull           no room to write (retryable)                        exit 1
    ├── NodeUnwell            the running node is not healthy, or not ready       exit 1
    ├── LedgerUnreachable     the database server does not answer (retryable)     exit 1
    ├── NodeUnreachable       Orthanc's plugin: the node does not answer (retryable)  exit 1
    └── TakenOver             another worker goes on with this work               exit 1
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """Root of the tree: a message for a person, and the UIDs that are known.

    Args:
        message: What was expected, what came, what to do.
        uids: Identifiers the error is about, by DICOM keyword (``SeriesInstanceUID`` ...); never a patient's name.
    """

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **uids: str) -> None:
        super().__init__(message)
        self.message = message
        self.uids = uids


class UsageError(NodeError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class SettingsError(NodeError):
    """A settings file holds an unknown key, a wrong value or a reference to nothing."""

    exit_code = 2


class CertificateOutOfTime(SettingsError):
    """A certificate that could be used is not valid yet, or no more."""


class InputRefused(NodeError):
    """What came in cannot be processed; the message is for a radiographer."""

    exit_code = 3


class SeriesRefused(InputRefused):
    """A series that is not one volume: localizer, gap, repeated position, mixed orientation and the like.

    Args:
        message: The reason in plain words; names the slices (InstanceNumber or file) it is about.
        kind: Short stable word for machines: ``gap``, ``localizer``, ``repeated-position`` ...
        uids: As for :class:`NodeError`.
    """

    def __init__(self, message: str, *, kind: str, **uids: str) -> None:
        super().__init__(message, **uids)
        self.kind = kind


class VerificationFailed(NodeError):
    """A result, decoded from its encoded bytes, is not the label volume it was made from."""

    exit_code = 4


class ResultHeld(NodeError):
    """The labels cannot be right (left and right exchanged, impossible volumes); a person has to look first."""

    exit_code = 4


class DeliveryFailed(NodeError):
    """A destination could not be reached or did not store a result this time."""

    retryable = True
    exit_code = 5


class DeliveryRefused(DeliveryFailed):
    """A destination will never take this result as it is (SOP class refused, data set refused)."""

    retryable = False


class ResultOutdated(NodeError):
    """What is on record of a result was written by another version of the node: the case has to run again."""

    retryable = True


class SegmentationFailed(NodeError):
    """The network or the process it runs in failed."""

    retryable = True


class ImageGone(NodeError):
    """The file of an image that is being recorded was removed by retention at that moment: write it again."""

    retryable = True


class StorageFull(NodeError):
    """The disk or the quota has no room; nothing was lost, the step can be repeated."""

    retryable = True


class NodeUnwell(NodeError):
    """The running node is not healthy or not ready; the message gives its reasons."""


class LedgerUnreachable(NodeError):
    """The database server does not answer, or refuses us; who starts the process tries again."""

    retryable = True


class NodeUnreachable(NodeError):
    """The node, as another program asks it, does not answer as it should; ask again later."""

    retryable = True


class TakenOver(NodeError):
    """Another worker goes on with this work: nothing may be written or sent for it here any more."""
