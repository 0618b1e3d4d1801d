"""Two workers on machines of their own over one PostgreSQL: one falls silent, and its cases go on at the other."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.ledger.cases import Case
from dicom_node.ledger.deliveries import Deliveries
from tests import postgres
from tests.machines.hosts import NETWORK, Host, await_end, hosts, is_isolated
from tests.machines.site import RESULTS_PER_CASE, Record, send_series, series_uid, small_series
from tests.peers import running, tool, wait_until
from tests.ports import free_port

pytestmark = [pytest.mark.peer, pytest.mark.slow]
ALL_SECONDS = 180.0
TAKEOVER_SECONDS = 60.0


@dataclass
class Site:
    """Machine 1 listens; machines 1 and 2 work; this machine has database and destination."""

    scanner: Host
    healthy: Host
    doomed: Host
    record: Record
    port: int
    stored: Path
    folder: Path

    def store(self, count: int) -> list[str]:
        """Send so many new series; their UIDs."""
        sent = []
        for seed in range(count):
            files = small_series(self.folder, seed)
            send_series(self.scanner.address, self.port, files)
            sent.append(series_uid(files))
        return sent

    def stores(self) -> int:
        """C-STORE requests that the destination has answered so far."""
        (log,) = self.folder.glob("storescp-*.log")
        return log.read_text(errors="replace").count("storing DICOM file")

    def results(self) -> list[str]:
        """Files at the destination."""
        return sorted(path.name for path in self.stored.iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    port, receiver_port, stored = free_port(), free_port(), tmp_path / "stored"
    stored.mkdir()
    receiver = [tool("storescp"), "-v", "-aet", "STORE", "-od", str(stored), str(receiver_port)]
    with (
        postgres.cluster((f"{NETWORK}.0.0/16",)) as server,
        running(receiver, receiver_port, folder=tmp_path),
    ):
        database = server.new_database()
        tables = {"port": port, "database": database, "destination": receiver_port}
        with hosts(tmp_path, 2, tables=tables) as (first, second):
            listener = first.start("listen")
            local = tmp_path / "local.toml"
            local.write_text(f'[node]\nhome = "{tmp_path / "home"}"\ndatabase = "{database}"\n')
            record = Record(local)
            try:
                await_listener(first, listener, port)
                yield Site(first, first, second, record, port, stored, tmp_path)
            finally:
                record.engine.dispose()


def await_listener(host: Host, listener: subprocess.Popen[bytes], port: int) -> None:
    def answers() -> bool:
        assert listener.poll() is None, "the listener ended"
        probe = ["bash", "-c", f"echo > /dev/tcp/{host.address}/{port}"]
        return subprocess.run([*host.enter, *probe], capture_output=True, check=False).returncode == 0

    assert wait_until(answers, 60)


def stuck_case(site: Site, series: list[str]) -> Case | None:
    """A case that the doomed worker is segmenting."""
    for uid in series:
        case = site.record.case_of(uid)
        if case and case.state == "segmenting" and site.record.runs_at(case) == site.doomed.name:
            return case
    return None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["kill -9", "SIGSTOP"])
def test_cases_of_a_silent_worker_go_on_elsewhere_within_a_minute(site: Site, number: signal.Signals) -> None:
    site.healthy.start("work")
    doomed = site.doomed.start("work", environment={"QUICK_SECONDS": "90"})
    on_record = "SELECT count(*) FROM workers"
    site.record.wait_for(lambda: counted(site, on_record) == 2, 60, "both workers on record")
    time.sleep(4)
    series = site.store(6)
    case = site.record.wait_for(lambda: stuck_case(site, series), 60, "the doomed worker segments a case")

    site.doomed.signal(doomed, number)
    fell = time.monotonic()
    site.record.wait_for(lambda: site.record.cases.get(case.case_id).attempt == 2, TAKEOVER_SECONDS, "taken over")
    taken = time.monotonic() - fell
    site.record.wait_for(lambda: site.record.all_done([case.series_instance_uid]), TAKEOVER_SECONDS, "done")
    done = time.monotonic() - fell
    machines = "network namespaces" if is_isolated() else "process groups on 127.0.0.0/8"
    print(f"\n{machines}: takeover after {number.name} while it segments: {taken:.1f} s; case done: {done:.1f} s")
    assert done < TAKEOVER_SECONDS

    site.record.wait_for(lambda: site.record.all_done(series), ALL_SECONDS, "every case done")
    before = (site.results(), site.stores(), site.record.cases.list())
    if number == signal.SIGSTOP:
        site.doomed.signal(doomed, signal.SIGCONT)
        assert await_end(doomed, 30) == 1, "a worker that was taken for dead ends by itself"
    assert (site.results(), site.stores(), site.record.cases.list()) == before
    assert len(before[0]) == before[1] == RESULTS_PER_CASE * len(series)
    states = {row.state for uid in series for row in Deliveries(site.record.engine).of_case(case_id(site, uid))}
    assert states == {"confirmed"}


def test_two_workers_of_one_name_are_refused(site: Site) -> None:
    site.healthy.start("work")
    site.record.wait_for(lambda: counted(site, "SELECT count(*) FROM workers") == 1, 60, "a worker on record")
    twin = Host(site.doomed.name, site.doomed.address, site.doomed.gateway, site.folder / "twin.toml")
    own = site.doomed.config.read_text()
    twin.config.write_text(own.replace(f'name = "{site.doomed.name}"', f'name = "{site.healthy.name}"'))
    assert await_end(twin.start("work"), 60) == 2
    assert "a [node] name of its own" in (site.folder / f"{twin.name}-work.log").read_text()


def counted(site: Site, statement: str) -> int:
    with site.record.engine.connect() as connection:
        return int(connection.exec_driver_sql(statement).scalar() or 0)


def case_id(site: Site, series: str) -> str:
    case = site.record.case_of(series)
    assert case is not None
    return case.case_id
