"""How the series that were received stand, and having their cases run again; for who knows the token.

``GET /series``: how many are unfinished. ``GET /series/UID``: one of them. ``POST /series/UID/rerun``. ``POST
/series/UID/expect/IMAGES``: so many are about to be sent, and no case is opened of fewer, should the connection break
off. Answers name states and reasons; no patient.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import NodeError, UsageError
from dicom_node.ledger import database as db
from dicom_node.ledger.cases import FINAL_STATES
from dicom_node.ledger.database import reading
from dicom_node.ledger.intake import Intake
from dicom_node.monitoring.connection import impatient_engine
from dicom_node.rerun import run_case_again
from dicom_node.settings import Settings

_SERIES: Final = re.compile(r"/series(?:/(?P<uid>[0-9.]{1,64})(?P<post>/rerun|/expect/(?P<images>[0-9]{1,6}))?)?")
Reply = tuple[int, dict[str, Any]]


class SeriesDesk:
    """Answers ``/series...``.

    Args:
        settings: Of the node that is asked.
        clock: Seconds since the epoch.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock

    def answer(self, method: str, path: str, authorization: str) -> Reply:
        """Status and document for a request.

        Args:
            method: "GET" or "POST".
            path: Without a query.
            authorization: The header of this name; "" where there is none.
        """
        token = self._settings.monitoring.token
        if token is None:
            return 403, {"reason": "series are not shown: [monitoring] token is not set"}
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            return 401, {"reason": "the token is not that of [monitoring]"}
        match = _SERIES.fullmatch(path)
        if match is None or (match["post"] is not None) != (method == "POST"):
            return 404, {
                "reason": "ask GET /series, GET /series/UID, POST /series/UID/rerun, /series/UID/expect/IMAGES"
            }
        try:
            return 200, self._answer(match)
        except (SQLAlchemyError, NodeError) as error:
            return 503, {"reason": f"the ledger cannot be used: {type(error).__name__}"}

    def _answer(self, asked: re.Match[str]) -> dict[str, Any]:
        engine, series = impatient_engine(self._settings), asked["uid"]
        if series is None:
            return {"unfinished": _unfinished(engine)}
        if asked["images"] is not None:
            Intake(engine).expect(series, int(asked["images"]), self._clock())
            return {"expected": int(asked["images"])}
        return _series(engine, series) if asked["post"] is None else self._rerun(engine, series)

    def _rerun(self, engine: sa.Engine, series: str) -> dict[str, Any]:
        """Have the last case of a series run again, where it has ended."""
        with reading(engine) as connection:
            received, cased = _counts(connection, series)
            last = _last_case(connection, series)
        if last is None or received > cased:
            return {"rerun": False, "reason": "its case has not been opened yet" if received else "it is not here"}
        if last.state not in FINAL_STATES:
            return {"rerun": False, "reason": f"its case is {last.state}"}
        try:
            run_case_again(self._settings, engine, last.case_id, self._clock(), also_done=True)
        except UsageError as error:
            return {"rerun": False, "reason": error.message}
        return {"rerun": True}


def _series(engine: sa.Engine, series: str) -> dict[str, Any]:
    with reading(engine) as connection:
        received, cased = _counts(connection, series)
        last = _last_case(connection, series)
    known: dict[str, Any] = {"images": received, "case": None, "state": None, "reason": None}
    if last is not None:
        known |= {"case": last.case_id[:12], "state": last.state, "reason": last.reason}
    if received > cased:
        known |= {"state": "received", "reason": "its case is opened once it has been quiet for a while"}
    return known


def _counts(connection: sa.Connection, series: str) -> tuple[int, int]:
    """How many images of a series were received, and how many of them are in a case."""
    columns = sa.select(db.series.c.instances, db.series.c.cased_instances)
    row = connection.execute(columns.where(db.series.c.series_instance_uid == series)).one_or_none()
    return (0, 0) if row is None else (row.instances, row.cased_instances)


def _last_case(connection: sa.Connection, series: str) -> sa.Row[Any, Any, Any] | None:
    columns = sa.select(db.cases.c.case_id, db.cases.c.state, db.cases.c.reason)
    of_series = columns.where(db.cases.c.series_instance_uid == series, db.cases.c.state != "superseded")
    return connection.execute(of_series.order_by(db.cases.c.created_at.desc()).limit(1)).first()


def _unfinished(engine: sa.Engine) -> int:
    """Series that wait for their case, and cases that have not ended."""
    waiting = sa.select(sa.func.count()).where(db.series.c.instances > db.series.c.cased_instances)
    cases = sa.select(sa.func.count()).where(db.cases.c.state.not_in(FINAL_STATES))
    with reading(engine) as connection:
        return int(connection.scalar(waiting) or 0) + int(connection.scalar(cases) or 0)
