"""The start commands of compose and Kubernetes, run here without containers.

What a container would bring is put in place: paths of its mounts, the name of the database's host, a network address of
its own for each endpoint. Everything else is as written: settings, command, variables, role and password. The network
alone is a stand-in (tests.quick): it would take longer than everything else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydicom import dcmread

from tests import postgres
from tests.certificates import Authority
from tests.deployment.files import COMPOSE, DEPLOY, HOME, KUBERNETES, compose, node_containers
from tests.installed import missing
from tests.peers import Peer, orthanc, run_tool, running, storescp, tool, wait_until
from tests.phantoms import PhantomSpec, write
from tests.ports import free_port
from tests.quick.node import MODULE

pytestmark = [pytest.mark.peer, pytest.mark.slow]
PASSWORD = "a secret with 'quotes'"
READY_SECONDS = 60.0
DONE_SECONDS = 120.0
SMALL = PhantomSpec(
    modality="CT", anatomy="torso", slices=12, rows=32, columns=40,
    row_spacing=10.0, column_spacing=10.0, slice_spacing=33.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Cluster]:
    """A server where deploy/postgresql/node-role.sh has made role and database, and passwords are asked for."""
    if not postgres.is_installed():
        missing("PostgreSQL is not installed (apt: postgresql)")
    with postgres.cluster() as cluster:
        with psycopg.connect(cluster._administrator, autocommit=True) as connection:
            connection.execute("DROP ROLE node")
        environment = {
            **os.environ, "NODE_PASSWORD": PASSWORD, "POSTGRES_USER": "administrator",
            "PGHOST": "127.0.0.1", "PGPORT": str(cluster.port), "PGDATABASE": "postgres",
        }  # fmt: skip
        subprocess.run([DEPLOY / "postgresql/node-role.sh"], env=environment, check=True)
        access = cluster.folder / "data/pg_hba.conf"
        access.write_text("host all node 127.0.0.1/32 scram-sha-256\n" + access.read_text())
        with psycopg.connect(cluster._administrator, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield cluster


@dataclass(frozen=True)
class Site:
    """Processes of the node, as containers would hold them, and where they answer."""

    folder: Path
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]

    def asks(self, role: str, question: str) -> tuple[int, str]:
        """What ``dicom-node health`` says: exit code and words."""
        options = ["--ready"] if question == "ready" else []
        command = [sys.executable, "-m", "dicom_node", "--config", self.folder / f"{role}.toml", "health", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def page(self, role: str, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[role]}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text()[-3000:]

    def is_ready(self, role: str) -> bool:
        assert self.processes[role].poll() is None, self.log(role)
        return self.asks(role, "ready")[0] == 0


@contextmanager
def started(kind: str, folder: Path, changes: dict[str, str]) -> Iterator[Site]:
    """Every container of the node that a compose file or the manifests start."""
    folder.mkdir(parents=True, exist_ok=True)
    ports, processes = {}, {}
    with ExitStack() as stack:
        for container in node_containers():
            if not container.name.startswith(kind):
                continue
            role = container.name.split()[1]
            ports[role] = free_port()
            text = ((COMPOSE if kind == "compose" else KUBERNETES) / "node.toml").read_text()
            for written, here in {**changes, "port = 11114": f"port = {ports[role]}"}.items():
                assert written in text, written
                text = text.replace(written, here)
            config = folder / f"{role}.toml"
            config.write_text(text)
            log = stack.enter_context((folder / f"{role}.log").open("wb"))
            processes[role] = subprocess.Popen(
                [sys.executable, "-m", MODULE, *container.arguments],
                env={**os.environ, "DICOM_NODE_CONFIG": str(config), "PGPASSWORD": PASSWORD},
                stderr=log,
            )
        try:
            yield Site(folder, ports, processes)
        finally:
            for process in processes.values():
                process.send_signal(signal.SIGTERM)
            ended = [process.wait(60) for process in processes.values()]
    assert ended == [0] * len(processes)


def changes(folder: Path, cluster: postgres.Cluster, port: int) -> dict[str, str]:
    """What is another here than in a container."""
    return {
        HOME: str(folder / "home"),
        "@postgresql/node": f"@127.0.0.1:{cluster.port}/node",
        "port = 11112": f"port = {port}\nquiet_seconds = 1",
    }


def emptied(cluster: postgres.Cluster) -> postgres.Cluster:
    """The same database without tables."""
    with psycopg.connect(f"{cluster._administrator} dbname=node", autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS dbos, public CASCADE")
        connection.execute("CREATE SCHEMA public AUTHORIZATION node")
    return cluster


def test_compose_takes_a_series_and_its_results_come_to_orthanc(tmp_path: Path, database: postgres.Cluster) -> None:
    files, port = write(SMALL, tmp_path / "series"), free_port()
    with orthanc(tmp_path / "orthanc") as archive:
        here = {
            **changes(tmp_path, emptied(database), port),
            "172.30.0.0/24": "127.0.0.0/8",
            'host = "orthanc"\nport = 4242': f'host = "127.0.0.1"\nport = {archive.destination.port}',
        }
        with started("compose", tmp_path / "site", here) as site:
            assert wait_until(lambda: all(map(site.is_ready, site.ports)), READY_SECONDS), site.log("worker")
            assert {role: site.asks(role, "health") for role in site.ports} == {
                "listener": (0, "health: yes\n"), "worker": (0, "health: yes\n"),
            }  # fmt: skip
            for role in site.ports:
                running = [line for line in site.page(role, "/metrics").splitlines() if "process_up{" in line]
                assert running == [f'dicom_node_process_up{{role="{role}"}} 1.0']
            sent = run_tool("storescu", "-aet", "ORTHANC", "-aec", "DICOM_NODE", "127.0.0.1", str(port), *files)
            assert sent.returncode == 0, sent.stdout
            assert wait_until(lambda: modalities(archive) == ["RTSTRUCT", "SEG"], DONE_SECONDS), site.log("worker")


def modalities(archive: Peer) -> list[str]:
    series: list[dict[str, Any]] = archive.rest("GET", "/series?expand")
    return sorted(item["MainDicomTags"]["Modality"] for item in series)


def test_kubernetes_answers_its_probes_and_takes_a_series_over_tls(tmp_path: Path, database: postgres.Cluster) -> None:
    files, port, secure = write(SMALL, tmp_path / "series"), free_port(), free_port()
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.issue("node"), authority.issue("scanner")
    with storescp(tmp_path / "pacs") as pacs:
        here = {
            **changes(tmp_path, emptied(database), port),
            **{f"/etc/dicom-node-tls/{name}": str(path) for name, path in (
                ("node.crt", ours.certificate), ("node.key", ours.key), ("ca.crt", ours.authorities))},
            "port = 2762": f"port = {secure}",
            '"10.1.0.0/16"': '"127.0.0.0/8"',
            'ae_title = "PACS"\nhost = "10.1.2.3"\nport = 104': (
                f'ae_title = "STORE"\nhost = "127.0.0.1"\nport = {pacs.destination.port}'
            ),
        }  # fmt: skip
        with started("kubernetes", tmp_path / "site", here) as site:
            assert wait_until(lambda: all(map(site.is_ready, site.ports)), READY_SECONDS), site.log("worker")
            for role in site.ports:
                assert json.loads(site.page(role, "/health")) == {"healthy": True, "reasons": [], "warnings": []}
                assert json.loads(site.page(role, "/ready")) == {"ready": True, "reasons": [], "warnings": []}
            peer = ("-aet", "CT_SCANNER", "-aec", "DICOM_NODE", "127.0.0.1", str(secure))
            sent = run_tool("storescu", *theirs.dcmtk, *peer, *files)
            assert sent.returncode == 0, sent.stdout
            assert wait_until(lambda: len(list(pacs.folder.iterdir())) == 2, DONE_SECONDS), site.log("worker")
            kinds = sorted(str(dcmread(path, stop_before_pixels=True).Modality) for path in pacs.folder.iterdir())
            assert kinds == ["RTSTRUCT", "SEG"]


def test_the_viewer_of_compose_is_served(tmp_path: Path) -> None:
    """Its container's own command, with paths of the container under a folder of ours, started as nobody special."""
    service = compose()["services"]["viewer"]
    port = free_port()
    places = {
        "/etc/ohif/ohif.conf": DEPLOY / "nginx/ohif.conf",
        "/etc/ohif/app-config.js": DEPLOY / "ohif/app-config.js",
        "/usr/share/ohif": tmp_path / "viewer",
        "/etc/nginx/conf.d/default.conf": tmp_path / "default.conf",
    }
    assert {volume.split(":")[-2] for volume in service["volumes"]} == set(places) - {"/etc/nginx/conf.d/default.conf"}
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer/index.html").write_text("the viewer")
    command = service["command"][-1].partition("; exec nginx")[0]
    for there, here in {**places, "listen 8080;": f"listen 127.0.0.1:{port};", "orthanc:8042": "127.0.0.1:1"}.items():
        assert there in command or there in service["volumes"][1] or there in service["volumes"][2]
        command = command.replace(str(there), str(here))
    subprocess.run(["sh", "-ec", command], check=True)
    site = (tmp_path / "default.conf").read_text()
    for there, here in places.items():
        site = site.replace(there, str(here))
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        ("user root;\n" if os.geteuid() == 0 else "")  # the folder is this user's own
        + f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n"
        + "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"{site}\n}}\n"
    )
    with running([tool("nginx"), "-c", str(whole), "-g", "daemon off;"], port, folder=tmp_path):
        for path, expected in (("/", "the viewer"), ("/app-config.js", "window.config")):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                assert expected in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError) as away:  # nobody is where Orthanc would be
            urllib.request.urlopen(f"http://127.0.0.1:{port}/dicom-web/studies", timeout=10)
        assert away.value.code == 502
        away.value.close()


def test_a_wrong_password_is_said(tmp_path: Path, database: postgres.Cluster) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\nhome = "{tmp_path / "home"}"\nport = {free_port()}\n'
        f'database = "postgresql://node@127.0.0.1:{database.port}/node"\n'
    )
    environment = {**os.environ, "PGPASSWORD": "another"}
    command = [sys.executable, "-m", "dicom_node", "--config", config, "listen"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "password authentication failed" in done.stderr
    assert "another" not in done.stderr
