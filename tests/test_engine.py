"""Durable execution: a killed process goes on from its last finished step, and nothing runs twice."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests import postgres

PROGRAM = """
import os, sys, threading, time
from pathlib import Path
from dicom_node.engine import Engine
from dicom_node.settings import parse_settings

home, die_in = Path(sys.argv[1]), sys.argv[2]
journal = home / "journal"
done = threading.Event()
engine = Engine(parse_settings({"node": {"home": str(home)}}, origin="test"))

def note(word):
    with journal.open("a") as file:
        file.write(word + "\\n")
        file.flush()
        os.fsync(file.fileno())
    if word == die_in:
        os.kill(os.getpid(), 9)
    return word

def case(word):
    for step in ("one", "two", "three"):
        engine.step(step, note, f"{word} {step}")
    engine.enqueue("deliveries", "delivery", f"{word}.delivery", word, delay=0.5)

def delivery(word):
    engine.step("deliver", note, f"{word} delivered")
    done.set()

engine.register("case", case)
engine.register("delivery", delivery)
engine.launch()
engine.declare_queue("cases", concurrency=1)
engine.declare_queue("deliveries", concurrency=1)
for _ in range(3):
    engine.enqueue("cases", "case", "a", "a")
print(engine.is_alive("a"))
done.wait(30)
deadline = time.monotonic() + 10
while engine.is_alive("a") and time.monotonic() < deadline:
    time.sleep(0.1)
print(engine.is_alive("a"), engine.is_alive("b"))
engine.stop(patience_seconds=5)
"""


def _run(home: Path, die_in: str = "never") -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-c", PROGRAM, str(home), die_in]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_a_workflow_enqueued_three_times_runs_once(tmp_path: Path) -> None:
    ended = _run(tmp_path / "home")
    assert (tmp_path / "home" / "journal").read_text().splitlines() == ["a one", "a two", "a three", "a delivered"]
    assert ended.stdout.split()[0] == "True"
    assert ended.stdout.split()[-2:] == ["False", "False"]


def test_a_killed_workflow_repeats_the_interrupted_step_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert _run(home, die_in="a two").returncode == -9
    assert _run(home).returncode == 0
    assert (home / "journal").read_text().splitlines() == ["a one", "a two", "a two", "a three", "a delivered"]


def test_a_delayed_workflow_survives_the_kill(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert _run(home, die_in="a delivered").returncode == -9
    assert _run(home).returncode == 0
    assert (home / "journal").read_text().splitlines()[-2:] == ["a delivered", "a delivered"]


def test_checkpoints_are_json_never_pickle(tmp_path: Path) -> None:
    _run(tmp_path / "home")
    with sqlite3.connect(tmp_path / "home" / "workflows.sqlite") as database:
        used = database.execute("select distinct serialization from workflow_status").fetchall()
    assert used == [("portable_json",)]


FORGETTING = """
import sys, time
from dicom_node.engine import Engine
from dicom_node.settings import parse_settings

engine = Engine(parse_settings({"node": {"home": sys.argv[1]}}, origin="test"))
engine.register("case", lambda word: engine.step("one", lambda: word))
engine.launch()
engine.declare_queue("cases", concurrency=1)
for word in ("a", "b"):
    engine.enqueue("cases", "case", word, word)
while not all(engine.has_ended(word) for word in ("a", "b")):
    time.sleep(0.1)
engine.enqueue("cases", "case", "later", "later", delay=3600)
print(engine.forget_ended(time.time() - 60, 10), engine.forget_ended(0.0, 10))
print(engine.forget_ended(time.time() + 60, 1), engine.forget_ended(time.time() + 60, 10))
print(engine.has_ended("a"), engine.has_ended("b"), engine.is_alive("later"))
engine.enqueue("cases", "case", "a", "a")
while not engine.has_ended("a"):
    time.sleep(0.1)
engine.stop(patience_seconds=5)
"""


def test_what_ended_is_forgotten_with_its_steps_and_may_run_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORGETTING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "0", "1", "1", "False", "False", "True"]), done.stderr
    with sqlite3.connect(tmp_path / "workflows.sqlite") as database:
        steps = database.execute("select workflow_uuid from operation_outputs where function_name = 'one'").fetchall()
    assert steps == [("a",)]  # of its second run


PRIORITIES = """
import sys, time
from pathlib import Path
from dicom_node.engine import Engine
from dicom_node.settings import parse_settings

home, database, name, role = sys.argv[1:]
settings = parse_settings({"node": {"home": home, "name": name, "database": database}}, origin="test")
engine = Engine(settings)
done = []

def case(word):
    def work():
        with (Path(home) / "journal").open("a") as file:
            file.write(f"{word} at {name}\\n")
        time.sleep(0.5)
    engine.step("work", work)
    done.append(word)

engine.register("case", case)
engine.launch()
if role == "enqueue":
    for word in ("first", "second", "third", "fourth"):
        engine.enqueue("cases", "case", word, word)
    engine.enqueue("cases", "case", "urgent", "urgent", urgent=True)
else:
    print("ready", flush=True)
    sys.stdin.readline()
    engine.declare_queue("cases", concurrency=1)
    deadline = time.monotonic() + 60
    while any(engine.is_alive(word) for word in ("first", "second", "third", "fourth", "urgent")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
engine.stop(patience_seconds=5)
"""


@pytest.mark.peer
def test_what_is_urgent_goes_first_whichever_machine_takes_it(postgresql: postgres.Cluster, tmp_path: Path) -> None:
    database = postgresql.new_database()

    def start(name: str, role: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PRIORITIES, str(tmp_path), database, name, role]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    enqueuing = start("gamma", "enqueue")
    enqueuing.communicate(timeout=90)
    assert enqueuing.returncode == 0
    workers = [start(name, "work") for name in ("alpha", "beta")]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    order = [line.split(" at ") for line in (tmp_path / "journal").read_text().splitlines()]
    words, machines = [word for word, _ in order], {machine for _, machine in order}
    assert sorted(words) == ["first", "fourth", "second", "third", "urgent"]
    assert words.index("urgent") <= 1  # enqueued last; the other machine takes one of the others at the same moment
    assert machines <= {"alpha", "beta"}
