"""Starts the node, sends a CT and an MR phantom series through it as a scanner would, prints what came back."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread

from dicom_node.errors import NodeError
from dicom_node.settings import Settings
from tests.phantoms import PhantomSpec, write
from tests.running_node import RunningNode

DONE_SECONDS = 900.0


def main() -> int:
    """Run the demonstration; 0 when SEG and RTSTRUCT of both series came back."""
    parser = argparse.ArgumentParser(prog="deploy/run", description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit when the results are back instead of serving on")
    once = parser.parse_args().once
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with RunningNode(config=None) as node:
        print(f"listening as {node.settings.node.ae_title} on {node.settings.node.bind}:{node.settings.node.port}")
        with tempfile.TemporaryDirectory() as folder:
            series = [_send_phantom(node, modality, Path(folder)) for modality in ("CT", "MR")]
        complete = _report(node.settings, node.wait_for_cases(series, seconds=DONE_SECONDS))
        if not once:
            print("\nserving on; Ctrl-C ends")
            node.process.wait()
    return 0 if complete else 1


def phantom(modality: str) -> PhantomSpec:
    """The trunk of the demonstration: 80 slices of 5 mm."""
    return PhantomSpec(
        modality=modality, anatomy="torso", slices=80, rows=128, columns=160,
        row_spacing=2.5, column_spacing=2.5, slice_spacing=5.0, series_description=f"{modality} torso phantom",
    )  # fmt: skip


def _send_phantom(node: RunningNode, modality: str, folder: Path) -> str:
    files = write(phantom(modality), folder / modality)
    started = time.monotonic()
    stored = sum(outcome.ok for outcome in node.send(files))
    print(f"{modality}: {stored} of {len(files)} images acknowledged in {time.monotonic() - started:.1f} s")
    return str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)


def _report(settings: Settings, cases: Sequence[dict[str, Any]]) -> bool:
    complete = True
    for case in cases:
        print(f"\ncase {case['case_id'][:12]}: {case['state']}" + (f" ({case['reason']})" if case["reason"] else ""))
        came_back = _came_back(settings, case)
        for path in came_back:
            print(f"  {_describe(path)}\n    {path}")
        complete &= case["state"] == "done" and len(came_back) == 2
    print("\nSEG and RTSTRUCT of both series came back" if complete else "\nnot everything came back")
    return complete


def _came_back(settings: Settings, case: dict[str, Any]) -> list[Path]:
    stored = settings.node.home / "archive" / case["study_instance_uid"]
    wanted = [result["sop_instance_uid"] for result in case["outputs"].get("results", [])]
    return [path for uid in wanted for path in stored.glob(f"*/{uid}.dcm")]


def _describe(path: Path) -> str:
    dataset = dcmread(path, stop_before_pixels=True)
    if dataset.Modality == "SEG":
        names = [str(item.SegmentLabel) for item in dataset.SegmentSequence]
    else:
        names = [str(item.ROIName) for item in dataset.StructureSetROISequence]
    return f"{dataset.Modality}: {len(names)} structures: {', '.join(names)}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped")
    except (NodeError, RuntimeError, TimeoutError) as error:
        sys.exit(f"deploy/run: {error}")
