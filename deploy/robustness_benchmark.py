"""Reads damaged files and sends damaged PDUs, and prints what became of them; the same seed gives the same inputs."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.robustness.listening import Watch, attack
from tests.robustness.reading import Tally, read_damaged
from tests.robustness.tiny import Looked, Received, receive_tiny

SHARES = {"identity": 0.75, "files": 0.15, "codecs": 0.005, "sameness": 0.035, "listener": 0.06}
WHAT = {
    "identity": "UIDs of a data set",
    "files": "series of files",
    "codecs": "compressed files",
    "sameness": "an image that came twice",
    "listener": "connections to the listener",
}
MOST_GROWTH = 64 * 2**20
MEBIBYTE = 2**20


def main() -> int:
    """Run it; 0 when nothing crashed, nothing hung, and the listener came back to its threads and memory."""
    parser = argparse.ArgumentParser(prog="deploy/bench --robustness", description=__doc__)
    parser.add_argument("--inputs", type=int, default=50_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tiny", type=int, metavar="IMAGES", help="send so many images of 2 x 2 pixels instead")
    parser.add_argument("--series", type=int, default=4, help="how many series the tiny images are spread over")
    options = parser.parse_args()
    if options.tiny:
        return _tiny(*receive_tiny(options.tiny, options.series))
    counts = {kind: max(1, round(options.inputs * share)) for kind, share in SHARES.items()}
    with ThreadPoolExecutor(max_workers=1) as beside:
        attacked = beside.submit(attack, counts.pop("listener"), options.seed, _progress)
        read = [read_damaged(kind, count, options.seed, _progress) for kind, count in counts.items()]
        watch = attacked.result()
    tallies = [*read, watch.tally]
    print(_table(tallies))
    print(_listener(watch))
    for tally in tallies:
        print(*tally.findings, sep="\n", end="\n" if tally.findings else "")
    grown = watch.resident[1] - watch.resident[0]
    is_at_rest = watch.threads[1] <= watch.threads[0] and grown <= MOST_GROWTH
    return 0 if is_at_rest and all(tally.is_clean for tally in tallies) else 1


def _tiny(received: Received, looked: Looked) -> int:
    """Print what tiny images cost; 0 when each was taken and the listener kept its memory."""
    before, peak = (size // MEBIBYTE for size in received.resident)
    rates = ", ".join(f"{rate:.0f}" for rate in received.rates)
    print(
        f"{received.images} images in {received.series} series; {received.refused} refused; a second, by tenth: {rates}"
    )
    print(f"listener: resident {before} MiB before, {peak} MiB at its peak")
    before, peak = (size // MEBIBYTE for size in looked.resident)
    print(
        f"worker: opens {looked.states} in {looked.opening_seconds:.1f} s, then looks in {looked.idle_seconds:.3f} s; "
        f"resident {before} MiB before, {peak} MiB at its peak; {'; '.join(looked.reasons)}"
    )
    return 0 if not received.refused and received.resident[1] - received.resident[0] <= MOST_GROWTH else 1


def _table(tallies: list[Tally]) -> str:
    rows = [
        "| what was damaged | inputs | taken | refused | crashes | hangs | peak MiB | decoder MiB |",
        "|" + " --- |" * 8,
    ]
    for tally in tallies:
        counts = [tally.counts[result] for result in ("taken", "refused", "crash", "hang")]
        memory = [tally.peak_bytes // MEBIBYTE, tally.child_bytes // MEBIBYTE]
        rows.append("| " + " | ".join(map(str, [WHAT[tally.kind], sum(counts), *counts, *memory])) + " |")
    return "\n".join(rows)


def _listener(watch: Watch) -> str:
    before, after = (size // MEBIBYTE for size in watch.resident)
    return (
        f"listener: {watch.honest} honest peers served in between; threads {watch.threads[0]} before and "
        f"{watch.threads[1]} after; resident {before} MiB before and {after} MiB after"
    )


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
