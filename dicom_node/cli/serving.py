"""``serve``, ``listen``, ``work``, ``archive``: the node's processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event

from dicom_node.errors import NodeError, UsageError
from dicom_node.logs import configure_logs, get_logger
from dicom_node.process import PRIVATE_UMASK, die_with_parent, role_owner, stop_on_signals
from dicom_node.settings import Settings


def run_serve(settings: Settings, config: Path | None, roles: Sequence[str]) -> None:
    """Run listener, worker and archive, or some of them, until SIGTERM or SIGINT.

    Args:
        settings: The node's settings.
        config: The file they came from.
        roles: Which to run; all where empty. The endpoint of ``[monitoring]`` runs beside them and watches these.

    Raises:
        SettingsError: A destination's profile, a file for TLS or a token cannot be used; nothing was started.
        UsageError: There is no such role.
    """
    from dicom_node.profiles import require_profiles  # noqa: PLC0415 - only this command needs it
    from dicom_node.receive.dicomweb.callers import require_tokens  # noqa: PLC0415
    from dicom_node.serve import supervise  # noqa: PLC0415
    from dicom_node.tls import require_tls  # noqa: PLC0415

    require_profiles(settings)
    require_tls(settings)
    require_tokens(settings)
    watched = _watching(settings, roles)
    with _process(settings, None if roles else "node", supervisor=None) as stop:  # the others may run elsewhere
        supervise(watched, config, stop, roles=roles)


def run_listener(settings: Settings, *, supervisor: int | None) -> None:
    """Run the listener until SIGTERM or SIGINT."""
    from dicom_node.ledger.audit_events import audited  # noqa: PLC0415
    from dicom_node.ledger.database import open_sound_database  # noqa: PLC0415
    from dicom_node.ledger.home import require_same_home  # noqa: PLC0415
    from dicom_node.ledger.intake import Intake  # noqa: PLC0415
    from dicom_node.receive.listener import Listener  # noqa: PLC0415

    with _process(settings, None, supervisor=supervisor) as stop:  # the listener locks its home itself
        database = audited(open_sound_database(settings.database_url), settings)
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
    with _process(settings, "worker", supervisor=supervisor, shared=settings.is_shared) as stop:
        worker = Worker(settings)
        try:
            worker.run(stop)
        except Exception as error:  # threads may still run: then the process ends here whatever was raised
            if isinstance(error, NodeError) and not worker.has_begun:
                raise  # refused to start
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


def run_monitor(settings: Settings, roles: Sequence[str], *, supervisor: int | None) -> None:
    """Serve metrics, health and readiness until SIGTERM or SIGINT.

    Args:
        settings: The node's settings.
        roles: Which processes have to run on this machine; as ``[monitoring] roles`` says where empty.
        supervisor: Process id of the supervisor that this one must not outlive.

    Raises:
        SettingsError: ``[monitoring] port`` is not set, or cannot be bound.
        UsageError: There is no such role.
    """
    from dicom_node.monitoring.server import Monitor  # noqa: PLC0415

    with _process(settings, None, supervisor=supervisor) as stop:
        monitor = Monitor(_watching(settings, roles))
        monitor.start()
        stop.wait()
        monitor.stop()


def run_audit(settings: Settings, *, supervisor: int | None) -> None:
    """Write the audit trail until SIGTERM or SIGINT.

    Raises:
        SettingsError: There is no ``[audit]``, or a file that it names for TLS cannot be used.
    """
    from dicom_node.audit.trail import Trail  # noqa: PLC0415
    from dicom_node.ledger.audit_events import audited  # noqa: PLC0415
    from dicom_node.ledger.database import open_sound_database  # noqa: PLC0415

    with _process(settings, "audit", supervisor=supervisor) as stop:
        Trail(audited(open_sound_database(settings.database_url), settings), settings).run(stop)


def _watching(settings: Settings, roles: Sequence[str]) -> Settings:
    """The settings with ``[monitoring] roles`` replaced by these, if there are any."""
    from dicom_node.serve import COMMANDS  # noqa: PLC0415

    for role in roles:
        if role not in COMMANDS:
            raise UsageError(f'no role "{role}": the roles are {", ".join(COMMANDS)}')
        if role == "archive" and not settings.archive.enabled:
            raise UsageError("no archive runs here: [archive] enabled is false")
        if role == "audit" and settings.audit is None:
            raise UsageError("there is no audit trail: the settings have no table [audit]")
    if not roles:
        return settings
    monitoring = settings.monitoring.model_copy(update={"roles": tuple(roles)})
    return settings.model_copy(update={"monitoring": monitoring})


@contextmanager
def _process(settings: Settings, role: str | None, *, supervisor: int | None, shared: bool = False) -> Iterator[Event]:
    os.umask(PRIVATE_UMASK)
    configure_logs(json=not sys.stderr.isatty())
    if supervisor is not None:
        die_with_parent(supervisor)
    with stop_on_signals() as stop, role_owner(settings.node.home, role, shared=shared) if role else nullcontext():
        yield stop
