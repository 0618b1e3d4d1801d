"""Retention: removes what is finished and old enough from the disk, and says what it removed."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dicom_node.durable_file import fsync_directory, make_directory_durably
from dicom_node.ledger.audit_events import AuditEvents
from dicom_node.ledger.audit_facts import subject_of_results
from dicom_node.ledger.retention import Retention
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

_log = get_logger("retention")
SETTLED_SECONDS = 3600.0
"""Nothing goes earlier than this after the end of a case, whatever the settings say: a step may still be running."""
PATIENCE_SECONDS = 7 * 86400.0
"""How long removal waits for an audit trail that cannot be written."""
_FILES_AT_ONCE = 100
_DAY = 86400.0
_MOST = 1_000_000_000


@dataclass(frozen=True)
class Tidied:
    """What a pass removed, or would remove.

    Attributes:
        series: Series Instance UIDs whose images went.
        images: How many images.
        size: Their bytes.
        results: Cases whose results went.
        records: How many cases went off the record.
    """

    series: tuple[str, ...]
    images: int
    size: int
    results: tuple[str, ...]
    records: int

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.series or self.images or self.results or self.records)


class Tidying:
    """Carries ``[retention]`` out.

    Args:
        database: The ledger.
        settings: How long what stays, and where it lies.
    """

    def __init__(self, database: sa.Engine, settings: Settings) -> None:
        self._retention = Retention(database)
        self._audit = AuditEvents(database)
        self._table = settings.retention
        self._home = settings.node.home.absolute()
        self._settled_seconds = max(SETTLED_SECONDS, settings.limits.segmentation_seconds)

    def preview(self, now: float) -> Tidied:
        """What a whole pass would remove."""
        series = self._retention.due_series(self._before(now, self._table.spool_days), _MOST)
        results = self._retention.due_results(self._before(now, self._table.results_days), _MOST)
        records = self._retention.old_records(self._before(now, self._table.record_days))
        return Tidied(
            series=tuple(item.series_instance_uid for item in series),
            images=sum(item.images for item in series) + len(self._retention.leaving(_MOST)),
            size=sum(item.size for item in series),
            results=results,
            records=records,
        )

    def run(self, now: float, most: int = _MOST) -> Tidied:
        """Remove what is due: of at most so many series and cases.

        Raises:
            OSError: A file cannot be removed; it stays listed, and the next pass tries again.
        """
        if self._trail_is_behind(now):
            return Tidied((), 0, 0, (), 0)
        before = self._before(now, self._table.spool_days)
        due = self._retention.due_series(before, most)
        gone = [item for item in due if self._retention.let_go(item.series_instance_uid, before, now)]
        images, size = self._remove_leaving(now)
        self._retention.forget_requests(before)  # of images that are gone, or as old
        before = self._before(now, self._table.results_days)
        cases = self._retention.due_results(before, most)
        results = [case_id for case_id in cases if self._remove_results(case_id, before, now)]
        self._remove_aside(now)
        records = self._retention.forget_records(self._before(now, self._table.record_days))
        tidied = Tidied(tuple(item.series_instance_uid for item in gone), images, size, tuple(results), records)
        if not tidied.is_nothing:
            _log.info("removed by retention", series=len(gone), images=images, bytes=size, results=len(results))
        return tidied

    def records_before(self, now: float) -> float:
        """Records of what ended before this moment may go."""
        return self._before(now, self._table.record_days)

    def _before(self, now: float, days: float) -> float:
        """What ended before this moment may go; never where no days are set."""
        return now - max(days * _DAY, self._settled_seconds) if days else 0.0

    def _remove_leaving(self, now: float) -> tuple[int, int]:
        images = size = 0
        while leaving := self._retention.leaving(_FILES_AT_ONCE, now - PATIENCE_SECONDS):
            size += self._retention.remove(leaving, lambda paths: _remove_files([Path(path) for path in paths]))
            images += len(leaving)
        return images, size

    def _trail_is_behind(self, now: float) -> bool:
        """Whether the audit trail still has to tell of what may leave: who sent it is read from the images.

        Not for ever: a syslog server that is gone must not fill the disk that images are received on.
        """
        oldest = self._audit.oldest()
        if oldest is None or not SETTLED_SECONDS < now - oldest <= PATIENCE_SECONDS:
            return False
        _log.warning("nothing is removed until the audit trail is written", hours=round((now - oldest) / 3600, 1))
        return True

    def _remove_results(self, case_id: str, before: float, now: float) -> bool:
        return self._retention.remove_results(case_id, before, now, lambda: self._set_aside(case_id))

    def _set_aside(self, case_id: str) -> Path:
        """Take a case's folder out of the way by one rename, to be removed once that is told."""
        folder, aside = self._home / "cases" / case_id, self._aside / case_id
        if folder.is_dir():
            _remove_folder(aside)  # of a pass that was killed, before the case was made anew
            make_directory_durably(self._aside)
            folder.rename(aside)
            fsync_directory(self._aside)
            fsync_directory(folder.parent)
        return aside

    def _remove_aside(self, now: float) -> None:
        for folder in sorted(self._aside.iterdir()) if self._aside.is_dir() else ():
            if not self._audit.is_pending("removed", subject_of_results(folder.name), now - PATIENCE_SECONDS):
                _remove_folder(folder)

    @property
    def _aside(self) -> Path:
        return self._home / "leaving"


def _remove_files(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        if folder.is_dir():
            fsync_directory(folder)  # or a power cut could bring back a file that is on no list any more
        for empty in (folder, folder.parent):  # of the series, of the study
            with suppress(OSError):  # not empty, or gone already; an empty folder that stays harms nobody
                empty.rmdir()


def _remove_folder(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
        fsync_directory(folder.parent)
