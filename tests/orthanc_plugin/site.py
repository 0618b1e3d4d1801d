"""A site: an Orthanc with the plugin, a node beside it, and what a scanner sends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydicom import dcmread

from dicom_node.settings import DestinationTable, load_settings
from tests.orthanc_plugin.server import TOKEN, PluginServer
from tests.peers import destination
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.running_node import RunningNode, write_config

QUICK_NODE = "tests.quick.node"
PATIENT_SECONDS = 600.0
"""On a machine that does much else; alone, a scan takes half a minute."""
COMPLETE = ["CT", "MR", "RTSTRUCT", "RTSTRUCT", "SEG", "SEG"]


def small(modality: str, seed: int = 0) -> PhantomSpec:
    """A torso of forty small slices; CT and MR of one seed belong to one study."""
    return PhantomSpec(
        modality=modality, anatomy="torso", slices=40, rows=64, columns=80,
        row_spacing=5.0, column_spacing=5.0, slice_spacing=10.0, seed=seed, patient_id=f"P{seed}",
    )  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """A CT and an MR series on the disk of a scanner."""

    folder: Path
    series: tuple[str, str]
    images: int


def scan(folder: Path, specs: Sequence[PhantomSpec]) -> Scan:
    """Write the series of a scan."""
    files = [write(spec, folder / spec.modality) for spec in specs]
    first, second = (str(dcmread(each[0], stop_before_pixels=True).SeriesInstanceUID) for each in files)
    return Scan(folder, (first, second), sum(map(len, files)))


class Site:
    """Orthanc and the node, started and stopped apart; nothing of them is known but what they answer.

    Args:
        folder: For everything.
        module: The node, or the one with a stand-in for its network.
        messages: Where the node's log goes.
        others: Further destinations, which get the same results.
        limits: The node's ``[limits]``, as TOML.
        server: Changes to the Orthanc.
    """

    def __init__(
        self,
        folder: Path,
        *,
        module: str = QUICK_NODE,
        messages: IO[bytes] | None = None,
        others: Sequence[DestinationTable] = (),
        limits: str = "",
        **server: Any,
    ) -> None:
        config = write_config(folder / "node", quiet_seconds=1.0)
        monitoring = free_port()
        self.orthanc = PluginServer(folder / "orthanc", load_settings(config).node.port, monitoring, **server)
        back = destination("orthanc", "ORTHANC", self.orthanc.dicom_port)
        config.write_text(
            config.read_text() + f'[monitoring]\nport = {monitoring}\ntoken = "{TOKEN}"\n'
            f'[limits]\n{limits}\n[[peer]]\nae_title = "*"\naddress = "127.0.0.0/8"\n'
            + "".join(map(_toml, (back, *others)))
        )
        self.node = RunningNode(config, module=module, messages=messages)

    @contextmanager
    def running(self, *, with_node: bool = True) -> Iterator[None]:
        """Both run; the node only where wanted."""
        try:
            with self.orthanc:
                if with_node:
                    self.node.start()
                yield
        finally:
            if self.node._process is not None and self.node.process.poll() is None:
                self.node.stop()

    def is_complete(self, sent: Scan) -> bool:
        """Whether SEG and RTSTRUCT of both series are in their study, and the node has done with them."""
        with suppress(OSError):  # Orthanc is being started again
            if self.orthanc.modalities_of_study(sent.series[0]) != COMPLETE:
                return False
            return all(self.orthanc.standing(series)["text"] == "done" for series in sent.series)
        return False

    def case_state(self, series: str) -> str:
        """State of the last case of a series; "" where there is none."""
        states = [case["state"] for case in self.node.cases() if case["series_instance_uid"] == series]
        return str(states[-1]) if states else ""

    def surplus(self, sent: Scan) -> list[str]:
        """What is wrong with the results in Orthanc: others than those of the cases, which have to be done."""
        done = [case for case in self.node.cases() if case["series_instance_uid"] in sent.series]
        planned = {result["sop_instance_uid"] for case in done for result in case["outputs"].get("results", [])}
        study = self.orthanc.rest("GET", f"/series/{self.orthanc.series(sent.series[0])}")["ParentStudy"]
        there = [
            each["MainDicomTags"]["SOPInstanceUID"] for each in self.orthanc.rest("GET", f"/studies/{study}/instances")
        ]
        problems = [f"{case['state']}: {case['reason']}" for case in done if case["state"] != "done"]
        if len(there) != sent.images + len(planned):
            problems.append(f"{len(there)} instances in the study, {sent.images} images and {len(planned)} results")
        return problems


def _toml(table: DestinationTable) -> str:
    return (
        f'[[destination]]\nname = "{table.name}"\nae_title = "{table.ae_title}"\nhost = "{table.host}"\n'
        f"port = {table.port}\nretry_seconds = [1, 1, 2, 2, 5, 5, 5, 5, 10, 10, 10, 10]\n"
    )


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENT_SECONDS, look: float = 0.1) -> float:
    """Wait until a condition holds; how long it took.

    Raises:
        TimeoutError: It did not come true in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(look)
    return time.monotonic() - began
