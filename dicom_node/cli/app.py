"""The command line: options of every command and what each calls."""

# Imports stand inside the commands on purpose (start-up time), hence:
# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node import __version__
from dicom_node.errors import UsageError

if TYPE_CHECKING:
    from dicom_node.profiles import Profile
    from dicom_node.settings import Settings

app = typer.Typer(
    name="dicom-node",
    help="Segments CT and MR series and answers with DICOM-SEG and RTSTRUCT. For research use, not a medical device.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cases_app = typer.Typer(help="Show what became of every series.", invoke_without_command=True)
app.add_typer(cases_app, name="cases")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="node.toml; else $DICOM_NODE_CONFIG, ./node.toml, the defaults."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
ProfileOption = Annotated[
    str, typer.Option("--profile", metavar="NAME", help="A destination profile of anatomy.toml or node.toml.")
]
OutputOption = Annotated[Path, typer.Option("--output", metavar="OUT", help="Folder for the results.")]
MapsOption = Annotated[Path, typer.Option("--maps", metavar="DIR", help="Folder of the source label maps.")]
CaseArgument = Annotated[str, typer.Argument(metavar="CASE", help="A case's identity, or the beginning of it.")]
RoleOption = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="listener, worker, archive or audit alone; repeatable. Default: all."),
]
SupervisorOption = Annotated[int | None, typer.Option("--supervised-by", metavar="PID", hidden=True)]


@app.callback()
def _global(
    context: typer.Context,
    config: ConfigOption = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    context.obj = config


def _settings(context: typer.Context, config: Path | None) -> Settings:
    from dicom_node.settings import load_settings

    return load_settings(config or context.find_root().obj)


def _profile(settings: Settings, name: str, wishes: Mapping[str, object]) -> Profile:
    from dicom_node.profiles import load_profiles, parse_profile

    known = load_profiles(settings.profile)
    if name not in known:
        raise UsageError(f'no profile "{name}"; the profiles are {", ".join(sorted(known))}')
    asked = {key: wish for key, wish in wishes.items() if wish is not None}
    return parse_profile({**known[name].model_dump(), **asked}, name)


@app.command()
def serve(context: typer.Context, roles: RoleOption = None, config: ConfigOption = None) -> None:
    """Run the node: listener, worker, embedded archive."""
    from dicom_node.cli.serving import run_serve

    run_serve(_settings(context, config), config or context.find_root().obj, roles or [])


@app.command()
def listen(context: typer.Context, config: ConfigOption = None, supervisor: SupervisorOption = None) -> None:
    """Run the listener alone."""
    from dicom_node.cli.serving import run_listener

    run_listener(_settings(context, config), supervisor=supervisor)


@app.command()
def work(context: typer.Context, config: ConfigOption = None, supervisor: SupervisorOption = None) -> None:
    """Run the worker alone."""
    from dicom_node.cli.serving import run_worker

    run_worker(_settings(context, config), supervisor=supervisor)


@app.command()
def archive(context: typer.Context, config: ConfigOption = None, supervisor: SupervisorOption = None) -> None:
    """Run the embedded archive alone."""
    from dicom_node.cli.serving import run_archive

    run_archive(_settings(context, config), supervisor=supervisor)


@app.command()
def monitor(
    context: typer.Context, roles: RoleOption = None, config: ConfigOption = None, supervisor: SupervisorOption = None
) -> None:
    """Serve metrics, health and readiness alone."""
    from dicom_node.cli.serving import run_monitor

    run_monitor(_settings(context, config), roles or [], supervisor=supervisor)


@app.command()
def health(
    context: typer.Context,
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether images can be taken and processed.")] = False,
    config: ConfigOption = None,
) -> None:
    """Ask the running node how it is; exit code 1 and the reasons where it is not well."""
    from dicom_node.cli.inspecting import run_health

    run_health(_settings(context, config), "ready" if ready else "health")


@app.command()
def audit(context: typer.Context, config: ConfigOption = None, supervisor: SupervisorOption = None) -> None:
    """Write the audit trail alone."""
    from dicom_node.cli.serving import run_audit

    run_audit(_settings(context, config), supervisor=supervisor)


@app.command()
def segment(
    context: typer.Context,
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="DICOM files or folders.")],
    output: OutputOption,
    card: Annotated[str | None, typer.Option("--card", help="Card to use; else the one whose anatomy fits.")] = None,
    profile: ProfileOption = "default",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment files or folders, without a network."""
    from dicom_node.cli.segmenting import run_segment

    run_segment(folders, output, _profile(_settings(context, config), profile, {}), card_name=card, as_json=as_json)


@app.command()
def encode(
    context: typer.Context,
    series: Annotated[Path, typer.Argument(metavar="SERIES", help="Folder or file of the source series.")],
    structures: Annotated[Path, typer.Option("--structures", metavar="S.toml", help="What each label means.")],
    output: OutputOption,
    labels: Annotated[
        Path | None,
        typer.Argument(metavar="LABELS", help="Label map (NIfTI, NRRD), or folder of the files that S.toml names."),
    ] = None,
    profile: ProfileOption = "default",
    contours: Annotated[
        str | None, typer.Option("--contours", help="pixel-edge, or smooth (needs probabilities in S.toml).")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", metavar="MM", help="How far simplified contours may lie off.")
    ] = None,
    seg: Annotated[str | None, typer.Option("--seg", help="BINARY, LABELMAP or FRACTIONAL.")] = None,
    external: Annotated[
        bool | None,
        typer.Option(
            "--external/--no-external",
            help="Outline the body in the RTSTRUCT too; else where a profile of node.toml says external = true.",
        ),
    ] = None,
    allow_irregular: Annotated[
        bool, typer.Option("--allow-irregular", help="Write RTSTRUCT for tilted or unevenly spaced series too.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a label map into DICOM-SEG and RTSTRUCT."""
    from dicom_node.cli.converting import run_encode

    settings = _settings(context, config)
    wishes = {
        "contours": contours,
        "contour_tolerance_mm": tolerance,
        "seg": seg,
        "irregular_contours": allow_irregular or None,
        "external": settings.profile.get(profile, {}).get("external", False) if external is None else external,
    }
    run_encode(series, labels, structures, output, _profile(settings, profile, wishes), as_json=as_json)


