"""The bridge's thread in Orthanc, and what Orthanc tells it.

Orthanc's events only put a series in a queue; everything that takes time, or asks Orthanc, is done in a thread of the
bridge's own, which begins with Orthanc and ends with it.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable

from dicom_node.orthanc_bridge.archive import OrthancArchive
from dicom_node.orthanc_bridge.handover import Handover
from dicom_node.orthanc_bridge.node import NodeQuestions
from dicom_node.orthanc_bridge.orthanc_module import OrthancModule
from dicom_node.orthanc_bridge.reconciliation import Reconciliation
from dicom_node.orthanc_bridge.routes import EXPLORER, PATTERNS, Routes
from dicom_node.orthanc_bridge.settings import BridgeSettings, read_settings

AFTER_ERROR_SECONDS = 5.0
STOP_SECONDS = 30.0
_KEPT: list[Callable[..., None]] = []
"""Callbacks that live as long as Python: release 5.0 of Orthanc's plugin crashes at its end when they do not."""


class Bridge:
    """Between one Orthanc and one node.

    Args:
        orthanc: The module ``orthanc``.
        settings: From Orthanc's configuration.
        node: Asks the node.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        orthanc: OrthancModule,
        settings: BridgeSettings,
        node: NodeQuestions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._orthanc, self._settings, self._clock = orthanc, settings, clock
        self.archive = OrthancArchive(orthanc, settings)
        self.node = node or NodeQuestions(settings)
        self.handover: Handover | None = None
        self.reconciliation: Reconciliation | None = None
        self._stop, self._awake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def on_change(self, change: int, _level: int, resource: str) -> None:
        """Take what Orthanc tells; for ``RegisterOnChangeCallback``."""
        kinds = self._orthanc.ChangeType
        if change == kinds.ORTHANC_STARTED:
            self.start()
        elif change == kinds.ORTHANC_STOPPED:
            self.stop()
        elif self.handover is not None and change == kinds.STABLE_SERIES:
            self.handover.take(resource)
            self._awake.set()
        elif self.handover is not None and change in (kinds.JOB_SUCCESS, kinds.JOB_FAILURE):
            self.handover.note_job_end(resource, ended_well=change == kinds.JOB_SUCCESS)
            self._awake.set()

    def prepare(self) -> None:
        """Find out since when series count; Orthanc's database has to be open."""
        since = self._settings.since_seconds(self.archive.first_start(self._clock()))
        log = self._orthanc.LogWarning
        self.handover = Handover(
            self.archive, self.node, self._settings, since, self._clock, lambda line: log(f"dicom-node: {line}")
        )
        self.reconciliation = Reconciliation(self.archive, self.handover, self._settings, self._clock)

    def start(self) -> None:
        """Begin to work."""
        self.prepare()
        # not a daemon: Python waits for it before it is finalised, should Orthanc not say that it stops
        self._thread = threading.Thread(target=self._run, name="dicom-node")
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it was doing is done again after the next start."""
        self._stop.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def ask(self, orthanc_id: str) -> None:
        """Have a series run again; see :meth:`Handover.ask`."""
        if self.handover is not None:
            self.handover.ask(orthanc_id)
            self._awake.set()

    def turn(self) -> float:
        """Do what there is to do next; returns after how many seconds there may be more."""
        assert self.handover is not None
        assert self.reconciliation is not None
        return min(self.handover.work(), self.reconciliation.work())

    def _run(self) -> None:
        if hasattr(self._orthanc, "SetCurrentThreadName"):
            self._orthanc.SetCurrentThreadName("dicom-node")  # what later releases write before each line of their log
        while not self._stop.is_set():
            try:
                pause = self.turn()
            except Exception:  # noqa: BLE001 - whatever Orthanc raises, the next turn may do better
                self._orthanc.LogError(f"dicom-node: {traceback.format_exc()}")
                pause = AFTER_ERROR_SECONDS
            self._awake.wait(pause)
            self._awake.clear()


def install(orthanc: OrthancModule, also: Callable[[int, int, str], None] | None = None) -> Bridge:
    """Connect a bridge with Orthanc; called once, by the script that Orthanc loads.

    Args:
        orthanc: The module ``orthanc``.
        also: A site's own on-change callback: Orthanc takes one for all of its Python.

    Raises:
        SettingsError: The section ``DicomNode`` of Orthanc's configuration is wrong.
    """
    bridge = Bridge(orthanc, read_settings(json.loads(orthanc.GetConfiguration())))

    def on_change(change: int, level: int, resource: str) -> None:
        bridge.on_change(change, level, resource)
        if also is not None:
            also(change, level, resource)

    routes = Routes(bridge)
    answers = (routes.overview, routes.series, routes.rerun)
    _KEPT.extend((on_change, *answers))
    orthanc.RegisterOnChangeCallback(on_change)
    for pattern, answer in zip(PATTERNS, answers, strict=True):
        orthanc.RegisterRestCallback(pattern, answer)
    if hasattr(orthanc, "ExtendOrthancExplorer"):
        orthanc.ExtendOrthancExplorer(EXPLORER.read_text(encoding="utf-8"))
    return bridge
