"""Sends many small series over eight associations while a destination comes and goes and the worker is killed."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests import postgres
from tests.crash.soak import soak

MOST_GROWTH = 0.10


def main() -> int:
    """Run it; 0 when all was delivered once and the listener's memory stayed flat."""
    parser = argparse.ArgumentParser(prog="deploy/bench --soak", description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--postgresql", action="store_true", help="on PostgreSQL instead of SQLite")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    with tempfile.TemporaryDirectory() as folder:
        if options.postgresql:
            with postgres.cluster() as cluster:
                day = soak(Path(folder), cluster.new_database(), options.series, _progress)
        else:
            day = soak(Path(folder), None, options.series, _progress)
    print(day)
    clean = day.judgement is not None and day.judgement.is_clean
    return 0 if clean and day.growth <= MOST_GROWTH else 1


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
