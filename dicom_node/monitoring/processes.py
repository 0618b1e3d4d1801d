"""Which processes of the node live on this machine, as the kernel knows it (``proc(5)``)."""

from __future__ import annotations

from pathlib import Path

from dicom_node.settings import Settings


def roles_of(settings: Settings) -> tuple[str, ...]:
    """Roles of the processes that have to run on this machine."""
    further = {"archive": settings.archive.enabled, "audit": settings.audit is not None}
    return settings.monitoring.roles or ("listener", "worker", *(role for role, is_on in further.items() if is_on))


def owner_of(home: Path, role: str) -> int | None:
    """Process id that holds ``<home>/<role>.lock``; None where nobody does.

    Read from ``/proc/locks``: to try the lock would get in the way of a process that is starting.
    """
    try:
        status = (home / f"{role}.lock").stat()
    except FileNotFoundError:
        return None
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if (
            fields[1] == "FLOCK"
            and fields[5].rpartition(":")[2] == str(status.st_ino)
            and Path("/proc", fields[4]).exists()
        ):
            return int(fields[4])
    return None


def children_of(pid: int) -> tuple[int, ...]:
    """Processes that a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended meanwhile
    return tuple(found)


def resident_bytes(pid: int) -> int:
    """Memory a process holds; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
