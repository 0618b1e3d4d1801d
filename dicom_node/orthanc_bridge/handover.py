"""Handing series over, one at a time: what waits, what is being sent, what did not go through and is tried again.

A series counts as handed over once Orthanc's job has ended well, which it does only when the node has acknowledged
every image; the node keeps what it acknowledges. Until then it is sent again, whatever happens: what the node has
already, it acknowledges without keeping it twice.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from dicom_node.errors import NodeError, NodeUnreachable
from dicom_node.orthanc_bridge.archive import ArchivedSeries, OrthancArchive
from dicom_node.orthanc_bridge.node import NodeQuestions
from dicom_node.orthanc_bridge.note import Note, digest_of
from dicom_node.orthanc_bridge.selection import is_too_old, why_never
from dicom_node.orthanc_bridge.settings import BridgeSettings
from dicom_node.orthanc_bridge.standing import NOT_FOR_THE_NODE, Standing, standing_at_rest

IDLE_SECONDS = 5.0
LOOK_SECONDS = 0.25
GONE_SECONDS = 10.0
"""How long the end of a job is waited for that Orthanc no longer lists."""
_ENDED_JOBS = 1000


@dataclass(frozen=True)
class Candidate:
    """A series that may have to be handed over.

    Attributes:
        is_backlog: Found by a look at everything there is; others go first.
        due: Not before this moment, seconds since the epoch.
        attempts: How often it did not go through, and the ``reason`` of the last time.
    """

    orthanc_id: str
    is_backlog: bool
    due: float
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Sending:
    """A series that Orthanc is sending to the node."""

    candidate: Candidate
    series: ArchivedSeries
    job_id: str
    images: int
    is_asked: bool
    since: float


class Handover:
    """Takes series from any thread; :meth:`work` is called by one thread alone.

    Args:
        archive: Orthanc.
        node: The node.
        settings: Pauses and limits.
        since: Series whose last image came before are left alone, seconds since the epoch.
        clock: Seconds since the epoch.
        log: Gets a line for a person.
    """

    def __init__(
        self,
        archive: OrthancArchive,
        node: NodeQuestions,
        settings: BridgeSettings,
        since: float,
        clock: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self._archive, self._node, self._settings, self._since = archive, node, settings, since
        self._clock, self._log, self._started = clock, log, clock()
        self._lock, self._notes = threading.Lock(), threading.Lock()
        self._candidates: dict[str, Candidate] = {}
        self._sending: Sending | None = None
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._settled: dict[str, tuple[float, int]] = {}
        self._everything_after = self._backlog_after = 0.0
        self._outage = ""

    def take(self, orthanc_id: str, *, is_backlog: bool = False) -> None:
        """Have a series looked at: it has fallen quiet, or was found."""
        with self._lock:
            known = self._candidates.get(orthanc_id)
            if known is None:
                self._candidates[orthanc_id] = Candidate(orthanc_id, is_backlog, self._clock())
            elif not is_backlog:
                self._candidates[orthanc_id] = replace(known, is_backlog=False, due=self._clock())

    def ask(self, orthanc_id: str) -> None:
        """Have a series handed over, and run again at the node, because a person wants it; remembered at once."""
        with self._notes:
            self._archive.keep_note(orthanc_id, Note("asked", at=self._clock()))
        self.take(orthanc_id)

    def note_job_end(self, job_id: str, *, ended_well: bool) -> None:
        """Take Orthanc's word that a job has ended; it may forget the job at that moment."""
        with self._lock:
            self._ended[job_id] = "done" if ended_well else "failed"
            while len(self._ended) > _ENDED_JOBS:
                self._ended.popitem(last=False)

    def is_settled(self, series: ArchivedSeries) -> bool:
        """Whether nothing has changed since a series was found to need nothing."""
        return self._settled.get(series.orthanc_id) == _version(series)

    def work(self) -> float:
        """Do the next thing there is to do; returns after how many seconds there may be another."""
        if self._sending is not None:
            return self._look_at_job(self._sending)
        now = self._clock()
        candidate = self._next(now)
        if candidate is None:
            with self._lock:
                dues = [each.due - now for each in self._candidates.values()]
            return min(max(min(dues, default=IDLE_SECONDS), LOOK_SECONDS), IDLE_SECONDS)
        try:
            self._begin(candidate, now)
        except NodeUnreachable as error:
            self._everything_after, self._outage = now + self._settings.retry_seconds[0], error.message
            self._put_back(candidate)
        except NodeError as error:
            self._fail(candidate, error.message)
        except Exception as error:  # noqa: BLE001 - Orthanc's own errors; the series must not be forgotten
            self._fail(candidate, f"Orthanc: {error}")
        return 0.0

    def standing(self, orthanc_id: str) -> Standing | None:
        """How a series stands; None where Orthanc has no such series."""
        with self._lock:
            sending, candidate = self._sending, self._candidates.get(orthanc_id)
        if sending is not None and sending.candidate.orthanc_id == orthanc_id:
            return Standing("handing over", images=sending.images, at=sending.since)
        series = self._archive.series(orthanc_id)
        if series is None:
            return None
        never = why_never(series, self._settings)
        if never:
            return Standing(NOT_FOR_THE_NODE, never)
        if candidate is not None:
            return self._standing_of(candidate)
        return standing_at_rest(series, self._archive.note_of(orthanc_id), self._since)

    def summary(self) -> dict[str, object]:
        """What waits, for a person."""
        with self._lock:
            candidates, sending = list(self._candidates.values()), self._sending
        return {
            "waiting": len(candidates),
            "delayed": {each.orthanc_id: each.reason for each in candidates if each.attempts},
            "handing_over": sending.candidate.orthanc_id if sending else None,
            "outage": self._outage,
        }

    def _standing_of(self, candidate: Candidate) -> Standing:
        if candidate.attempts:
            return Standing("delayed", f"{candidate.reason} ({candidate.attempts} attempts)", at=candidate.due)
        return Standing("delayed", self._outage) if self._outage else Standing("waiting")

    def _next(self, now: float) -> Candidate | None:
        if now < self._everything_after:
            return None
        with self._lock:
            due = [each for each in self._candidates.values() if each.due <= now]
            chosen = min(due, key=lambda each: (each.is_backlog, each.due), default=None)
            if chosen is None or (chosen.is_backlog and now < self._backlog_after):
                return None
            return self._candidates.pop(chosen.orthanc_id)

    def _begin(self, candidate: Candidate, now: float) -> None:
        """Start the job of a series that needs one; forget one that needs none.

        Raises:
            NodeUnreachable: Nobody listens where the node should be.
        """
        series = self._archive.series(candidate.orthanc_id)
        if series is None or not series.is_stable:
            return  # deleted, or Orthanc will tell when it is quiet
        note, is_known = self._archive.note_of(series.orthanc_id), why_never(series, self._settings) == ""
        is_asked = note.state == "asked"
        is_done = note.state == "handed over" and note.digest == digest_of(series.instances)
        if not is_known or is_done or (is_too_old(series, self._since) and not is_asked):
            self._settled[series.orthanc_id] = _version(series)
            return
        quiet_at = max(series.last_update, self._started) + self._settings.stable_seconds
        if now < quiet_at:  # Orthanc may have ended in the middle of it: the sender gets its time to go on
            self._put_back(replace(candidate, due=quiet_at))
            return
        self._require_listener()
        if candidate.is_backlog and self._node_is_full():
            self._backlog_after = now + IDLE_SECONDS
            self._put_back(candidate)
        else:
            self._send(candidate, series, is_asked=is_asked, now=now)

    def _require_listener(self) -> None:
        host, port = self._archive.node_address()
        if not self._node.is_listening((host, port)):
            raise NodeUnreachable(f"nobody listens on {host} port {port}")

    def _node_is_full(self) -> bool:
        unfinished = self._node.unfinished()
        return unfinished is not None and unfinished >= self._settings.series_in_flight

    def _send(self, candidate: Candidate, series: ArchivedSeries, *, is_asked: bool, now: float) -> None:
        images = self._archive.images_of(series)
        if not images:
            self._settled[series.orthanc_id] = _version(series)
            return
        self._node.expect(series.series_instance_uid, len(images))
        job_id = self._archive.send(images)
        with self._lock:
            self._sending = Sending(candidate, series, job_id, len(images), is_asked, now)

    def _look_at_job(self, sending: Sending) -> float:
        with self._lock:
            told = self._ended.get(sending.job_id)
        job = self._archive.job(sending.job_id)
        if told == "done" or job.state == "done":
            self._end(sending)
        elif job.state == "failed" or told == "failed":
            self._end(sending, job.reason or "Orthanc's job failed")
        elif job.state == "gone" and self._clock() > sending.since + GONE_SECONDS:
            self._end(sending, "Orthanc has forgotten the job")
        else:
            return LOOK_SECONDS
        return 0.0

    def _end(self, sending: Sending, failure: str = "") -> None:
        try:
            if not failure:
                self._conclude(sending)
        except NodeError as error:
            failure = error.message
        except Exception as error:  # noqa: BLE001 - Orthanc's own errors, and the series may be gone
            failure = f"Orthanc: {error}"
        with self._lock:
            self._sending = None
        if failure:
            self._fail(sending.candidate, failure)

    def _conclude(self, sending: Sending) -> None:
        series, now = sending.series, self._clock()
        self._outage = ""
        if sending.is_asked:
            answer = self._node.rerun(series.series_instance_uid)
            if answer is not None and not answer.get("rerun"):
                self._log(f"series {series.orthanc_id} does not run again: {answer.get('reason', '')}")
        with self._notes:
            if sending.is_asked or self._archive.note_of(series.orthanc_id).state != "asked":
                note = Note("handed over", digest_of(series.instances), sending.images, now)
                self._archive.keep_note(series.orthanc_id, note)
        self._settled[series.orthanc_id] = _version(series)
        self._log(f"series {series.orthanc_id}: the node has acknowledged {sending.images} images")

    def _fail(self, candidate: Candidate, reason: str) -> None:
        pauses, now = self._settings.retry_seconds, self._clock()
        pause = pauses[min(candidate.attempts, len(pauses) - 1)]
        self._everything_after = now + min(pauses[0], IDLE_SECONDS)
        self._put_back(replace(candidate, due=now + pause, attempts=candidate.attempts + 1, reason=reason))
        self._log(f"series {candidate.orthanc_id} was not handed over, next attempt in {pause:.0f} s: {reason}")

    def _put_back(self, candidate: Candidate) -> None:
        """Keep a candidate, and that it was taken meanwhile (more images came, a person asked)."""
        with self._lock:
            newer = self._candidates.get(candidate.orthanc_id)
            if newer is not None:
                candidate = replace(candidate, is_backlog=candidate.is_backlog and newer.is_backlog)
            self._candidates[candidate.orthanc_id] = candidate


def _version(series: ArchivedSeries) -> tuple[float, int]:
    return series.last_update, len(series.instances)
