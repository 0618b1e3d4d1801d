"""Structured log events on stderr: identifiers and facts, never a patient's name."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog

FORBIDDEN_KEYS = frozenset(
    {
        "PatientName",
        "patient_name",
        "PatientBirthDate",
        "patient_birth_date",
        "PatientAddress",
        "patient_address",
    }
)


def configure_logs(*, json: bool, level: str = "INFO") -> None:
    """Send every event of this process to stderr.

    Args:
        json: One JSON document a line (for collectors) instead of text for people.
        level: Lowest level that is written: DEBUG, INFO, WARNING or ERROR.
    """
    # pydicom logs values that break a rule, and a value may be a patient's name.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _drop_identity,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _frames_only,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry the name of the room they come from."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return logger


def _drop_identity(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in event.items() if key not in FORBIDDEN_KEYS}


def _frames_only(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """An unexpected exception as its type and where it was raised: its message may quote a value of the data set."""
    raised = event.pop("exc_info", None)
    error = raised if isinstance(raised, BaseException) else sys.exc_info()[1] if raised else None
    if error is None:
        return event
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return {**event, "error": type(error).__name__, "frames": frames}
