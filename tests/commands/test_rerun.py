"""``fanout rerun``: the recorded command line has no value of --env, and a run is repeated only if nothing is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.cli.parser import parse_arguments
from fanout.record.command_record import COMMAND_FILE, build_command_record, read_command_record
from tests import histories
from tests.record.test_run_writer import write_run

TASK = ["task.py", "cfg.yaml", "--train.lr", "1e-4", "--dry"]


def record_command(directory: Path, *flags: str, hosts: str = "localhost", cwd: str = "") -> None:
    """Write the command line of a run into its record."""
    request = parse_arguments(["run", *flags, hosts, "--", *TASK])
    made = build_command_record(request, {"FANOUT_MASTER_PORT": "29511"}, cwd or str(Path.cwd()))
    (directory / COMMAND_FILE).write_text(made.to_json(), encoding="utf-8")


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a record of a run, and make its project directory the current one."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("task.py", "cfg.yaml", "train.sh"):
        (project / name).write_text("", encoding="utf-8")
    monkeypatch.chdir(project)
    monkeypatch.setenv("PWD", str(project))
    write_run(tmp_path / "runs" / "7f3a", histories.good_run())
    return tmp_path / "runs" / "7f3a"


def repeat_run(recorded: Path, *words: str) -> int:
    return main(["rerun", "--log-dir", str(recorded.parent), *words])


@pytest.mark.parametrize(
    "flags",
    [
        ("--env", "API=s3cret"),
        ("--env=API=s3cret",),
        ("-E", "API=s3cret"),
        ("-EAPI=s3cret",),
        ("-dEAPI=s3cret",),
        ("-E", "API=s3cret", "--env", "API=s3cret"),
    ],
)
def test_no_spelling_of_env_leaves_its_value_in_the_record(flags: tuple[str, ...]) -> None:
    request = parse_arguments(["run", "--grace", "9", *flags, "hosts.txt", "task.py"])
    made = build_command_record(request, {}, "/p")
    assert "s3cret" not in made.to_json()
    assert made.withheld == ("API",)
    assert [word for word in made.flags if word != "-d"] == ["--grace", "9"]


def test_credentials_of_the_environment_are_not_recorded() -> None:
    request = parse_arguments(["run", "hosts.txt", "task.py"])
    environ = {"FANOUT_MASTER_PORT": "1234", "FANOUT_SETUP": "export U=https://ann:pw@host", "OTHER": "x"}
    assert dict(build_command_record(request, environ, "/p").variables) == {"FANOUT_MASTER_PORT": "1234"}


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record_command(tmp_path, "--env", "HOME", "--max-restarts", "3", "--resume-args", "--resume")
    made = read_command_record(str(tmp_path), "7f3a")
    words = made.build_arguments(("--grace", "9"))
    assert parse_arguments(words).task == tuple(TASK)
    assert words[:9] == ["run", "--env", "HOME", "--max-restarts", "3", "--resume-args", "--resume", "--grace", "9"]
    assert json.loads((tmp_path / COMMAND_FILE).read_text())["v"] == 1


def test_a_run_is_repeated_with_its_own_command_line(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_command(recorded, "--nproc-per-node", "2", "--env", "API=s3cret")
    assert repeat_run(recorded, "--dry-run", "--env", "API=new", "7f3a") == 0
    out, err = capsys.readouterr()
    assert "repeating run 7f3a: fanout run --nproc-per-node 2" in err
    assert "export NPROC_PER_NODE=2" in out
    assert "export MASTER_PORT=29511" in out
    assert "task.py cfg.yaml --train.lr 1e-4 --dry" in out


def test_missing_values_are_named_with_a_command(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_command(recorded, "--env", "API=s3cret", "-E", "OTHER=x")
    assert repeat_run(recorded, "--env", "OTHER=y", "7f3a") == 2
    assert "--env API: values of --env are not recorded" in (err := capsys.readouterr().err)
    assert "--env API=VALUE 7f3a" in err


def test_another_directory_is_refused_with_a_command(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_command(recorded, cwd="/home/ann/my project")
    assert repeat_run(recorded, "7f3a") == 2
    assert "cd '/home/ann/my project' && fanout rerun" in capsys.readouterr().err


def test_hosts_of_standard_input_and_a_record_without_a_command_are_refused(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repeat_run(recorded, "7f3a") == 2
    assert f"no {COMMAND_FILE}" in capsys.readouterr().err
    record_command(recorded, hosts="-")
    assert repeat_run(recorded, "7f3a") == 2
    assert "standard input" in capsys.readouterr().err
