"""``train``, ``render``: making the networks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_node.cli.usage import refusals_as_usage
from dicom_node.logs import configure_logs


def run_train(  # noqa: PLR0913 - as the command's options
    configuration: Path,
    maps: Path,
    output: Path,
    *,
    minutes: float,
    without: Sequence[str],
    start: Path | None,
    device: str,
) -> None:
    """Train for some minutes, from where the last run in the same folder stopped.

    Raises:
        UsageError: The configuration or a label map is missing or wrong.
    """
    from models.plan import read_plan  # noqa: PLC0415 - torch
    from models.training import Trainer, train  # noqa: PLC0415 - torch
    from models.training_log import TrainingLog  # noqa: PLC0415 - torch

    configure_logs(json=False)
    columns = (TextColumn("step {task.completed}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with refusals_as_usage():
        total = read_plan(configuration).steps
        with Progress(*columns, console=Console(stderr=True)) as progress, closing(TrainingLog(output)) as log:
            task = progress.add_task("", total=total)

            def show(trainer: Trainer, losses: Mapping[str, float]) -> None:
                described = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
                progress.update(task, completed=trainer.step, description=described)

            weights = train(
                configuration, maps=maps, out=output, resume=True, minutes=minutes, device=device, without=without,
                start=start, observers=(show, log.note),
            )  # fmt: skip
    sys.stdout.write(f"{weights}\n")


def run_render(configuration: Path, maps: Path, output: Path, *, seed: int) -> None:
    """Draw rendered training images into a PNG.

    Raises:
        UsageError: The configuration or a label map is missing or wrong.
    """
    from models.preview import render_preview  # noqa: PLC0415 - torch

    with refusals_as_usage():
        render_preview(configuration, output, maps=maps, seed=seed)
    sys.stdout.write(f"{output}\n")
