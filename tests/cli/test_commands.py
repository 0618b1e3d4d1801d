"""The commands as a person types them: exit codes, one line on stderr, JSON alone on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.ledger.cases import Cases
from dicom_node.ledger.database import open_database
from dicom_node.settings import load_settings
from tests.certificates import Authority
from tests.ledger.test_cases import CASE
from tests.peers import storescp
from tests.ports import free_port
from tests.running_node import write_config


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['dicom-node', '--help']\n"
        "from dicom_node.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pydicom', 'pynetdicom', 'dbos', 'sqlalchemy', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["segment"], ["cases", "show"], ["serve", "--port", "1"], ["--config", "none.toml", "cases"]],
)
def test_wrong_usage_ends_with_2(arguments: list[str], tmp_path: Path) -> None:
    assert run(*arguments, cwd=tmp_path).returncode == 2


def test_wrong_settings_are_one_line_that_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[node]\naetitle = 'X'\n")
    done = run("cases", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == 'dicom-node: node.toml: unknown key "node.aetitle"\n'


def test_the_configuration_is_taken_before_and_after_the_command(config: Path, tmp_path: Path) -> None:
    Cases(open_database(load_settings(config).database_url)).open(CASE)
    places = (
        ["--config", str(config), "cases", "list", "--json"],
        ["cases", "--config", str(config), "list", "--json"],
        ["cases", "list", "--config", str(config), "--json"],
    )
    for arguments in places:
        assert [case["case_id"] for case in json.loads(run(*arguments, cwd=tmp_path).stdout)] == [CASE.case_id]


def test_json_before_the_subcommand_is_refused_rather_than_ignored(config: Path, tmp_path: Path) -> None:
    assert run("cases", "--config", str(config), "--json", "list", cwd=tmp_path).returncode == 2


def test_looking_for_cases_where_no_node_has_run_makes_nothing(tmp_path: Path) -> None:
    done = run("cases", cwd=tmp_path)
    assert (done.returncode, "no node has run here" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_ledger_is_one_line(config: Path, tmp_path: Path) -> None:
    ledger = load_settings(config).node.home / "node.sqlite"
    ledger.parent.mkdir()
    ledger.write_bytes(b"garbage " * 100)
    done = run("--config", str(config), "cases", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "is damaged" in done.stderr


def test_conformance_of_settings_that_cannot_run_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path, extra='[[rule]]\nname = "x"\ncard = "none"\n')
    assert run("--config", str(config), "conformance", cwd=tmp_path).returncode == 2


def test_a_case_is_listed_shown_and_discarded(config: Path, tmp_path: Path) -> None:
    Cases(open_database(load_settings(config).database_url)).open(CASE)
    listed = run("--config", str(config), "cases", "--json", cwd=tmp_path)
    assert [case["case_id"] for case in json.loads(listed.stdout)] == [CASE.case_id]
    shown = json.loads(run("--config", str(config), "cases", "show", "abab", "--json", cwd=tmp_path).stdout)
    assert (shown["state"], shown["seconds"]) == ("waiting", {"quiet": 20.0})
    discarded = run("--config", str(config), "cases", "discard", "abab", "--json", cwd=tmp_path)
    assert json.loads(discarded.stdout)["state"] == "discarded"


def test_a_retry_leaves_out_destinations_that_are_no_more(config: Path, tmp_path: Path) -> None:
    cases = Cases(open_database(load_settings(config).database_url))
    cases.open(replace(CASE, destinations=["archive", "gone"]))
    cases.advance(CASE.case_id, "held", 1.0, "not delivered")
    assert run("--config", str(config), "cases", "retry", "abab", cwd=tmp_path).returncode == 0
    assert cases.get(CASE.case_id).destinations == ["archive"]


def test_a_case_that_is_not_there_ends_with_2(config: Path, tmp_path: Path) -> None:
    Cases(open_database(load_settings(config).database_url)).open(CASE)
    done = run("--config", str(config), "cases", "show", "zz", cwd=tmp_path)
    assert (done.returncode, "no case begins" in done.stderr) == (2, True)


def test_route_names_the_rule_and_why_earlier_ones_do_not_match(tmp_path: Path) -> None:
    from tests.phantoms import PhantomSpec, write  # noqa: PLC0415 - heavy

    rules = (
        '[[rule]]\nname = "knees"\nwhen = { BodyPartExamined = "KNEE" }\n'
        '[[rule]]\nname = "all CT"\nwhen = { Modality = "CT" }\n'
    )
    config = write_config(tmp_path, extra=rules)
    files = write(PhantomSpec(slices=2), tmp_path / "series")
    (document,) = json.loads(run("--config", str(config), "route", str(files[0]), "--json", cwd=tmp_path).stdout)
    assert document["rule"] == "all CT"
    assert [(item["rule"], item["matched"]) for item in document["trace"]] == [("knees", False), ("all CT", True)]
    assert "BodyPartExamined" in document["trace"][0]["reason"]


def test_route_of_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert run("route", "notes.txt", cwd=tmp_path).returncode == 3


def test_echo_of_a_destination_that_is_down_ends_with_5(config: Path, tmp_path: Path) -> None:
    done = run("--config", str(config), "echo", "archive", cwd=tmp_path)
    assert (done.returncode, "does not answer" in done.stderr) == (5, True)


def test_echo_of_an_unknown_destination_ends_with_2(config: Path, tmp_path: Path) -> None:
    assert run("--config", str(config), "echo", "nowhere", cwd=tmp_path).returncode == 2


def test_the_conformance_statement_names_what_the_settings_add(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    config.write_text(config.read_text().replace("[node]", '[node]\nstorage_classes = ["1.2.840.10008.5.1.4.1.1.128"]'))
    statement = run("--config", str(config), "conformance", cwd=tmp_path).stdout
    assert "Positron Emission Tomography Image Storage | 1.2.840.10008.5.1.4.1.1.128" in statement


def test_the_conformance_statement_tells_of_dicomweb_where_it_is_served(tmp_path: Path) -> None:
    web = (
        '[dicomweb]\nport = 8042\n[[peer]]\nae_title = "GATEWAY"\naddress = "127.0.0.1"\ntoken_file = "token"\n'
        '[[peer]]\nae_title = "SCANNER"\naddress = "127.0.0.1"\n'
    )
    served = run("--config", str(write_config(tmp_path, extra=web)), "conformance", cwd=tmp_path).stdout
    silent = run("--config", str(write_config(tmp_path)), "conformance", cwd=tmp_path).stdout
    assert "POST http://127.0.0.1:8042/dicom-web/studies" in served
    assert "| GATEWAY | 127.0.0.1 | bearer token |" in served
    assert "DICOMweb" not in silent


@pytest.mark.parametrize("command", ["serve", "conformance"])
def test_a_wrong_profile_is_one_line_before_anything_starts(command: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, extra='[profile.tps]\nseg = "x"\n')
    done = run("--config", str(config), command, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "profile 'tps': seg" in done.stderr
    assert not (tmp_path / "home").exists()


def test_the_conformance_statement_says_what_goes_to_whom_and_how(tmp_path: Path) -> None:
    destination = (
        '[[destination]]\nname = "tps"\nae_title = "TPS"\nhost = "10.1.2.3"\nport = 104\nprofile = "planning"\n'
    )
    config = write_config(tmp_path, extra=destination)
    statement = run("--config", str(config), "conformance", cwd=tmp_path).stdout
    assert "| tps | TPS | 10.1.2.3:104 | plain | planning | c-find |" in statement
    assert "| Label Map Segmentation Storage | 1.2.840.10008.5.1.4.1.1.66.7 | SCU |" in statement
    assert "structure sets Implicit VR Little Endian" in statement


def test_the_conformance_statement_is_written_as_a_page(tmp_path: Path) -> None:
    page = tmp_path / "statement.html"
    done = run(
        "--config", str(write_config(tmp_path)), "conformance", "--format", "html", "--output", str(page), cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("options", [("--format", "pdf"), ("--output", "absent/statement.md")])
def test_a_conformance_statement_that_cannot_be_written_is_wrong_usage(
    options: tuple[str, str], tmp_path: Path
) -> None:
    done = run("--config", str(write_config(tmp_path)), "conformance", *options, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_echo_names_the_classes(tmp_path: Path) -> None:
    from tests.deliver.scripted_peer import scripted_peer  # noqa: PLC0415 - heavy

    with scripted_peer() as peer:
        where = peer.destination
        table = f'[[destination]]\nname = "tps"\nae_title = "SCRIPTED"\nhost = "127.0.0.1"\nport = {where.port}\n'
        done = run("--config", str(write_config(tmp_path, extra=table)), "echo", "tps", cwd=tmp_path)
    assert "Label Map Segmentation Storage" in done.stdout
    assert "storage commitment" in done.stdout


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a series, its labels and what they mean."""
    from dicom_node.imaging.label_file import write_label_file  # noqa: PLC0415 - heavy
    from tests.phantoms import PhantomSpec, build, write  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("labelled")
    spec = PhantomSpec(slices=8)
    write(spec, folder / "series")
    phantom = build(spec)
    write_label_file(folder / "labels.nii.gz", phantom.labels, phantom.geometry)
    entries = (f'[[structure]]\nlabel = {label}\nname = "{name}"\n' for label, name in phantom.names.items())
    (folder / "s.toml").write_text("".join(entries))
    return folder


