"""A card: what one use of the shared network does, and how well. Torch-free."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Card:
    """One use of the shared network.

    Attributes:
        name: The card's name: ``torso``, ``knee``.
        version: Version of card and weights together.
        anatomy: Output layer of the shared network that the card uses.
        modalities: Modalities it accepts: "CT", "MR".
        structures: Names (of anatomy.toml), in the order of the labels 1..N.
        spacing_mm: (z, y, x) grid the network works on.
        window: (k, j, i) voxels of one sliding window.
        weights: File of the weights.
        weights_sha256: Their SHA-256, lower-case hexadecimal.
        document: The whole card as read: training maps, licences, quality, limits.
    """

    name: str
    version: str
    anatomy: str
    modalities: tuple[str, ...]
    structures: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    window: tuple[int, int, int]
    weights: Path
    weights_sha256: str
    document: dict[str, Any]


def list_cards() -> tuple[str, ...]:
    """Names of the cards in the package, sorted."""
    return tuple(sorted(entry.name[:-5] for entry in _cards_folder().iterdir() if _is_card(entry)))


def load_card(name: str) -> Card:
    """A card by its name in the package, or by the path of a card file.

    Raises:
        ValueError: There is no such card, or it lacks a key.
    """
    path = Path(name) if name.endswith(".toml") else _cards_folder() / f"{name}.toml"
    if not path.is_file():
        raise ValueError(f'no card "{name}": the cards are {", ".join(list_cards())}')
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        return Card(
            name=document["name"],
            version=document["version"],
            anatomy=document["anatomy"],
            modalities=tuple(document["modalities"]),
            structures=tuple(document["structures"]),
            spacing_mm=_triple(document["spacing_mm"], float),
            window=_triple(document["window"], int),
            weights=(path.parent / document["weights"]["file"]).resolve(),
            weights_sha256=document["weights"]["sha256"],
            document=document,
        )
    except KeyError as error:
        raise ValueError(f"{path}: the card lacks {error}") from error


def _cards_folder() -> Path:
    with as_file(files("models") / "cards") as folder:
        return folder


def _is_card(entry: Path) -> bool:
    return entry.suffix == ".toml" and "structures" in tomllib.loads(entry.read_text(encoding="utf-8"))


def _triple(values: list[Any], kind: type) -> tuple[Any, Any, Any]:
    first, second, third = (kind(value) for value in values)
    return first, second, third
