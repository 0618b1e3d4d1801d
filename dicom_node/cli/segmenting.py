"""``dicom-node segment``: the path of a case without a network."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dicom_node.cli.printing import print_json, print_table
from dicom_node.errors import InputRefused, NodeError, SeriesRefused
from dicom_node.imaging.instances import SeriesGroup, find_instances
from dicom_node.logs import configure_logs
from dicom_node.profiles import Profile
from dicom_node.results.result_files import SUFFIXES
from dicom_node.route.rules import compile_rules
from dicom_node.segment.inference_process import InferenceProcess
from dicom_node.settings import Settings, parse_settings
from dicom_node.workflow import CaseFiles, CaseWork, card_named, case_identity, decide_series, read_headers

STEPS = ("assemble", "segment", "encode", "verify")
SIDE_PRODUCTS = frozenset({"localizer", "secondary-capture"})
"""Series that lie beside a scan by nature: to refuse them is no failure as long as something was segmented."""


def run_segment(paths: Sequence[Path], output: Path, profile: Profile, *, card_name: str | None, as_json: bool) -> None:
    """Segment every series in files and folders and write ``<OUT>/<SeriesInstanceUID>.seg.dcm``, ``.rtstruct.dcm`` ...

    Exits with the code of the gravest refusal; a localizer or capture beside a segmented series is none.

    Raises:
        InputRefused: There is no image.
        SettingsError: There is no such card.
    """
    configure_logs(json=False, level="WARNING")
    if card_name is not None:
        card_named(card_name)
    discovery = find_instances(paths)
    if not discovery.series:
        reasons = sorted({item.reason for item in discovery.passed_over}) or ["there are no files"]
        raise InputRefused(f"no CT or MR image found: {'; '.join(reasons[:5])}")
    settings = parse_settings({}, origin="defaults")
    with InferenceProcess(
        threads=settings.limits.inference_threads, compiled=settings.limits.inference_compiled
    ) as inference:
        command = _Segmenting(output, profile, card_name, settings, inference)
        outcomes = [command.one(group) for group in discovery.series]
    if as_json:
        print_json(outcomes)
    else:
        _print(outcomes)
    _end(outcomes)


@dataclass(frozen=True)
class _Segmenting:
    """What is the same for every series of one command."""

    output: Path
    profile: Profile
    card_name: str | None
    settings: Settings
    inference: InferenceProcess

    def one(self, group: SeriesGroup) -> dict[str, Any]:
        """Segment one series and say what became of it."""
        outcome: dict[str, Any] = {"series_instance_uid": group.series_instance_uid, "series": group.description}
        try:
            card = self.card_name or _card_of(group, self.settings)
            with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
                facts, seconds = _steps(self._work(group, card, Path(folder)), group.description)
                files = _keep(facts["results"], self.output, group.series_instance_uid)
        except NodeError as error:
            kind = error.kind if isinstance(error, SeriesRefused) else type(error).__name__
            return {**outcome, "refused": error.message, "kind": kind, "exit_code": error.exit_code}
        return {**outcome, "card": card, "files": files, "seconds": seconds, **_told(facts)}

    def _work(self, group: SeriesGroup, card: str, folder: Path) -> CaseWork:
        return CaseWork(
            case_id=case_identity([item.sop_instance_uid for item in group.instances], card),
            card_name=card,
            created_at=time.time(),
            instances=tuple(item.path for item in group.instances),
            files=CaseFiles(folder),
            inference=self.inference,
            timeout_seconds=self.settings.limits.segmentation_seconds,
            profiles=(self.profile,),
            facts={},
        )


def _card_of(group: SeriesGroup, settings: Settings) -> str:
    headers = read_headers([item.path for item in group.instances])
    return decide_series(compile_rules(settings), headers, "").card


def _steps(work: CaseWork, description: str) -> tuple[dict[str, Any], dict[str, float]]:
    facts: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None)
        for step in STEPS:
            progress.update(task, description=f"{description}: {step}")
            started = time.monotonic()
            facts |= getattr(replace(work, facts=facts), step)()
            seconds[step] = round(time.monotonic() - started, 3)
    return facts, seconds


def _keep(results: Sequence[Mapping[str, Any]], output: Path, name: str) -> list[str]:
    """Copy the results of the profile itself; a variant for peers that refuse label maps has no use here."""
    output.mkdir(parents=True, exist_ok=True)
    kept = {result["kind"]: result for result in reversed(results)}
    files = []
    for kind, result in sorted(kept.items(), reverse=True):
        path = output / f"{name}{SUFFIXES[kind]}"
        shutil.copyfile(result["path"], path)
        files.append(str(path))
    return files


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("structures", "confidence", "rim_entropy", "remarks", "warnings", "notes", "verified", "released")
    return {key: facts[key] for key in kept}


def _print(outcomes: Sequence[Mapping[str, Any]]) -> None:
    for outcome in outcomes:
        if "refused" in outcome:
            continue
        rows = [("card", outcome["card"]), ("structures", ", ".join(outcome["structures"]))]
        rows += [("remark", remark) for remark in (*outcome["remarks"], *outcome["warnings"], *outcome["notes"])]
        rows += [("file", file) for file in outcome["files"]]
        rows += [("seconds", ", ".join(f"{step} {seconds:.1f}" for step, seconds in outcome["seconds"].items()))]
        print_table(outcome["series"], ("", ""), rows)


def _end(outcomes: Sequence[Mapping[str, Any]]) -> None:
    refused = [outcome for outcome in outcomes if "refused" in outcome]
    has_results = len(refused) < len(outcomes)
    serious = [item for item in refused if not (has_results and item["kind"] in SIDE_PRODUCTS)]
    for outcome in refused:
        if outcome not in serious:
            sys.stderr.write(f"dicom-node: passed over {outcome['series']}: {outcome['refused']}\n")
    for outcome in serious:
        sys.stderr.write(f"dicom-node: {outcome['series']}: {outcome['refused']}\n")
    if serious:
        raise SystemExit(max(int(outcome["exit_code"]) for outcome in serious))