def encode_labels(labelled: Path, folder: Path, *options: str) -> tuple[list[str], list[str]]:
    """Names of the ROIs that ``encode`` wrote, and its notes."""
    from pydicom import dcmread  # noqa: PLC0415 - heavy

    places = [str(labelled / name) for name in ("series", "labels.nii.gz", "s.toml")]
    files = [*places[:2], "--structures", places[2], "--output", str(folder / "out")]
    done = run("encode", *files, *options, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (path,) = (path for path in document["files"] if path.endswith(".rtstruct.dcm"))
    return [roi.ROIName for roi in dcmread(path).StructureSetROISequence], document["notes"]


OUTLINES = "[profile.tps]\nexternal = true\n"


@pytest.mark.parametrize(
    ("options", "is_outlined"),
    [
        ([], False),
        (["--external"], True),
        (["--profile", "tps"], True),
        (["--profile", "tps", "--no-external"], False),
    ],
)
def test_encode_outlines_the_body_where_that_was_asked_for(
    options: list[str], is_outlined: bool, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "node.toml").write_text(OUTLINES)
    names, _ = encode_labels(labelled, tmp_path, *options)
    assert ("External" in names) == is_outlined


def test_encode_says_when_smooth_contours_follow_pixel_edges_all_the_same(labelled: Path, tmp_path: Path) -> None:
    _, notes = encode_labels(labelled, tmp_path, "--contours", "smooth", "--seg", "FRACTIONAL")
    assert [note.split(":")[0] for note in notes] == [
        "contours follow pixel edges",
        "the fractional segmentation holds 0 and 1 alone",
    ]
    assert encode_labels(labelled, tmp_path)[1] == []


@pytest.mark.peer
def test_echo_asks_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.issue("node"), authority.issue("pacs")
    with storescp(tmp_path / "peer", *theirs.dcmtk) as peer:
        table = "[tls]\n" + "".join(f'{key} = "{path}"\n' for key, path in ours.table.items())
        pacs = f'ae_title = "STORE"\nhost = "127.0.0.1"\nport = {peer.destination.port}\n'
        destinations = (
            f'[[destination]]\nname = "pacs"\ntls = true\n{pacs}'
            f'[[destination]]\nname = "other"\ntls = true\ntls_name = "other.test"\n{pacs}'
        )
        config = write_config(tmp_path / "node", extra=table + destinations)
        done = run("--config", str(config), "echo", "pacs", cwd=tmp_path)
        wrong = run("--config", str(config), "echo", "other", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert wrong.returncode == 5
    assert "Hostname mismatch" in wrong.stderr or "not valid for 'other.test'" in wrong.stderr


def test_the_health_of_a_node_that_does_not_run_ends_with_1(tmp_path: Path) -> None:
    config = write_config(tmp_path, extra=f'[monitoring]\nbind = "0.0.0.0"\nport = {free_port()}\n')
    done = run("--config", str(config), "health", cwd=tmp_path)
    assert (done.returncode, "does not answer: ConnectionRefusedError" in done.stderr) == (1, True)


def test_health_without_an_endpoint_names_the_setting(config: Path, tmp_path: Path) -> None:
    done = run("--config", str(config), "health", cwd=tmp_path)
    assert (done.returncode, "[monitoring] port is not set" in done.stderr) == (2, True)


@pytest.mark.parametrize("command", ["serve", "monitor"])
@pytest.mark.parametrize(("role", "complaint"), [("work", "the roles are listener"), ("archive", "no archive runs")])
def test_a_role_that_there_is_not_is_refused(command: str, role: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[archive]\nenabled = false\n")
    done = run(command, "--role", role, cwd=tmp_path)
    assert (done.returncode, complaint in done.stderr) == (2, True)
