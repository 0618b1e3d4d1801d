"""``dicom-node tidy``, ``backup`` and ``restore``: what the node keeps, and how it gets it back."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dicom_node.cli.printing import print_json, print_table
from dicom_node.ledger.audit_events import audited
from dicom_node.ledger.database import open_existing_database
from dicom_node.logs import configure_logs
from dicom_node.settings import Settings
from dicom_node.tidying import Tidying


def run_tidy(settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    """Make one pass of retention, beside a running node or without one, and print what went or would go.

    Raises:
        UsageError: No node has run with this home yet.
    """
    configure_logs(json=not sys.stderr.isatty())
    tidying = Tidying(audited(open_existing_database(settings.database_url), settings), settings)
    tidied = tidying.preview(time.time()) if dry_run else tidying.run(time.time())
    if as_json:
        print_json({**vars(tidied), "dry_run": dry_run})
        return
    rows = [
        ("series", len(tidied.series)),
        ("images", tidied.images),
        ("bytes", tidied.size),
        ("results of cases", len(tidied.results)),
        ("records of cases", tidied.records),
    ]
    print_table("would be removed" if dry_run else "removed", ("what", "how many"), rows)


def run_backup(settings: Settings, target: Path, *, images: bool, as_json: bool) -> None:
    """Copy the record, and the images where they are asked for.

    Raises:
        UsageError: No node has run with this home yet, or there is something at the target.
        SettingsError: The database is PostgreSQL.
        InputRefused: An image is not what is on record.
    """
    from dicom_node.backup import back_up  # noqa: PLC0415 - only this command needs it

    configure_logs(json=not sys.stderr.isatty())
    _print_facts("backup", back_up(settings, target, time.time(), images=images), as_json=as_json)


def run_restore(settings: Settings, source: Path | None, *, as_json: bool) -> None:
    """Bring the record back, and make it agree with the images that are there.

    Raises:
        UsageError: A node runs with this home, or the source is no backup of it.
        InputRefused: The backup is damaged.
    """
    from dicom_node.backup import restore  # noqa: PLC0415 - only this command needs it

    configure_logs(json=not sys.stderr.isatty())
    _print_facts("restore", restore(settings, source, time.time()), as_json=as_json)


def _print_facts(title: str, facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print_table(title, ("", ""), list(facts.items()))
