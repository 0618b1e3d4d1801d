"""Whether the node lives, and whether it can take and process images, each with the reasons why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import NodeError, SettingsError
from dicom_node.ledger.counters import Counters
from dicom_node.monitoring.connection import PATIENCE_SECONDS, impatient_engine
from dicom_node.monitoring.processes import owner_of, roles_of
from dicom_node.process import is_bound
from dicom_node.settings import Settings
from dicom_node.tls import EXPIRES_SOON, expiry_of, own_certificates

STALE_SECONDS = 60.0
"""A worker that has not noted for this long that it lives does not."""


@dataclass(frozen=True)
class Verdict:
    """An answer: good where there are no reasons against it.

    Attributes:
        reasons: What speaks against it.
        warnings: What somebody should see to, though it is good.
    """

    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


class Readiness:
    """Answers ``/health`` and ``/ready``.

    Args:
        settings: Of the node that is asked about.
        clock: Seconds since the epoch.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._asking = ThreadPoolExecutor(max_workers=4, thread_name_prefix="readiness")

    def health(self) -> Verdict:
        """Whether every process lives, with certificates that expire as warnings; asks neither database nor spool."""
        home = self._settings.node.home
        missing = [role for role in roles_of(self._settings) if owner_of(home, role) is None]
        warnings = tuple(self._warnings_of_certificates())
        return Verdict(tuple(f"the {role} does not run" for role in missing), warnings)

    def readiness(self) -> Verdict:
        """Whether images can be taken and processed; never takes much longer than ``PATIENCE_SECONDS``."""
        asked = [self._asking.submit(question) for question in (self._ask_database, self._ask_disk, self._ask_port)]
        reasons: list[str] = []
        for subject, answer in zip(("database", "disk", "port"), asked, strict=True):
            try:
                reasons += answer.result(timeout=2 * PATIENCE_SECONDS)
            except TooSlow:
                answer.cancel()
                reasons.append(f"the {subject} did not answer within {2 * PATIENCE_SECONDS} s")
        return Verdict(tuple(reasons))

    def close(self) -> None:
        """Ask nothing any more."""
        self._asking.shutdown(wait=False, cancel_futures=True)

    def _warnings_of_certificates(self) -> Iterator[str]:
        now = datetime.fromtimestamp(self._clock(), UTC)
        for path in own_certificates(self._settings):
            try:
                left = expiry_of(path) - now
            except SettingsError as error:
                yield error.message
                continue
            if left < timedelta():
                yield f"certificate {path} has expired: peers refuse it until it is renewed"
            elif left < EXPIRES_SOON:
                yield f"certificate {path} expires in {left.days} days"

    def _ask_database(self) -> list[str]:
        try:
            counters = Counters(impatient_engine(self._settings))
            counters.beat("monitor", self._clock())
            last = counters.last_beats().get("worker")
        except NodeError as error:
            return [error.message]
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            return [f"the database cannot be written: {type(cause).__name__}: {str(cause).splitlines()[0][:120]}"]
        if "worker" not in roles_of(self._settings):  # images can be taken; they wait for a worker of another machine
            return []
        if last is None or self._clock() - last > STALE_SECONDS:
            since = "it started" if last is None else f"{self._clock() - last:.0f} s"
            return [f"no worker has noted for {since} that it lives"] if last is not None else ["no worker has started"]
        return []

    def _ask_disk(self) -> list[str]:
        limit = self._settings.limits.free_bytes
        try:
            free = shutil.disk_usage(self._settings.node.home).free
        except OSError as error:
            return [f"the home cannot be read: {error.strerror}"]
        return [f"the disk has {free} bytes free, [limits] free_bytes keeps {limit}"] if free < limit else []

    def _ask_port(self) -> list[str]:
        if "listener" not in roles_of(self._settings):
            return []
        closed = [port for port in self._settings.dicom_ports if not is_bound(port)]
        reasons = [f"nobody listens on DICOM port {port}" for port in closed]
        web = self._settings.dicomweb.port
        if web is not None and not is_bound(web):
            reasons.append(f"nobody listens on DICOMweb port {web}")
        return reasons
