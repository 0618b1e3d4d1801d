"""What is done with one received instance: checked, written, put on record, answered. Knows nothing of the network.

Success is answered only after the file is fsynced under its final name and the record is committed. Every other answer
leaves what was on record before as it was.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import ImageGone, InputRefused, SegmentationFailed, StorageFull
from dicom_node.ledger.database import committed_nothing
from dicom_node.ledger.intake import Association, Instance, Intake
from dicom_node.logs import get_logger
from dicom_node.receive.identity import Identity, read_identity
from dicom_node.receive.recording import Recorder
from dicom_node.receive.room import Room
from dicom_node.receive.sameness import same_object
from dicom_node.receive.spool import Spool, SpoolFile, spool_file
from dicom_node.settings import LimitsTable, PeerTable
from dicom_node.uids import is_uid

log = get_logger("receive")

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
INVALID_SOP_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000

RESENT_SECONDS = 60.0
"""That images of a series come again is noted this often at most; retention waits much longer than this."""
_RESENT_SERIES = 1000
_COMMENT_CHARACTERS = 64


@dataclass(frozen=True)
class Arrival:
    """One C-STORE request (PS3.7 9.1.1), or what stands for it in a part of a STOW-RS request.

    Attributes:
        sop_class_uid: Affected SOP Class UID of the command.
        sop_instance_uid: Affected SOP Instance UID of the command.
        abstract_syntax: SOP class that the presentation context was accepted for.
        transfer_syntax_uid: How the data set is encoded.
        encoded: The data set as it came.
        study_instance_uid: The study it has to be of; empty where the request names none.
    """

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str
    encoded: bytes
    study_instance_uid: str = ""


@dataclass(frozen=True)
class Answer:
    """A C-STORE response (PS3.4 B.2.3): status, and why in words where it is not Success."""

    status: int
    comment: str = ""

    @property
    def error_comment(self) -> str:
        """The words as ErrorComment holds them (PS3.7 C.4.2), a LO."""
        return self.comment.encode("ascii", "replace").decode()[:_COMMENT_CHARACTERS]


class _Refusal(Exception):
    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.answer = Answer(status, comment)


class Reception:
    """Takes instances in.

    Args:
        spool: Where the files go.
        intake: Where they are recorded.
        limits: Quota, free space and marks.
        now: The clock, in seconds since the epoch.
        free_bytes: Free bytes of the spool's disk; asked for every instance.
    """

    def __init__(
        self,
        spool: Spool,
        intake: Intake,
        limits: LimitsTable,
        now: Callable[[], float] = time.time,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._spool = spool
        self._intake = intake
        self._recorder = Recorder(intake)
        self._now = now
        self._room = Room(intake, limits, now, free_bytes or (lambda: shutil.disk_usage(spool.root).free))
        # Two associations may send one UID at the same time: the file must be the one that is on record.
        self._uid_locks = tuple(threading.Lock() for _ in range(64))
        self._resent: dict[str, float] = {}

    def store(self, arrival: Arrival, association: Callable[[], Association], peer: PeerTable | None = None) -> Answer:
        """Take one instance in.

        Args:
            arrival: What came.
            association: Gives the association it came over, on record already; called only for what may be stored.
            peer: Who sends it; None where no peer's own limits apply.

        Returns:
            What to answer. Never raises for bad input, a full disk or a lost database.
        """
        try:
            answer = self._store(arrival, association, peer)
        except _Refusal as refusal:
            answer = refusal.answer
        except (StorageFull, SegmentationFailed) as error:
            answer = Answer(OUT_OF_RESOURCES, error.message)
        except SQLAlchemyError as error:
            log.exception("ledger not written", error=type(error).__name__, reason=str(error.__cause__ or error)[:200])
            answer = Answer(OUT_OF_RESOURCES, "the node's database cannot be written; send again")
        except OSError as error:
            log.exception("spool not written", error=str(error))
            answer = Answer(OUT_OF_RESOURCES, f"the node's spool cannot be written: {error.strerror}")
        if answer.status == SUCCESS:
            log.debug("instance stored", SOPInstanceUID=arrival.sop_instance_uid)
        else:
            log.warning(
                "instance refused",
                status=f"{answer.status:04X}",
                reason=answer.comment,
                SOPInstanceUID=arrival.sop_instance_uid[:64],
                SOPClassUID=arrival.sop_class_uid,
            )
        return answer

    def lack_of_room(self, peer: PeerTable) -> str | None:
        """What is lacking for any instance at all; None while there is some room, or nobody knows."""
        try:
            return self._room.lack(peer)
        except (SQLAlchemyError, OSError) as error:
            log.exception("room not known", error=type(error).__name__)
            return None  # each instance is answered for itself

    def _store(self, arrival: Arrival, association: Callable[[], Association], peer: PeerTable | None) -> Answer:
        if peer is not None and peer.storage_classes and arrival.sop_class_uid not in peer.storage_classes:
            raise _Refusal(NOT_AUTHORISED, f"peer {peer.ae_title} may not store this SOP class")
        identity = _checked_identity(arrival)
        sender = association()
        file = spool_file(identity, arrival.transfer_syntax_uid, sender.calling_ae, arrival.encoded)
        with self._uid_locks[crc32(identity.sop_instance_uid.encode()) % len(self._uid_locks)]:
            known = self._intake.find(identity.sop_instance_uid)
            if known is not None and self._is_kept(known):
                return self._again(known, identity, file)
            lack = self._room.claim(file.size, identity.series_instance_uid, peer)
            if lack is not None:
                raise _Refusal(OUT_OF_RESOURCES, lack)
            instance = Instance(
                sop_instance_uid=identity.sop_instance_uid,
                sop_class_uid=identity.sop_class_uid,
                study_instance_uid=identity.study_instance_uid,
                series_instance_uid=identity.series_instance_uid,
                transfer_syntax_uid=arrival.transfer_syntax_uid,
                path=str(self._spool.path_of(identity)),
                sha256=file.sha256,
                size=file.size,
                received_at=self._now(),
                association_id=sender.association_id,
            )
            self._keep(instance, identity, file)
        return Answer(SUCCESS)

    def _keep(self, instance: Instance, identity: Identity, file: SpoolFile) -> None:
        """Write and record; once more where retention was just removing an earlier file of the same name.

        What certainly is not on record does not stay: on a full disk each such file would take room for nothing.
        """
        path = self._spool.write(identity, file)
        try:
            try:
                self._recorder.record(instance)
            except ImageGone:
                self._spool.write(identity, file)
                self._recorder.record(instance)
        except SQLAlchemyError as error:
            if committed_nothing(error):
                path.unlink(missing_ok=True)
            raise

    def _is_kept(self, known: Instance) -> bool:
        """Have retention keep the series of an image that came again; False where it was quicker."""
        series, now = known.series_instance_uid, self._now()
        if now - self._resent.get(series, -RESENT_SECONDS) < RESENT_SECONDS:
            return True  # noted a moment ago, and retention takes nothing that was
        if not self._intake.note_resent(series, now):
            return False
        if len(self._resent) >= _RESENT_SERIES:
            self._resent.clear()
        self._resent[series] = now
        return True

    def _again(self, known: Instance, identity: Identity, file: SpoolFile) -> Answer:
        """Answer for an instance that is on record: the first one is kept, whatever comes."""
        same_place = (known.study_instance_uid, known.series_instance_uid) == (
            identity.study_instance_uid,
            identity.series_instance_uid,
        )
        if same_place and file.sha256 == known.sha256:
            if not Path(known.path).is_file():
                self._spool.write(identity, file)  # what is on record has to be there
            return Answer(SUCCESS)
        if same_place and same_object(Path(known.path), file):
            return Answer(SUCCESS)
        raise _Refusal(DUPLICATE_SOP_INSTANCE, "another object with this SOP Instance UID is on record; it is kept")


def _checked_identity(arrival: Arrival) -> Identity:
    """The instance's UIDs, once command, presentation context and data set agree about them."""
    if not is_uid(arrival.sop_instance_uid):
        raise _Refusal(INVALID_SOP_INSTANCE, "Affected SOP Instance UID is not a UID (PS3.5 9.1)")
    if arrival.sop_class_uid != arrival.abstract_syntax:
        raise _Refusal(SOP_CLASS_NOT_SUPPORTED, "SOP class is not the one of the presentation context")
    try:
        identity = read_identity(arrival.encoded, arrival.transfer_syntax_uid)
    except InputRefused as error:
        raise _Refusal(CANNOT_UNDERSTAND, error.message) from error
    for keyword, uid in (
        ("SOPClassUID", identity.sop_class_uid),
        ("SOPInstanceUID", identity.sop_instance_uid),
        ("StudyInstanceUID", identity.study_instance_uid),
        ("SeriesInstanceUID", identity.series_instance_uid),
    ):
        if not is_uid(uid):
            raise _Refusal(CANNOT_UNDERSTAND, f"{keyword} is absent or not a UID")
    if identity.sop_instance_uid != arrival.sop_instance_uid:
        raise _Refusal(DOES_NOT_MATCH_SOP_CLASS, "SOP Instance UID of command and data set differ")
    if identity.sop_class_uid != arrival.sop_class_uid:
        raise _Refusal(DOES_NOT_MATCH_SOP_CLASS, "SOP Class UID of command and data set differ")
    if arrival.study_instance_uid not in {"", identity.study_instance_uid}:
        raise _Refusal(DOES_NOT_MATCH_SOP_CLASS, "the data set is not of the study that the request is for")
    return identity
