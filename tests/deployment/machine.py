"""A machine on which a person follows deploy/README.md: inside namespaces of its own, it types section after section.

``unshare --mount --net --pid --fork --kill-child --mount-proc python -m tests.deployment.machine SECTION...``

Folders that the page writes to lie under overlays that end with the process; the addresses of the page are on the
loopback device. Stand-ins: systemctl, the installed environment (the tests' own), the network of the node
(tests.quick), and waiting twenty seconds for a series to be quiet.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg
from pydicom import dcmread

from tests import postgres
from tests.deployment.page import Block, blocks
from tests.peers import tool, wait_until
from tests.phantoms import PhantomSpec, write
from tests.quick.node import MODULE

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = Path("/mnt/source")
SCRATCH = Path("/mnt/scratch")
ADDRESSES = ("10.1.2.3", "10.1.2.4", "10.1.2.10", "10.1.2.11", "10.1.2.12", "10.1.2.20")
WRITTEN = ("/etc", "/opt", "/usr/local/bin", "/var/lib", "/srv", "/root", "/tmp")
SETTINGS = Path("/etc/dicom-node/node.toml")
DONE_SECONDS = 90.0


def main() -> int:
    """Follow the sections; 0 when everything typed ended well and results arrived."""
    make_machine()
    with ExitStack() as stack:
        if sys.argv[1:] == ["Three machines"]:
            three_machines(stack)
        else:
            one_machine(sys.argv[1:], stack)
    print("results arrived")
    return 0


def one_machine(sections: list[str], stack: ExitStack) -> None:
    """PACS, planning system and TLS on one machine, one after the other."""
    tps = receiver("TPS", 11104, stack)
    series(SOURCE / "series", 1)
    for block in blocks():
        if block.section in sections:
            follow(block)
    pacs = Path("/srv/pacs")
    assert wait_until(lambda: modalities(pacs) == ["RTSTRUCT", "SEG"], DONE_SECONDS), modalities(pacs)
    if "With a planning system" in sections:
        assert modalities(tps) == []
        files = series(SOURCE / "planning", 2, study="PLANNING CT")
        typed(f"storescu -aet CT_SCANNER -aec DICOM_NODE 10.1.2.10 11112 {' '.join(map(str, files))}")
        assert wait_until(lambda: modalities(tps) == ["RTSTRUCT"], DONE_SECONDS), modalities(tps)
        assert wait_until(lambda: len(modalities(pacs)) == 4, DONE_SECONDS), modalities(pacs)


def three_machines(stack: ExitStack) -> None:
    """One that listens and two that work, each with its own settings, over one PostgreSQL and one folder."""
    pacs = receiver("PACS", 104, stack)
    server = stack.enter_context(postgres.cluster(("10.1.2.0/24",)))
    with psycopg.connect(server._administrator, autocommit=True) as connection:
        connection.execute("DROP ROLE node")
    os.environ.update(PGHOST="127.0.0.1", PGPORT=str(server.port), PGDATABASE="postgres", POSTGRES_USER="administrator")
    typed("useradd --system --home-dir /var/lib/dicom-node --shell /usr/sbin/nologin dicom-node")
    SETTINGS.parent.mkdir()
    own = {"@10.1.2.20/": f"@10.1.2.20:{server.port}/"}
    *of_the_listener, of_the_workers = [block for block in blocks() if block.section == "Three machines"]
    for block in of_the_listener:
        follow(block, own)
    for number, name in enumerate(("gpu1", "gpu2"), 1):
        worker = SCRATCH / f"{name}.toml"
        text = SETTINGS.read_text().replace('"listener"]', '"worker"]').replace('"listener"', f'"{name}"')
        worker.write_text(text.replace("port = 11114", f"port = {11114 + number}"))
        subprocess.run(["chown", "root:dicom-node", worker], check=True)
        worker.chmod(0o640)
        typed(f"mount --bind {worker} {SETTINGS}\n{of_the_workers.text}", before=["unshare", "--mount"], name=name)
    for name in ("listener", "gpu1", "gpu2"):
        config = SETTINGS if name == "listener" else SCRATCH / f"{name}.toml"
        ask = ["/opt/dicom-node/.venv/bin/dicom-node", "--config", str(config), "health", "--ready"]
        assert wait_until(lambda ask=ask: subprocess.run(ask, check=False).returncode == 0, DONE_SECONDS), name
    files = series(SOURCE / "series", 1)
    typed(f"storescu -aet CT_SCANNER -aec DICOM_NODE 10.1.2.10 11112 {' '.join(map(str, files))}")
    assert wait_until(lambda: modalities(pacs) == ["RTSTRUCT", "SEG"], DONE_SECONDS), modalities(pacs)


def make_machine() -> None:
    """Overlays, addresses and stand-ins."""
    SCRATCH.parent.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/mnt")
    SCRATCH.mkdir()
    environment = SCRATCH / "environment"
    for target, source in ((environment, Path(sys.prefix)), (SOURCE, REPOSITORY)):
        target.mkdir()
        run("mount", "--bind", source.resolve(), target)
    for folder in (*WRITTEN, str(SOURCE)):
        name = folder.strip("/").replace("/", "-")
        upper, work = SCRATCH / name / "upper", SCRATCH / name / "work"
        for made in (upper, work):
            made.mkdir(parents=True)
        upper.chmod(0o1777 if folder == "/tmp" else 0o755)
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", folder)
    run("ip", "link", "set", "lo", "up")
    for address in ADDRESSES:
        run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    python = environment / "bin/python"
    script(Path("/opt/dicom-node/.venv/bin/dicom-node"), f'PYTHONPATH={SOURCE} exec {python} -m {MODULE} "$@"')
    script(Path("/usr/local/bin/systemctl"), f'PYTHONPATH={SOURCE} exec {python} -m tests.deployment.systemctl "$@"')


def follow(block: Block, own: Mapping[str, str] | None = None) -> None:
    """Write the file, or type the commands, that a block shows."""
    if block.not_run:
        return
    text = block.text
    for written, here in {"quiet_seconds = 20": "quiet_seconds = 1", "sleep 40": "sleep 4", **(own or {})}.items():
        text = text.replace(written, here)
    if block.path is None:
        typed(text)
        return
    path = Path(block.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if block.is_appended else "w") as file:
        file.write(("\n" if block.is_appended else "") + text)


def typed(text: str, *, before: list[str] | None = None, name: str = "here") -> None:
    """Have a shell execute lines; the first that fails ends everything, with what it said."""
    print(f"--- {name}\n{text}", flush=True)
    environment = {
        **os.environ,
        "STAND_IN": str(SCRATCH / "units" / name),
        # the system's commands first: an environment of Python may have a storescu of its own
        "PATH": f"/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}",
    }
    with (SCRATCH / "typed.log").open("w+b") as said:
        done = subprocess.run(
            [*(before or []), "bash", "-euo", "pipefail", "-c", text],
            cwd=SOURCE, env=environment, stdout=said, stderr=said, check=False,
        )  # fmt: skip
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    if done.returncode != 0:
        logs = "\n".join(path.read_text()[-2000:] for path in (SCRATCH / "units").glob("*/*.log"))
        sys.exit(f"ended with {done.returncode}; logs of the units:\n{logs}")


def receiver(title: str, port: int, stack: ExitStack) -> Path:
    """dcmtk's plain receiver."""
    stored = SCRATCH / title
    stored.mkdir()
    process = subprocess.Popen([tool("storescp"), "-aet", title, "-od", str(stored), str(port)])
    stack.callback(process.kill)
    return stored


def series(folder: Path, seed: int, *, study: str = "") -> list[Path]:
    """A small CT of the torso."""
    spec = PhantomSpec(
        modality="CT", anatomy="torso", slices=12, rows=32, columns=40,
        row_spacing=10.0, column_spacing=10.0, slice_spacing=33.0, seed=seed,
    )  # fmt: skip
    files = write(spec, folder)
    for path in files if study else ():
        dataset = dcmread(path)
        dataset.StudyDescription = study
        dataset.save_as(path)
    return files


def modalities(folder: Path) -> list[str]:
    """Modalities of the results in a receiver's folder."""
    whole = [
        path
        for path in folder.iterdir()
        if path.is_file() and path.name != "index.dat" and time.time() - path.stat().st_mtime > 0.2
    ]
    return sorted(str(dcmread(path, stop_before_pixels=True).Modality) for path in whole)


def script(path: Path, line: str) -> None:
    """An executable of one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def run(*command: str | Path) -> None:
    """A command that has to succeed."""
    subprocess.run(list(map(str, command)), check=True)


if __name__ == "__main__":
    sys.exit(main())
