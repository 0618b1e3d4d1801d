"""``dicom-node tidy``: what the node keeps, and for how long."""

from __future__ import annotations

import sys
import time

from dicom_node.cli.printing import print_json, print_table
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
    tidying = Tidying(open_existing_database(settings.database_url), settings)
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
