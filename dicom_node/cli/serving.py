"""``serve``, ``listen``, ``work``, ``archive``: the node's processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event

from dicom_node.errors import NodeError
from dicom_node.logs import configure_logs, get_logger
from dicom_node.process import PRIVATE_UMASK, die_with_parent, sole_owner, stop_on_signals
from dicom_node.settings import Settings


def run_serve(settings: Settings, config: Path | None) -> None:
    """Run listener, worker and archive until SIGTERM or SIGINT.

    Raises:
        SettingsError: A destination's profile, a file for TLS or a token cannot be used; nothing was started.
    """
    from dicom_node.profiles import require_profiles  # noqa: PLC0415 - only this command needs it
    from dicom_node.receive.dicomweb.callers import require_tokens  # noqa: PLC0415
    from dicom_node.serve import supervise  # noqa: PLC0415
    from dicom_node.tls import require_tls  # noqa: PLC0415

    require_profiles(settings)
    require_tls(settings)
    require_tokens(settings)
    with _process(settings, "node", supervisor=None) as stop:
        supervise(settings, config, stop)


def run_listener(settings: Settings, *, supervisor: int | None) -> None:
    """Run the listener until SIGTERM or SIGINT."""
    from dicom_node.ledger.database import open_sound_database  # noqa: PLC0415
    from dicom_node.ledger.home import require_same_home  # noqa: PLC0415
    from dicom_node.ledger.intake import Intake  # noqa: PLC0415
    from dicom_node.receive.listener import Listener  # noqa: PLC0415

    with _process(settings, None, supervisor=supervisor) as stop:  # the listener locks its home itself
        database = open_sound_database(settings.database_url)
        if settings.is_shared:
            require_same_home(database, settings.node.home)
        listener = Listener(settings, Intake(database))
        listener.start()
        stop.wait()
        listener.stop()


def run_worker(settings: Settings, *, supervisor: int | None) -> None:
    """Run the worker until SIGTERM or SIGINT."""
    from dicom_node.worker.worker import Worker  # noqa: PLC0415

    # several machines share a home on PostgreSQL: there the database tells their workers apart, not a lock on a file
    with _process(settings, None if settings.is_shared else "worker", supervisor=supervisor) as stop:
        try:
            Worker(settings).run(stop)
        except NodeError:
            raise  # refused to start: nothing runs yet
        except Exception:  # noqa: BLE001 - threads may still run, so the process ends here whatever was raised
            get_logger("worker").exception("the worker cannot go on")
            os._exit(1)
        os._exit(0)  # a step may still be running: it is repeated at the next start, like after any kill


def run_archive(settings: Settings, *, supervisor: int | None) -> None:
    """Run the embedded archive until SIGTERM or SIGINT."""
    from dicom_node.archive import Archive  # noqa: PLC0415

    with _process(settings, "archive", supervisor=supervisor) as stop:
        archive = Archive(settings)
        archive.start()
        stop.wait()
        archive.stop()


def run_monitor(settings: Settings, *, supervisor: int | None) -> None:
    """Serve metrics, health and readiness until SIGTERM or SIGINT.

    Raises:
        SettingsError: ``[monitoring] port`` is not set, or cannot be bound.
    """
    from dicom_node.monitoring.server import Monitor  # noqa: PLC0415

    with _process(settings, None, supervisor=supervisor) as stop:
        monitor = Monitor(settings)
        monitor.start()
        stop.wait()
        monitor.stop()


@contextmanager
def _process(settings: Settings, role: str | None, *, supervisor: int | None) -> Iterator[Event]:
    os.umask(PRIVATE_UMASK)
    configure_logs(json=not sys.stderr.isatty())
    if supervisor is not None:
        die_with_parent(supervisor)
    with stop_on_signals() as stop, sole_owner(settings.node.home, role) if role else nullcontext():
        yield stop
