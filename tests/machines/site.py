"""A site with several workers: PostgreSQL, a receiver that counts, machines, and small series that differ."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom import dcmread

from dicom_node.deliver.sender import send
from dicom_node.ledger.cases import Case, Cases
from dicom_node.ledger.database import open_database
from dicom_node.settings import DestinationTable, load_settings
from tests.phantoms import PhantomSpec, write

RESULTS_PER_CASE = 2


def small_series(folder: Path, seed: int) -> list[Path]:
    """A CT of the whole torso on twelve coarse slices; each seed is a series of its own."""
    spec = PhantomSpec(
        modality="CT", anatomy="torso", slices=12, rows=32, columns=40,
        row_spacing=10.0, column_spacing=10.0, slice_spacing=33.0, seed=seed,
    )  # fmt: skip
    return write(spec, folder / f"series{seed}")


def series_uid(files: Sequence[Path]) -> str:
    """The series that files belong to."""
    return str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)


class Record:
    """The ledger and the engine's tables, looked at from outside.

    Args:
        database: As in ``[node] database``.
    """

    def __init__(self, config: Path) -> None:
        self.engine = open_database(load_settings(config).database_url)
        self.cases = Cases(self.engine)

    def case_of(self, series: str) -> Case | None:
        """The case of a series that counts."""
        cases = [case for case in self.cases.list() if case.series_instance_uid == series]
        return next((case for case in cases if case.state != "superseded"), None)

    def runs_at(self, case: Case) -> str | None:
        """Executor that runs a case's workflow now."""
        statement = "SELECT executor_id FROM dbos.workflow_status WHERE workflow_uuid = :id AND status = 'PENDING'"
        with self.engine.connect() as connection:
            found = connection.scalar(sa.text(statement), {"id": f"{case.case_id}.{case.attempt}"})
        return None if found is None else str(found)

    def wait_for(self, what: Any, seconds: float, words: str) -> Any:
        """What a function returns once that is true.

        Raises:
            TimeoutError: It did not become true; says how far the cases came.
        """
        deadline = time.monotonic() + seconds
        while not (found := what()):
            if time.monotonic() > deadline:
                states = [(case.case_id[:8], case.state, case.attempt, case.reason) for case in self.cases.list()]
                raise TimeoutError(f"{words}: not within {seconds} s; cases: {states}")
            time.sleep(0.05)
        return found

    def all_done(self, series: Sequence[str]) -> bool:
        """Whether the case of each series is done."""
        return all((case := self.case_of(uid)) is not None and case.state == "done" for uid in series)


def send_series(address: str, port: int, files: Sequence[Path]) -> None:
    """C-STORE to a listener; every image has to be acknowledged."""
    listener = DestinationTable(name="node", ae_title="DICOM_NODE", host=address, port=port)
    outcomes = send(listener, files, calling_ae="SCANNER")
    assert all(outcome.ok for outcome in outcomes), outcomes
