"""``evaluate``: how good a network is, on real scans, on rendered images, fused; and the proof of the method."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dicom_node.cli.printing import print_json, print_table
from dicom_node.cli.usage import refusals_as_usage
from dicom_node.workflow import card_named

REAL_COLUMNS = (
    ("structure", "{structure}"),
    ("Dice", "{dice:.3f}"),
    ("surface Dice", "{surface_dice:.3f}"),
    ("HD95 mm", "{hd95_mm:.1f}"),
    ("volume ml", "{volume_ml:.0f}"),
    ("reference ml", "{reference_ml:.0f}"),
)
FUSION_COLUMNS = (
    ("images", "{images}"),
    ("MR displaced mm", "{shift_mm:.0f}"),
    ("bone Dice", "{bone:.3f}"),
    ("cartilage Dice", "{cartilage:.3f}"),
)
ABLATION_COLUMNS = (
    ("method", "{method}"),
    ("parameters", "{parameters}"),
    ("CT", "{ct:.3f}"),
    ("MR", "{mr:.3f}"),
    ("mean", "{mean:.3f}"),
    ("± 95 %", "{mean_ci:.3f}"),
    ("over ours", "{over_ours:+.3f}"),
    ("± 95 %", "{over_ours_ci:.3f}"),
)
"""Title and format of each column."""


@dataclass(frozen=True)
class RenderedChoice:
    """What is rendered for a measurement: configuration, folder of maps, names of maps, how many, which contrasts."""

    configuration: Path
    maps: Path
    names: Sequence[str]
    images: int
    unseen: bool


def run_evaluate(  # noqa: PLR0913 - as the command's options
    image: Path, labels: Path, *, card_name: str, modality: str, table: Path | None, weights: Path | None, as_json: bool
) -> None:
    """Print the agreement of a card with a reference, structure by structure; cleaned as the node's results are.

    Raises:
        UsageError: A file is missing or of another grid.
    """
    from dicom_node.segment.cleaning import tidy  # noqa: PLC0415 - torch
    from models.evaluation import evaluate  # noqa: PLC0415 - torch

    card = card_named(card_name)
    finish = partial(tidy, names=card.structures, voxel_mm3=math.prod(card.spacing_mm))

    with refusals_as_usage():
        agreements = evaluate(card, image, labels, modality, table=table, weights=weights, finish=finish)
    if as_json:
        print_json([vars(item) | {"hd95_mm": _finite(item.hd95_mm)} for item in agreements])
        return
    rows = [_cells(item, REAL_COLUMNS) for item in agreements]
    print_table(f"{card_name} on {image.name} as {modality}", [title for title, _ in REAL_COLUMNS], rows)


def run_rendered(choice: RenderedChoice, *, card_name: str, weights: Path | None, as_json: bool) -> None:
    """Print the Dice of a card on images rendered from label maps, as CT, as MR, as either of unknown kind, and fused.

    Raises:
        UsageError: The configuration, a label map or the weights are missing or wrong.
    """
    from models.evaluation import rendered_columns  # noqa: PLC0415 - torch

    with refusals_as_usage():
        columns = rendered_columns(
            card_named(card_name), choice.configuration, choice.maps, choice.names, images=choice.images,
            weights=weights, unseen=choice.unseen,
        )  # fmt: skip
    if as_json:
        print_json(columns)
        return
    names = [name for name in card_named(card_name).structures if any(name in dice for dice in columns.values())]
    rows = [(name, *(_score(dice.get(name)) for dice in columns.values())) for name in names]
    rows.append(("mean", *(_score(sum(dice.values()) / max(1, len(dice))) for dice in columns.values())))
    print_table(f"{card_name} on {choice.images} renderings", ("structure", *columns), rows)


def run_fusion(choice: RenderedChoice, *, card_name: str, weights: Path | None, as_json: bool) -> None:
    """Print what a CT and MR pair brings over either alone, over misregistration.

    Raises:
        UsageError: As for `run_rendered`.
    """
    from models.evaluation import fused_rows  # noqa: PLC0415 - torch

    with refusals_as_usage():
        rows = fused_rows(
            card_named(card_name), choice.configuration, choice.maps, choice.names, images=choice.images,
            weights=weights,
        )  # fmt: skip
    if as_json:
        print_json([vars(row) for row in rows])
        return
    cells = [_cells(row, FUSION_COLUMNS) for row in rows]
    print_table(f"{card_name}: bone only in CT, cartilage only in MR", [title for title, _ in FUSION_COLUMNS], cells)


def run_ablation_table(maps: Path, *, seeds: int, as_json: bool) -> None:
    """Print the proof of the method: every way of learning from unpaired CT and MR, side by side.

    Raises:
        UsageError: A label map is missing.
    """
    from models.ablation import METHODS, load_ablation_maps, run_ablation, summarise  # noqa: PLC0415 - torch

    with refusals_as_usage():
        train_maps, test_map = load_ablation_maps(maps)
    total = seeds * len(METHODS)
    done = 0

    def show(outcome: object) -> None:
        nonlocal done
        done += 1
        sys.stderr.write(f"{done} of {total}: {outcome}\n")

    rows = summarise(run_ablation(train_maps, test_map, seeds=range(1, seeds + 1), progress=show))
    if as_json:
        print_json([vars(row) for row in rows])
        return
    cells = [_cells(row, ABLATION_COLUMNS) for row in rows]
    print_table(f"Dice on a body never seen, {seeds} seeds", [title for title, _ in ABLATION_COLUMNS], cells)


def _cells(measured: object, columns: Sequence[tuple[str, str]]) -> list[str]:
    """One row of a table: each column's format filled with the attributes of what was measured."""
    return [form.format(**vars(measured)) for _, form in columns]


def _finite(value: float) -> float | None:
    """JSON has no infinity: what was not found has no distance."""
    return value if math.isfinite(value) else None


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
