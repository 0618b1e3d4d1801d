"""``--structures S.toml``: what the numbers of a label map mean, and which structures have a file of their own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from dicom_node.anatomy import Structure, load_anatomy, parse_structure, plain_text
from dicom_node.errors import SettingsError, UsageError
from dicom_node.results.coding import ANATOMICAL_STRUCTURE, color_of_name

_OWN_KEYS = ("type", "category", "color", "laterality", "modifier", "region", "interpreted_type", "alias")
_FILE_KEYS: tuple[Literal["mask", "probability"], ...] = ("mask", "probability")
_MAX_LABEL = 65535
_ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")


@dataclass(frozen=True)
class StructureFile:
    """A structure's own file.

    Attributes:
        path: Where it lies; not looked for yet.
        kind: "mask" (the structure is where the file is not zero) or "probability" (where it is at least one half).
    """

    path: Path
    kind: Literal["mask", "probability"]


@dataclass(frozen=True)
class StructureTable:
    """A label map's legend.

    Attributes:
        structures: What each label means.
        files: Labels of the structures that have a file of their own; the others stand in the one label map.
        algorithm: Name of what made the labels; empty where the file does not say.
        version: Its version; empty where the file does not say.
        algorithm_type: "AUTOMATIC", "SEMIAUTOMATIC" or "MANUAL".
    """

    structures: dict[int, Structure] = field(default_factory=dict)
    files: dict[int, StructureFile] = field(default_factory=dict)
    algorithm: str = ""
    version: str = ""
    algorithm_type: str = "AUTOMATIC"


def load_structure_table(path: Path, folder: Path | None = None) -> StructureTable:
    """Read the table.

    ::

        [[structure]]
        label = 1
        name = "Liver"            # of anatomy.toml

        [[structure]]
        label = 7
        name = "Implant"          # anything else brings its own code, and its colour if it likes
        type = { value = "40388003", meaning = "Implant", scheme = "SCT" }
        category = { value = "260787004", meaning = "Physical object" }
        color = [200, 200, 210]

        [[structure]]
        name = "Spleen"           # a file of its own: any voxel but 0; may overlap others; label may be left out
        mask = "spleen.nii.gz"

        [[structure]]
        name = "Heart"
        probability = "heart.nii.gz"    # inside where it is at least one half

        [algorithm]               # optional: what made the labels
        name = "My network"
        version = "2.0"
        type = "AUTOMATIC"        # or "SEMIAUTOMATIC", "MANUAL"

    Args:
        path: The table.
        folder: What ``mask`` and ``probability`` are relative to; the table's own folder where None.

    Raises:
        UsageError: There is no such file.
        SettingsError: It is not TOML, has an unknown key, a structure lacks something, or DICOM cannot hold a value.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; expected a TOML file with [[structure]] tables") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    _refuse_unknown(document, ("structure", "algorithm"), path.name)
    entries, algorithm = document.get("structure", []), document.get("algorithm", {})
    if not isinstance(entries, list) or not isinstance(algorithm, dict):
        raise SettingsError(f"{path.name}: expected [[structure]] tables and at most one [algorithm]")
    _refuse_unknown(algorithm, ("name", "version", "type"), f"{path.name}: [algorithm]")
    if algorithm.get("type", "AUTOMATIC") not in _ALGORITHM_TYPES:
        raise SettingsError(f"{path.name}: [algorithm] type is one of {_ALGORITHM_TYPES}, got {algorithm['type']!r}")
    structures = _structures(entries, path.name)
    return StructureTable(
        structures=structures,
        files=_files(entries, list(structures), folder or path.parent, path.name),
        algorithm=_algorithm_text(algorithm, "name", path.name),
        version=_algorithm_text(algorithm, "version", path.name),
        algorithm_type=algorithm.get("type", "AUTOMATIC"),
    )


def _algorithm_text(algorithm: dict[str, Any], key: str, origin: str) -> str:
    """A number is taken as it is written: ``version = 2.0``."""
    value = algorithm.get(key, "")
    try:
        return plain_text(str(value) if type(value) in (int, float) else value, key, 64, least=0)
    except ValueError as error:
        raise SettingsError(f"{origin}: [algorithm] {error}") from error


def _structures(entries: list[dict[str, Any]], origin: str) -> dict[int, Structure]:
    """Structures by label, in the order of the entries."""
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError(f'{origin}: no [[structure]]; expected tables with label = 1 and name = "Liver"')
    structures: dict[int, Structure] = {}
    given = {entry["label"] for entry in entries if isinstance(entry.get("label"), int)}
    free = (number for number in count(1) if number not in given)
    for entry in entries:
        label = entry.get("label")
        if label is None and any(key in entry for key in _FILE_KEYS):
            label = next(free)
        if not isinstance(label, int) or isinstance(label, bool) or not 0 < label <= _MAX_LABEL:
            raise SettingsError(f"{origin}: label is a whole number from 1 to {_MAX_LABEL}, got {label!r}")
        structure = _structure(entry, origin)
        names = {known.name.casefold() for known in structures.values()}
        if label in structures or structure.name.casefold() in names:
            raise SettingsError(f"{origin}: label {label} or name {structure.name!r} is there twice")
        structures[label] = structure
    outlines = [item.name for item in structures.values() if item.interpreted_type == "EXTERNAL"]
    if len(outlines) > 1:
        raise SettingsError(f"{origin}: a structure set has one body outline (EXTERNAL), got {', '.join(outlines)}")
    return structures


def _files(entries: list[dict[str, Any]], labels: list[int], folder: Path, origin: str) -> dict[int, StructureFile]:
    """The structures' own files; ``labels`` in the order of the entries."""
    files: dict[int, StructureFile] = {}
    for entry, label in zip(entries, labels, strict=True):
        kinds = [key for key in _FILE_KEYS if key in entry]
        if not kinds:
            continue
        if len(kinds) > 1:
            raise SettingsError(f"{origin}: structure {entry['name']!r} has a mask and a probability; give one of them")
        name = entry[kinds[0]]
        if not isinstance(name, str) or not name.strip():
            raise SettingsError(f"{origin}: {kinds[0]} is the name of a file, got {name!r}")
        files[label] = StructureFile(path=folder / name, kind=kinds[0])
    return files


def _structure(entry: dict[str, Any], origin: str) -> Structure:
    _refuse_unknown(
        entry, ("label", "name", *_FILE_KEYS, *_OWN_KEYS), f"{origin}: structure {entry.get('name', '?')!r}"
    )
    own = [key for key in _OWN_KEYS if key in entry]
    name = entry.get("name")
    if not isinstance(name, str):
        raise SettingsError(f"{origin}: name is a text of 1 to 64 characters, got {name!r}")
    known = load_anatomy().get(name)
    if known and not own:
        return known
    if "type" not in entry:
        raise SettingsError(
            f"{origin}: {name!r} is not in anatomy.toml; use one of {', '.join(sorted(load_anatomy()))}, or give it "
            'a code of its own: type = { value = "...", meaning = "...", scheme = "SCT" }'
        )
    category = {"value": ANATOMICAL_STRUCTURE.value, "meaning": ANATOMICAL_STRUCTURE.meaning}
    return parse_structure({"category": category, "color": color_of_name(name), **entry}, origin=origin)


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...], origin: str) -> None:
    for key in table:
        if key not in known:
            raise SettingsError(f'{origin}: unknown key "{key}"; the keys are {", ".join(known)}')