@app.command()
def decode(
    result: Annotated[Path, typer.Argument(metavar="OBJECT.dcm", help="A DICOM-SEG or an RTSTRUCT.")],
    series: Annotated[Path, typer.Option("--series", metavar="SERIES", help="Folder or file of its source series.")],
    output: Annotated[Path, typer.Option("--output", metavar="LABELS.nii.gz", help="Label map to write.")],
    as_json: JsonOption = False,
) -> None:
    """Turn a DICOM-SEG or RTSTRUCT into a label map."""
    from dicom_node.cli.converting import run_decode

    run_decode(result, series, output, as_json=as_json)


@app.command()
def route(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files or folders.")],
    sender: Annotated[str, typer.Option("--sender", help="Calling AE title to assume.")] = "ANY",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the rules would do, and why."""
    from dicom_node.cli.inspecting import run_route

    run_route(_settings(context, config), files, sender=sender, as_json=as_json)


@app.command()
def echo(
    context: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="Name of a destination.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a destination what it accepts."""
    from dicom_node.cli.inspecting import run_echo

    run_echo(_settings(context, config), destination, as_json=as_json)


@app.command()
def conformance(
    context: typer.Context,
    form: Annotated[str, typer.Option("--format", help="markdown or html.")] = "markdown",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="File to write; else it is printed.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the DICOM conformance statement of the configuration."""
    from dicom_node.cli.inspecting import run_conformance

    run_conformance(_settings(context, config), form=form, output=output)


@cases_app.callback()
def _cases(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    if context.invoked_subcommand is None:
        from dicom_node.cli.casework import run_list

        run_list(_settings(context, config), states=[], as_json=as_json)
        return
    if config is not None:
        context.find_root().obj = config
    if as_json:
        raise UsageError("write --json after the subcommand: dicom-node cases list --json")


@cases_app.command("list")
def cases_list(
    context: typer.Context,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only cases in this state; repeatable.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the cases, oldest first."""
    from dicom_node.cli.casework import run_list

    run_list(_settings(context, config), states=state or [], as_json=as_json)


@cases_app.command("show")
def cases_show(
    context: typer.Context, case: CaseArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show one case: state, reason, seconds per step, results, deliveries."""
    from dicom_node.cli.casework import run_show

    run_show(_settings(context, config), case, as_json=as_json)


@cases_app.command("retry")
def cases_retry(
    context: typer.Context, case: CaseArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Run a held or discarded case again."""
    from dicom_node.cli.casework import run_retry

    run_retry(_settings(context, config), case, as_json=as_json)


@cases_app.command("discard")
def cases_discard(
    context: typer.Context, case: CaseArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Give a case up; its images stay in the spool until [retention] removes them."""
    from dicom_node.cli.casework import run_discard

    run_discard(_settings(context, config), case, as_json=as_json)


@app.command()
def tidy(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what [retention] lets go: images, results and records of what is finished."""
    from dicom_node.cli.keeping import run_tidy

    run_tidy(_settings(context, config), dry_run=dry_run, as_json=as_json)


@app.command()
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder to make.")],
    images: Annotated[
        bool, typer.Option("--images", help="Copy the received images too, not the record alone.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the record of a node, running or not, to a folder."""
    from dicom_node.cli.keeping import run_backup

    run_backup(_settings(context, config), target, images=images, as_json=as_json)


@app.command()
def restore(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[SOURCE]", help="Folder of a backup; none after pg_restore has brought the database."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the record of a stopped node back, and make it agree with the images that are there."""
    from dicom_node.cli.keeping import run_restore

    run_restore(_settings(context, config), source, as_json=as_json)


@app.command()
def train(
    configuration: Annotated[Path, typer.Argument(metavar="TRAINING.toml", help="What to train on, and how.")],
    maps: MapsOption,
    output: OutputOption,
    minutes: Annotated[float, typer.Option("--minutes", help="Stop after this long; the same command resumes.")] = 60,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="MAP", help="Leave a label map out; may be repeated.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="FILE", help="Weights to begin from, of an earlier training.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
) -> None:
    """Train the shared network; resumes."""
    from dicom_node.cli.training import run_train

    run_train(configuration, maps, output, minutes=minutes, without=without or [], start=start, device=device)


@app.command()
def evaluate(
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE.nii.gz]")] = None,
    labels: Annotated[Path | None, typer.Argument(metavar="[LABELS.nii.gz]", help="On the image's grid.")] = None,
    card: Annotated[str, typer.Option("--card")] = "torso",
    modality: Annotated[str, typer.Option("--modality", help="CT, MR or unknown.")] = "CT",
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="NAMES.json", help="Label to name; else labels are numbered as in the card."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="A training's weights instead of the card's.")
    ] = None,
    rendered: Annotated[
        Path | None, typer.Option("--rendered", metavar="TRAINING.toml", help="Measure on rendered images instead.")
    ] = None,
    fusion: Annotated[
        Path | None, typer.Option("--fusion", metavar="TRAINING.toml", help="Measure what a CT and MR pair brings.")
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="The proof of the method: every way of sharing, side by side.")
    ] = False,
    maps: Annotated[
        Path | None, typer.Option("--maps", metavar="FOLDER", help="Label maps for the rendered measurements.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--map", metavar="NAME", help="Render from this map; may be repeated.")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Renderings per column.")] = 8,
    unseen: Annotated[bool, typer.Option("--unseen", help="Contrasts that training never draws.")] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Seeds of the ablation.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Measure a card on an image with known labels, on rendered images, or the method itself."""
    from dicom_node.cli.evaluating import RenderedChoice, run_ablation_table, run_evaluate, run_fusion, run_rendered
    from dicom_node.errors import UsageError

    if [image is not None, rendered is not None, fusion is not None, ablation].count(True) != 1:
        raise UsageError("give one of: IMAGE and LABELS, --rendered, --fusion, --ablation")
    if image is not None:
        if labels is None:
            raise UsageError("give the LABELS beside the IMAGE")
        run_evaluate(image, labels, card_name=card, modality=modality, table=table, weights=weights, as_json=as_json)
        return
    if maps is None:
        raise UsageError("give the folder of label maps: --maps FOLDER")
    if ablation:
        run_ablation_table(maps, seeds=seeds, as_json=as_json)
    elif rendered is not None:
        choice = RenderedChoice(rendered, maps, only or [], images, unseen)
        run_rendered(choice, card_name=card, weights=weights, as_json=as_json)
    elif fusion is not None:
        choice = RenderedChoice(fusion, maps, only or [], images, unseen)
        run_fusion(choice, card_name=card, weights=weights, as_json=as_json)


@app.command()
def render(
    configuration: Annotated[Path, typer.Argument(metavar="TRAINING.toml", help="What to render from.")],
    maps: MapsOption,
    output: Annotated[Path, typer.Option("--output", metavar="PICTURE.png")],
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Draw examples of the rendered training images."""
    from dicom_node.cli.training import run_render

    run_render(configuration, maps, output, seed=seed)
