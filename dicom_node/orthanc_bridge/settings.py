"""The section ``DicomNode`` of Orthanc's configuration -> frozen settings; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dicom_node.errors import SettingsError

SECTION: Final = "DicomNode"
FIRST_START, ALWAYS = "first-start", "always"
DEFAULT_STABLE_SECONDS = 60.0


@dataclass(frozen=True)
class BridgeSettings:
    """How series get from Orthanc to the node.

    Attributes:
        modality: The node's name in Orthanc's ``DicomModalities``.
        node_url: Where the node's ``[monitoring]`` answers; "" where states of cases are not asked for.
        token: ``[monitoring] token`` of the node.
        since: Series whose last image came before are left alone: ``first-start`` of the plugin, ``always`` (none is
            left alone), or a date, YYYY-MM-DD.
        modalities: DICOM modalities of series that are handed over.
        reconcile_seconds: Pause between two looks at everything Orthanc has.
        series_in_flight: Series found by such a look wait while the node has as many unfinished; needs ``node_url``.
        retry_seconds: Pause before each further attempt at a series; the last one repeats.
        metadata: Number of the metadata, and of the global property, that the bridge remembers in (1024 to 65535).
        stable_seconds: Orthanc's ``StableAge``: how long a series has to be quiet.
    """

    modality: str = "dicom-node"
    node_url: str = ""
    token: str = ""
    since: str = FIRST_START
    modalities: tuple[str, ...] = ("CT", "MR")
    reconcile_seconds: float = 3600.0
    series_in_flight: int = 8
    retry_seconds: tuple[float, ...] = (10.0, 60.0, 300.0, 900.0)
    metadata: int = 5110
    stable_seconds: float = DEFAULT_STABLE_SECONDS

    def since_seconds(self, first_start: float) -> float:
        """The moment of ``since``, seconds since the epoch; a date begins at midnight of Orthanc's time zone."""
        if self.since == ALWAYS:
            return 0.0
        if self.since == FIRST_START:
            return first_start
        return datetime.fromisoformat(self.since).astimezone().timestamp()


_KEYS: Final = {
    "Modality": "modality",
    "NodeUrl": "node_url",
    "Token": "token",
    "Since": "since",
    "Modalities": "modalities",
    "ReconcileSeconds": "reconcile_seconds",
    "SeriesInFlight": "series_in_flight",
    "RetrySeconds": "retry_seconds",
    "Metadata": "metadata",
}


def read_settings(configuration: Mapping[str, Any]) -> BridgeSettings:
    """The settings in Orthanc's configuration.

    Raises:
        SettingsError: An unknown key or a wrong value, by name; Orthanc does not load the plugin then.
    """
    section = configuration.get(SECTION, {})
    if not isinstance(section, dict):
        raise SettingsError(f'"{SECTION}" has to be a section {{...}}')
    unknown = sorted(set(section) - set(_KEYS))
    if unknown:
        raise SettingsError(f'unknown key "{SECTION}.{unknown[0]}"; the keys are {", ".join(_KEYS)}')
    values = {_KEYS[key]: _value(key, value) for key, value in section.items()}
    stable = float(configuration.get("StableAge", DEFAULT_STABLE_SECONDS))
    settings = BridgeSettings(stable_seconds=stable, **values)
    if settings.token and not settings.node_url:
        raise SettingsError(f'"{SECTION}.Token" needs "{SECTION}.NodeUrl"')
    return settings


def _value(key: str, value: Any) -> Any:
    checks = {
        "Modality": (_is_text, "a name of DicomModalities"),
        "NodeUrl": (lambda url: _is_text(url) and url.startswith(("http://", "https://")), "an http(s) address"),
        "Token": (_is_token, "the token of the node's [monitoring]"),
        "Since": (_is_moment, f'"{FIRST_START}", "{ALWAYS}" or a date such as "2026-01-31"'),
        "Modalities": (lambda names: _is_list(names, _is_text), "a list of modalities"),
        "ReconcileSeconds": (_is_positive, "seconds"),
        "SeriesInFlight": (lambda count: _is_positive(count) and isinstance(count, int), "a number of series"),
        "RetrySeconds": (lambda pauses: _is_list(pauses, _is_positive), "a list of seconds"),
        "Metadata": (lambda number: isinstance(number, int) and 1024 <= number <= 65535, "a number, 1024 to 65535"),
    }
    is_right, expected = checks[key]
    if not is_right(value):
        told = "" if key == "Token" else f", and is {value!r}"  # what is said here goes to Orthanc's log
        raise SettingsError(f'"{SECTION}.{key}" has to be {expected}{told}')
    return tuple(value) if isinstance(value, list) else value.rstrip("/") if key == "NodeUrl" else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_token(value: Any) -> bool:
    return _is_text(value) and value.isascii() and value.isprintable() and " " not in value


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_list(value: Any, is_item: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_item(item) for item in value)


def _is_moment(value: Any) -> bool:
    if value in (FIRST_START, ALWAYS):
        return True
    try:
        return isinstance(value, str) and len(value) == 10 and bool(datetime.fromisoformat(value))
    except ValueError:
        return False
