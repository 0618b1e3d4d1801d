"""A stand-in for ``systemctl enable --now``, ``restart`` and ``daemon-reload``, where no systemd runs.

It starts what a unit of /etc/systemd/system says, as the unit's user and with its StateDirectory made, and waits for
READY=1 of a unit of Type=notify, as systemd does. None of the unit's sandbox is set up.
"""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

READY_SECONDS = 90.0
STATE = Path(os.environ["STAND_IN"])


def main() -> int:
    """Do what the arguments say; 0 once every unit named has started."""
    command, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o777)
    for name in names:
        if command == "restart":
            _stop(name)
        _start(name)
    return 0


def _start(name: str) -> None:
    base, _, instance = name.partition("@")
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(Path("/etc/systemd/system", f"{base}@.service" if instance else f"{base}.service"))
    service = unit["Service"]
    home = Path("/var/lib", service["StateDirectory"])
    home.mkdir(mode=int(service["StateDirectoryMode"], 8), exist_ok=True)
    shutil.chown(home, service["User"], service["Group"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, (STATE / f"{name}.log").open("ab") as log:
        address = STATE / f"{name}.notify"
        address.unlink(missing_ok=True)
        notified.bind(str(address))
        address.chmod(0o666)
        process = subprocess.Popen(
            service["ExecStart"].replace("%i", instance).split(),
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            stdout=log, stderr=log, start_new_session=True, umask=int(service["UMask"], 8),
            user=service["User"], group=service["Group"], extra_groups=[],
        )  # fmt: skip
        (STATE / f"{name}.pid").write_text(str(process.pid))
        if service["Type"] == "notify":
            notified.settimeout(READY_SECONDS)
            while b"READY=1" not in notified.recv(100):
                continue


def _stop(name: str) -> None:
    pid = int((STATE / f"{name}.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + READY_SECONDS
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} does not stop")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
