"""Two destinations, each with a profile of its own: each gets what it asked for, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.peers import running, tool
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.running_node import RunningNode, write_config

pytestmark = pytest.mark.peer

PROFILES = """
[profile.tps]
results = ["RTSTRUCT"]
structures = ["Liver", "Spleen"]
names = { Liver = "Leber" }
contours = "smooth"
contour_tolerance_mm = 0.1

[profile.maps]
results = ["SEG", "SC"]
seg = "LABELMAP"
"""


def test_every_destination_gets_what_its_profile_asks_for(tmp_path: Path) -> None:
    spec = PhantomSpec(
        modality="CT", anatomy="torso", slices=40, rows=64, columns=80,
        row_spacing=5.0, column_spacing=5.0, slice_spacing=10.0,
    )  # fmt: skip
    files = write(spec, tmp_path / "series")
    ports = {"tps": free_port(), "maps": free_port()}
    tables = [
        f'[[destination]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\nport = {port}\n'
        f'profile = "{name}"\nretry_seconds = [1]\n'
        for name, port in ports.items()
    ]
    tps, maps = tmp_path / "tps", tmp_path / "maps"
    for folder in (tps, maps):
        folder.mkdir()
    storescp = tool("storescp")
    with (
        running([storescp, "-aet", "TPS", "-od", str(tps), str(ports["tps"])], ports["tps"], folder=tmp_path),
        running([storescp, "-aet", "MAPS", "-od", str(maps), str(ports["maps"])], ports["maps"], folder=tmp_path),
        RunningNode(write_config(tmp_path / "node", extra=PROFILES + "".join(tables))) as node,
    ):
        node.send(files)
        series = str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
        (case,) = node.wait_for_cases([series], seconds=240)
    assert case["state"] == "done"
    (rtstruct,) = map(dcmread, tps.iterdir())
    assert [roi.ROIName for roi in rtstruct.StructureSetROISequence] == ["Leber", "Spleen", "External"]
    edges = rtstruct.ROIContourSequence[0].ContourSequence[0].ContourData[0::3]
    assert any(abs(float(x) / 2.5 - round(float(x) / 2.5)) > 0.01 for x in edges)  # pixels of 5 mm: off their edges
    key_image, seg = sorted(map(dcmread, maps.iterdir()), key=lambda dataset: str(dataset.Modality))
    assert (key_image.Modality, key_image.SOPClassUID) == ("OT", "1.2.840.10008.5.1.4.1.1.7")
    # dcmtk does not know label maps: the binary segmentation went instead
    assert seg.SegmentationType == "BINARY"
    kept = tmp_path / "node"
    assert len(list(kept.rglob("segmentation.npz"))) == 1
    assert not list(kept.rglob("labels.npy"))
