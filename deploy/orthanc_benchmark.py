"""Sends a CT and an MR to an Orthanc with the plugin, and prints when their results were in it.

Once with the shipped network, then with a stand-in that answers at once and kill -9 of Orthanc and of the node at five
moments each. Nobody lends a hand; the results have to be there once each.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from deploy.demonstration import phantom
from tests.orthanc_plugin.matrix import OF_ORTHANC, OF_THE_NODE, Row, one_row, table
from tests.orthanc_plugin.server import STABLE_SECONDS
from tests.orthanc_plugin.site import Site, scan, wait_for

NETWORK_SECONDS = 3600.0


def main() -> int:
    """Run it; 0 when everything came back once."""
    parser = argparse.ArgumentParser(prog="deploy/bench --orthanc", description=__doc__)
    parser.add_argument("--only", choices=("network", "kills"), help="one of the two parts")
    parser.add_argument("--threads", type=int, help="CPU threads of the network; all there are where absent")
    parser.add_argument("--keep", type=Path, help="keep storage, homes and logs in this folder")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "node.log").open("wb") as messages:
            if options.only != "kills":
                limits = f"inference_threads = {options.threads}" if options.threads else ""
                site = Site(folder / "network", module="dicom_node", messages=messages, limits=limits)
                rows += [_with_the_network(site, folder / "scan")]
            if options.only != "network":
                rows += _kills(Site(folder / "kills", messages=messages), folder)
    print(f"StableAge {STABLE_SECONDS} s, quiet_seconds 1 s\n{table(rows)}")
    return 1 if any(row.problems for row in rows) else 0


def _with_the_network(site: Site, folder: Path) -> Row:
    sent = scan(folder, [phantom("CT"), phantom("MR")])
    with site.running():
        if site.orthanc.send(sent.folder) != 0:
            raise RuntimeError("Orthanc did not take the scan")
        began = time.monotonic()
        wait_for(lambda: site.is_complete(sent), "results of the network", NETWORK_SECONDS)
        return Row("nothing", "the shipped network", time.monotonic() - began, tuple(site.surplus(sent)))


def _kills(site: Site, folder: Path) -> list[Row]:
    rows: list[Row] = []
    moments = [("Orthanc", moment) for moment in OF_ORTHANC] + [("the node", moment) for moment in OF_THE_NODE]
    with site.running():
        for seed, (killed, moment) in enumerate(moments, start=1):
            rows.append(one_row(site, killed, moment, folder / f"scan-{seed}", seed))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
