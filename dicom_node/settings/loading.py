"""node.toml -> :class:`Settings`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from dicom_node.errors import SettingsError
from dicom_node.settings.whole import Settings

CONFIG_VARIABLE: Final = "DICOM_NODE_CONFIG"
HOME_VARIABLE: Final = "DICOM_NODE_HOME"


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: The file; else ``$DICOM_NODE_CONFIG``, else ``./node.toml``, else the defaults.
            ``$DICOM_NODE_HOME`` replaces a home that the file does not set.

    Raises:
        SettingsError: The file is missing, is not TOML, has an unknown key or a wrong value.
    """
    source = _config_path(path)
    tables = _read_toml(source) if source else {}
    return parse_settings(tables, origin=str(source) if source else "defaults")


def parse_settings(tables: dict[str, Any], *, origin: str) -> Settings:
    """Validate settings that were read already.

    Args:
        tables: The TOML document.
        origin: What error messages call it.

    Raises:
        SettingsError: An unknown key or a wrong value, by name.
    """
    node = dict(tables.get("node", {})) if isinstance(tables.get("node", {}), dict) else tables["node"]
    if isinstance(node, dict) and "home" not in node and os.environ.get(HOME_VARIABLE):
        tables = {**tables, "node": {**node, "home": os.environ[HOME_VARIABLE]}}
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        raise SettingsError(f"{origin}: " + "; ".join(_plain(item) for item in error.errors())) from error


def _config_path(path: Path | None) -> Path | None:
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"{named}: no such configuration file")
        return named
    local = Path("node.toml")
    return local if local.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors of Windows put a byte order mark first
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error


def _plain(item: Any) -> str:
    kinds = {"dimse", "dicomweb"} if item["loc"][:1] == ("destination",) else set()
    place = ".".join(str(part) for part in item["loc"] if part not in kinds) or "settings"
    if item["type"] == "extra_forbidden":
        return f'unknown key "{place}"'
    return f"{place}: {item['msg']}"
