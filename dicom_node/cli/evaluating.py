"""``evaluate``: how good a network is, on real scans, on rendered images, fused; and the proof of the method."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.cli.printing import print_json, print_table
from dicom_node.errors import UsageError
from dicom_node.workflow import card_named

REAL_COLUMNS = ("structure", "Dice", "surface Dice", "HD95 mm", "volume ml", "reference ml")
ABLATION_COLUMNS = ("method", "parameters", "CT", "MR", "mean", "± 95 %", "over ours", "± 95 %")


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
    """Print the agreement of a card with a reference, structure by structure.

    Raises:
        UsageError: A file is missing or of another grid.
    """
    from models.evaluation import evaluate  # noqa: PLC0415 - torch

    try:
        agreements = evaluate(card_named(card_name), image, labels, modality, table=table, weights=weights)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    if as_json:
        print_json([vars(item) for item in agreements])
        return
    rows = [
        (
            item.structure,
            f"{item.dice:.3f}",
            f"{item.surface_dice:.3f}",
            f"{item.hd95_mm:.1f}",
            f"{item.volume_ml:.0f}",
            f"{item.reference_ml:.0f}",
        )
        for item in agreements
    ]
    print_table(f"{card_name} on {image.name} as {modality}", REAL_COLUMNS, rows)


def run_rendered(choice: RenderedChoice, *, card_name: str, weights: Path | None, as_json: bool) -> None:
    """Print the Dice of a card on images rendered from label maps, as CT, as MR, as either of unknown kind, and fused.

    Raises:
        UsageError: The configuration, a label map or the weights are missing or wrong.
    """
    from models.evaluation import rendered_columns  # noqa: PLC0415 - torch

    try:
        columns = rendered_columns(
            card_named(card_name), choice.configuration, choice.maps, choice.names, images=choice.images,
            weights=weights, unseen=choice.unseen,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
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

    try:
        rows = fused_rows(
            card_named(card_name), choice.configuration, choice.maps, choice.names, images=choice.images,
            weights=weights,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    if as_json:
        print_json([vars(row) for row in rows])
        return
    columns = ("images", "MR displaced mm", "bone Dice", "cartilage Dice")
    cells = [(row.images, f"{row.shift_mm:.0f}", f"{row.bone:.3f}", f"{row.cartilage:.3f}") for row in rows]
    print_table(f"{card_name}: bone only in CT, cartilage only in MR", columns, cells)


def run_ablation_table(maps: Path, *, seeds: int, as_json: bool) -> None:
    """Print the proof of the method: every way of learning from unpaired CT and MR, side by side.

    Raises:
        UsageError: A label map is missing.
    """
    from models.ablation import METHODS, load_ablation_maps, run_ablation, summarise  # noqa: PLC0415 - torch

    try:
        train_maps, test_map = load_ablation_maps(maps)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
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
    cells = [
        (
            row.method,
            f"{row.parameters}",
            f"{row.ct:.3f}",
            f"{row.mr:.3f}",
            f"{row.mean:.3f}",
            f"{row.mean_ci:.3f}",
            f"{row.over_ours:+.3f}",
            f"{row.over_ours_ci:.3f}",
        )
        for row in rows
    ]
    print_table(f"Dice on a body never seen, {seeds} seeds", ABLATION_COLUMNS, cells)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
