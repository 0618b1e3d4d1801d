"""Peak of resident memory of this process, for the writers beside it."""

from __future__ import annotations

from pathlib import Path


def peak_mib() -> float:
    """VmHWM in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
