"""Kills the node's processes at every transition of a case, on SQLite and on PostgreSQL, and prints what came of it.

Four associations send meanwhile. Judged from outside: every acknowledged image is on record as it was sent and in one
case that counts, every result exists once at both destinations, and nobody has to lend a hand. The network is replaced
by a stand-in that answers at once; everything else is the node's own.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests import postgres
from tests.crash.matrix import CrashRun, Outcome, table

BACK_ENDS = ("sqlite", "postgresql")


def main() -> int:
    """Run the matrix; 0 when nothing was lost, duplicated or stuck."""
    parser = argparse.ArgumentParser(prog="deploy/bench --crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=104, help="on each back end (default %(default)s)")
    parser.add_argument("--at-once", type=int, default=2, help="kinds of process killed at one transition")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--databases", nargs="+", choices=BACK_ENDS, default=BACK_ENDS)
    parser.add_argument("--keep", type=Path, help="keep homes and logs in this folder")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    clean = True
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.databases:
            folder = (options.keep or Path(temporary)) / name
            folder.mkdir(parents=True)
            outcome = _run(name, folder, options)
            print(table(outcome), flush=True)
            clean = clean and outcome.judgement is not None and outcome.judgement.is_clean
    return 0 if clean else 1


def _run(name: str, folder: Path, options: argparse.Namespace) -> Outcome:
    def run(database: str | None) -> Outcome:
        return CrashRun(folder, database, options.seed).run(options.kills, at_once=options.at_once, report=_progress)

    if name == "sqlite":
        return run(None)
    with postgres.cluster() as cluster:
        return run(cluster.new_database())


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
