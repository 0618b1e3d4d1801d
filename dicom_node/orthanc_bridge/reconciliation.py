"""Looking at everything Orthanc has, page by page, for series that nobody told of.

Orthanc forgets that a series is going to be stable when it ends before (seen with kill -9), and tells nothing of what
came while the plugin was not there. So all series are looked at when Orthanc has started, and every now and then.
"""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.orthanc_bridge.archive import OrthancArchive
from dicom_node.orthanc_bridge.handover import Handover
from dicom_node.orthanc_bridge.selection import why_never
from dicom_node.orthanc_bridge.settings import BridgeSettings

PAGE_SERIES = 100
PAGE_PAUSE_SECONDS = 0.05
"""Between two pages, so that others get their turn in Orthanc."""


class Reconciliation:
    """One look after another; :meth:`work` is called by one thread alone.

    Args:
        archive: Orthanc.
        handover: Takes what is found.
        settings: How often.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, archive: OrthancArchive, handover: Handover, settings: BridgeSettings, clock: Callable[[], float]
    ) -> None:
        self._archive, self._handover, self._settings, self._clock = archive, handover, settings, clock
        self._next_page, self._due, self.looked_at = 0, 0.0, 0.0
        self.found = 0

    def work(self) -> float:
        """Look at the next page if a look is due; returns after how many seconds there is another."""
        now = self._clock()
        if now < self._due:
            return self._due - now
        page = self._archive.page(self._next_page, PAGE_SERIES)
        for series in page:
            if not why_never(series, self._settings) and not self._handover.is_settled(series):
                self._handover.take(series.orthanc_id, is_backlog=True)
                self.found += 1
        if page:
            self._next_page += len(page)
            return PAGE_PAUSE_SECONDS
        self._next_page, self._due, self.looked_at = 0, now + self._settings.reconcile_seconds, now
        return self._settings.reconcile_seconds
