"""``train``, ``evaluate``, ``render``: the models' side."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_node.cli.printing import print_json, print_table
from dicom_node.errors import UsageError
from dicom_node.logs import configure_logs
from dicom_node.workflow import card_named


def run_train(configuration: Path, maps: Path, output: Path, *, minutes: float) -> None:
    """Train for some minutes, from where the last run in the same folder stopped.

    Raises:
        UsageError: The configuration or a label map is missing or wrong.
    """
    from models.training import read_plan, train  # noqa: PLC0415 - torch

    configure_logs(json=False)
    try:
        total = read_plan(configuration).steps
        columns = (TextColumn("step {task.completed}"), BarColumn(), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=total)

            def show(step: int, losses: Mapping[str, float]) -> None:
                described = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
                progress.update(task, completed=step, description=described)

            weights = train(configuration, maps=maps, out=output, resume=True, minutes=minutes, progress=show)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    sys.stdout.write(f"{weights}\n")


def run_evaluate(
    image: Path, labels: Path, *, card_name: str, modality: str, table: Path | None, as_json: bool
) -> None:
    """Print the agreement of a card with a reference, structure by structure.

    Raises:
        UsageError: A file is missing or of another grid.
    """
    from models.evaluation import evaluate  # noqa: PLC0415 - torch

    try:
        agreements = evaluate(card_named(card_name), image, labels, modality, table=table)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    if as_json:
        print_json([vars(item) for item in agreements])
        return
    columns = ("structure", "Dice", "surface Dice", "HD95 mm", "volume ml", "reference ml")
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
    print_table(f"{card_name} on {image.name} as {modality}", columns, rows)


def run_render(configuration: Path, maps: Path, output: Path, *, seed: int) -> None:
    """Draw rendered training images into a PNG.

    Raises:
        UsageError: The configuration or a label map is missing or wrong.
    """
    from models.preview import render_preview  # noqa: PLC0415 - torch

    try:
        render_preview(configuration, output, maps=maps, seed=seed)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    sys.stdout.write(f"{output}\n")
