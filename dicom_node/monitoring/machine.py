"""What the machine says about the node: processes, disk, folders, graphics cards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric

from dicom_node import __version__
from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.monitoring.processes import children_of, owner_of, resident_bytes, roles_of
from dicom_node.settings import Settings
from dicom_node.tls import expiry_of, own_certificates

log = get_logger("monitoring")
_GPU_SECONDS = 5.0
_MEBIBYTE = 1 << 20


def machine_measurements(settings: Settings) -> Iterator[Metric]:
    """Every metric that needs no ledger."""
    build = GaugeMetricFamily("dicom_node_build_info", "1, labelled with the version that runs.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield from _processes(settings)
    home = settings.node.home
    if home.is_dir():
        free = shutil.disk_usage(home).free
        yield GaugeMetricFamily("dicom_node_disk_free_bytes", "Free bytes of the disk of the spool.", value=free)
    limit = settings.limits.free_bytes
    yield GaugeMetricFamily("dicom_node_disk_watermark_bytes", "Below this, images are refused.", value=limit)
    text = "Bytes of results and labels in the folders of cases."
    yield GaugeMetricFamily("dicom_node_results_bytes", text, value=folder_bytes(home / "cases"))
    yield _certificates(settings)
    yield from _gpus()


def folder_bytes(folder: Path) -> int:
    """Bytes of the files under a folder; what is removed meanwhile does not count."""
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total


def _certificates(settings: Settings) -> Metric:
    text = "When a certificate that the node shows expires, seconds since the epoch."
    expires = GaugeMetricFamily("dicom_node_certificate_expires_seconds", text, labels=["path"])
    for path in own_certificates(settings):
        try:
            expires.add_metric([str(path)], expiry_of(path).timestamp())
        except SettingsError as error:
            log.warning("certificate not measured", reason=error.message)
    return expires


def _processes(settings: Settings) -> Iterator[Metric]:
    up = GaugeMetricFamily("dicom_node_process_up", "Whether a process of this role runs here.", labels=["role"])
    resident = GaugeMetricFamily("dicom_node_process_resident_bytes", "Memory by role.", labels=["role"])
    for role in roles_of(settings):
        pid = owner_of(settings.node.home, role)
        up.add_metric([role], 0 if pid is None else 1)
        if pid is not None:
            resident.add_metric([role], resident_bytes(pid))
            if role == "worker":
                resident.add_metric(["inference"], sum(map(resident_bytes, children_of(pid))))
    yield from (up, resident)


def _gpus() -> Iterator[Metric]:
    """Memory of each card, as its driver's own tool tells it; nothing where there is no such tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return
    command = [tool, "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("graphics cards not measured", error=type(error).__name__)
        return
    used = GaugeMetricFamily("dicom_node_gpu_memory_used_bytes", "Memory in use on each card.", labels=["gpu"])
    total = GaugeMetricFamily("dicom_node_gpu_memory_bytes", "Memory of each card.", labels=["gpu"])
    for line in asked.stdout.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and all(field.isdigit() for field in fields):  # a card may answer "[N/A]"
            used.add_metric([fields[0]], int(fields[1]) * _MEBIBYTE)
            total.add_metric([fields[0]], int(fields[2]) * _MEBIBYTE)
    yield from (used, total)
