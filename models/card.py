"""A card: what one use of the shared network does, and how well. Torch-free."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

FAST = ":fast"
"""Ends the name of a card's coarser, faster variant: ``torso:fast``."""


@dataclass(frozen=True)
class Averaging:
    """What is averaged when the network is asked; every entry, and every further zoom, asks it once more.

    Attributes:
        flip_left_right: Also the mirrored image; only for anatomies without sides that were trained mirrored.
        as_unknown: Also as an image of unknown modality; MR alone, since a CT is standardised otherwise.
        zooms: Voxels along an axis of the grid the network sees, per voxel of the card's grid: above 1 a finer grid.
    """

    flip_left_right: bool = False
    as_unknown: bool = False
    zooms: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Check that there is a grid to ask on."""
        if not self.zooms or min(self.zooms) <= 0:
            raise ValueError(f"expected [averaging] zooms above 0, at least one, got {list(self.zooms)}")


@dataclass(frozen=True)
class Appearance:
    """How far the image itself, as each structure looks in it, moves the network's answer.

    Attributes:
        share: Weight of the brightness against the network's answer: 0 not at all, 1 as if voxels were independent.
        smoothing: Weight of the neighbours' probabilities, in units of the scores.
        rounds: How often brightness and probabilities are settled in turns.
        temperature: What the scores are divided by in the end, so that they are no surer than the network was:
            neighbours are no independent witnesses.
    """

    share: float = 0.0
    smoothing: float = 4.0
    rounds: int = 6
    temperature: float = 2.5

    def __post_init__(self) -> None:
        """Check the limits."""
        if min(self.share, self.smoothing, self.rounds) < 0 or self.temperature <= 0:
            raise ValueError("expected [appearance] share, smoothing, rounds of at least 0, a temperature above 0")


@dataclass(frozen=True)
class Card:
    """One use of the shared network.

    Attributes:
        name: The card's name: ``torso``, ``knee``; with `FAST` at its end the variant on the coarser grid.
        version: Version of card and weights together.
        anatomy: Output layer of the shared network that the card uses.
        modalities: Modalities it accepts: "CT", "MR".
        structures: Names (of anatomy.toml), in the order of the labels 1..N.
        spacing_mm: (z, y, x) grid the network works on.
        window: (k, j, i) voxels of one sliding window.
        weights: File of the weights.
        weights_sha256: Their SHA-256, lower-case hexadecimal.
        averaging: What is averaged when the network is asked; a fast variant has its own, ``[fast.averaging]``.
        appearance: How far the image moves the answer; a fast variant has its own, ``[fast.appearance]``.
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
    averaging: Averaging = Averaging()
    appearance: Appearance = Appearance()


def list_cards() -> tuple[str, ...]:
    """Names of the cards in the package, sorted."""
    return tuple(sorted(entry.name[:-5] for entry in _cards_folder().iterdir() if _is_card(entry)))


def list_variants() -> tuple[str, ...]:
    """Names of the cards in the package and of their fast variants, sorted."""
    cards = [load_card(name) for name in list_cards()]
    return tuple(sorted(card.name + end for card in cards for end in ("", FAST) if not end or "fast" in card.document))


def load_card(name: str) -> Card:
    """A card by its name in the package, or by the path of a card file; `FAST` behind either asks for that variant.

    Raises:
        ValueError: There is no such card or variant, or it lacks a key.
    """
    base, fast = name.removesuffix(FAST), name.endswith(FAST)
    path = Path(base) if base.endswith(".toml") else _cards_folder() / f"{base}.toml"
    if not path.is_file():
        raise ValueError(
            f'no card "{name}": the cards are {", ".join(list_cards())}, each with "{FAST}" too where it has one'
        )
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    if fast and "fast" not in document:
        raise ValueError(f'the card "{base}" has no fast variant')
    grid = document["fast"] if fast else document
    try:
        return Card(
            name=document["name"] + (FAST if fast else ""),
            version=document["version"],
            anatomy=document["anatomy"],
            modalities=tuple(document["modalities"]),
            structures=tuple(document["structures"]),
            spacing_mm=_triple(grid["spacing_mm"], float),
            window=_triple(grid["window"], int),
            weights=(path.parent / document["weights"]["file"]).resolve(),
            weights_sha256=document["weights"]["sha256"],
            document=document,
            averaging=_averaging(grid.get("averaging", {})),
            appearance=Appearance(**grid.get("appearance", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the card lacks a key, or has a wrong one or one too many: {error}") from error


def _averaging(table: dict[str, Any]) -> Averaging:
    zooms = tuple(float(zoom) for zoom in table.get("zooms", [1.0]))
    return Averaging(**(table | {"zooms": zooms}))


def _cards_folder() -> Path:
    with as_file(files("models") / "cards") as folder:
        return folder


def _is_card(entry: Path) -> bool:
    return entry.suffix == ".toml" and "structures" in tomllib.loads(entry.read_text(encoding="utf-8"))


def _triple(values: list[Any], kind: type) -> tuple[Any, Any, Any]:
    first, second, third = (kind(value) for value in values)
    return first, second, third
