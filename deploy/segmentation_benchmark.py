"""Segmenting one 300-slice CT: the shared network at ``fast`` and ``full`` beside a network like nnU-Net's at 3 mm.

The peer is MONAI's DynUNet after the plan of TotalSegmentator's 3 mm models (32 to 320 filters; patches of 128³ and
half overlap are nnU-Net's usual ones), with random weights: its speed and memory are measured, not its quality. Each
contestant is a process of its own, resampling to its grid and back included; everything runs in the precision that this
node chooses.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet

from dicom_node.cli.printing import print_table
from dicom_node.imaging.geometry import Geometry
from dicom_node.imaging.volume import Volume
from dicom_node.segment.segmenter import Segmenter, network_image
from models.card import FAST, load_card
from models.inference import choose_precision
from models.standardisation import standardise

PEER = "like nnU-Net, 3 mm"
CONTESTANTS = ("torso" + FAST, "torso", PEER)
PATCH = (128, 128, 128)
CLASSES = 26


def main() -> int:
    """Run the bench; 0 when every contestant answered."""
    parser = argparse.ArgumentParser(prog="deploy/bench --segmentation", description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=3, help="of this node's; the peer runs once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--alone", action="store_true", help="without the peer")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        sys.stdout.write(json.dumps(_measure(options)))
        return 0
    rows = []
    results = {name: _in_a_process(name) for name in CONTESTANTS if name != PEER or not options.alone}
    base = results[CONTESTANTS[0]]
    for name, found in results.items():
        rows.append(
            (
                name,
                f"{found['seconds']:.2f}",
                f"{found['network_seconds']:.2f}",
                f"{100 * (1 - found['network_seconds'] / found['seconds']):.0f} %",
                f"{found['seconds'] / base['seconds']:.1f}",
                f"{found['peak_mib']:.0f}",
            )
        )
    columns = ("network", "seconds", "of it network", "not network", "times fast", "peak MiB")
    title = f"CT {options.slices} x {options.size} x {options.size}, {options.threads} threads, {options.device}"
    print_table(f"{title}, {choose_precision(options.device)}", columns, rows)
    return 0


def _in_a_process(name: str) -> dict[str, float]:
    command = [sys.executable, "-m", "deploy.segmentation_benchmark", *sys.argv[1:], "--contestant", name]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(finished.stdout)
    return found


def _measure(options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    volume = _trunk(options.slices, options.size)
    if options.contestant == PEER:
        seconds, network_seconds = _time_peer(volume, options.device)
    else:
        seconds, network_seconds = _time_ours(volume, options)
    return {"seconds": seconds, "network_seconds": network_seconds, "peak_mib": _peak_mib()}


def _time_ours(volume: Volume, options: argparse.Namespace) -> tuple[float, float]:
    segmenter = Segmenter(options.device)
    segmenter.segment(volume, options.contestant)  # loads
    runs = []
    for _ in range(options.runs):
        start = time.perf_counter()
        found = segmenter.segment(volume, options.contestant)
        runs.append((time.perf_counter() - start, found.seconds["network"]))
    return sorted(runs)[len(runs) // 2]


def _time_peer(volume: Volume, device: str) -> tuple[float, float]:
    """Seconds in all and in the network; resampling in and out is that of this node, so that networks are compared."""
    from dicom_node.segment.resampling import to_source_with_certainty  # noqa: PLC0415 - the peer's process alone

    filters = (32, 64, 128, 256, 320, 320)
    network = DynUNet(
        3, 1, CLASSES, (3,) * 6, (1, 2, 2, 2, 2, 2), (2,) * 5, filters=filters, norm_name="instance"
    ).to(device).eval()  # fmt: skip
    infer = SlidingWindowInferer(PATCH, sw_batch_size=1, overlap=0.5, mode="gaussian")
    card = replace(load_card("torso"), spacing_mm=(3.0, 3.0, 3.0))
    with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16):
        network(torch.zeros(1, 1, *PATCH, device=device))  # warm, as ours is
    start = time.perf_counter()
    image, grid = network_image(volume, card)
    ready = standardise(image, "CT")[None, None].to(device)
    begun = time.perf_counter()
    precision = choose_precision(torch.device(device).type)
    with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
        scores = infer(ready, network)[0].float().cpu()
    network_seconds = time.perf_counter() - begun
    to_source_with_certainty(scores, grid, volume.geometry)
    return time.perf_counter() - start, network_seconds


def _trunk(slices: int, size: int) -> Volume:
    """A cylinder of soft tissue with organs of noise in air, 400 mm long and 350 wide."""
    rows, columns = np.ogrid[-1.1 : 1.1 : size * 1j, -1.1 : 1.1 : size * 1j]
    body = (rows / 0.7) ** 2 + columns**2 <= 1
    random = np.random.default_rng(4)
    voxels = np.full((slices, size, size), -1000, np.int16)
    for k in range(slices):
        voxels[k][body] = random.normal(40, 30, int(body.sum()))
    spacing = 400.0 / size
    origins = np.tile(np.array([-200.0, -200.0, 0.0]), (slices, 1))
    origins[:, 2] = np.arange(slices) * 400.0 / slices
    geometry = Geometry(
        origins=origins, row_direction=np.array([1.0, 0, 0]), column_direction=np.array([0, 1.0, 0]),
        row_spacing=spacing, column_spacing=spacing, rows=size, columns=size, slice_thickness=400.0 / slices,
    )  # fmt: skip
    return Volume(
        voxels=voxels, geometry=geometry, modality="CT", frame_of_reference_uid="1.2.3", sources=(), header=None
    )


def _peak_mib() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
