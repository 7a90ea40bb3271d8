"""The command line: a user's mistake is one sentence, a hint and status 2, before any host is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.cli.main import main

PLAIN = "gpu01 slots=2\ngpu02 slots=2\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a project with a script, a task, a config and two unreachable hosts."""
    for name, text in {
        "train.sh": "echo never\n",
        "task.py": "",
        "cfg.yaml": "train:\n  lr: 1.0\n",
        "hosts.txt": PLAIN,
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "home").mkdir()
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "PWD": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_refused(line: str, capsys: pytest.CaptureFixture[str], *, status: int = 2) -> str:
    """Run a wrong command line; return its one sentence, with the hint."""
    assert main(line.split()) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("fanout: ")
    return err


RUN = "run --dry-run hosts.txt task.py cfg.yaml"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("run --nope hosts.txt task.py", "run: unknown flag --nope"),
        ("launch hosts.txt", "unknown command 'launch'"),
        ("run hosts.txt", "TASK"),
        ("run", "TASK"),
        ("run --dry-run missing.txt task.py", "missing.txt"),
        ("run --dry-run hosts.txt missing.py", "no task missing.py in "),
        ("run --dry-run hosts.txt task.py missing.yaml", "no config missing.yaml in "),
        ("run --dry-run --env 1A=x hosts.txt task.py", "'1A' is not a name for an environment variable"),
        (
            "run --dry-run --env FANOUT_NO_SUCH hosts.txt task.py",
            "--env FANOUT_NO_SUCH: this variable is not set in this shell",
        ),
        ("run --dry-run --env RANK=1 hosts.txt task.py", "--env: RANK is set by fanout for each host"),
        ("run --dry-run --env-file no.env hosts.txt task.py", "--env-file no.env: No such file or directory"),
        ("run --dry-run -F no_config hosts.txt task.py", "no_config: no such file"),
        ("run --dry-run --master-port 99999 hosts.txt task.py", "--master-port must be from 1 to 65535"),
        ("run --dry-run localhost,gpu02 --nproc-per-node 1 task.py", 'means "myself" on every host'),
        ("check", "check: HOSTS is missing"),
        ("exec hosts.txt", "exec: no command"),
    ],
)
def test_a_wrong_line_is_reported_in_a_sentence(
    project: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    assert says in run_refused(line, capsys)
    assert not (project / "state").exists()


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("hosts.txt", "", "hosts.txt"),
        ("hosts.txt", "# nobody\n\n", "hosts.txt"),
        ("hosts.txt", "gpu01 slots=2\ngpu02 slots=many\n", "hosts.txt:2"),
        ("hosts.txt", "gpu01 slots=2\ngpu01 slots=2\n", "hosts.txt:2"),
        ("cfg.yaml", "a: 1\nb: [1\nc: 2\n", "cfg.yaml:3:2: not valid YAML"),
        ("cfg.yaml", "a:\n\t- 1\n", "cfg.yaml:2:1: not valid YAML"),
        (
            "fanout.toml",
            "grace = 'soon'\n",
            "fanout.toml: grace must be a duration such as 90, 90s, 10m, 2h or 1d, not 'soon'",
        ),
        ("fanout.toml", "grace = \n", "fanout.toml: Invalid value (at line 1, column 9)"),
        ("fanout.toml", "grase = 1\n", "fanout.toml: unknown setting 'grase'"),
        ("pyproject.toml", "[tool.fanout]\nshell = 'fish'\n", "pyproject.toml: shell must be one of bash, sh"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, says: str
) -> None:
    (project / file).write_text(text)
    assert says in run_refused(RUN, capsys)


@pytest.mark.parametrize(
    ("file", "data", "says"),
    [
        ("hosts.txt", b"gpu01\xff\xfe\n", "hosts.txt"),
        ("cfg.yaml", b"a: \xff\n", "cfg.yaml: cannot read it"),
        ("cfg.yaml", b"[" * 5000, "cfg.yaml"),
        ("fanout.toml", b"a = '\xff'\n", "fanout.toml"),
    ],
)
def test_bytes_that_are_no_text_are_reported_too(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, data: bytes, says: str
) -> None:
    (project / file).write_bytes(data)
    assert says in run_refused(RUN, capsys)


def test_a_directory_is_no_hostfile(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "dir").mkdir()
    assert "dir" in run_refused("run --dry-run ./dir task.py", capsys)


def test_every_refusal_has_a_command_to_type(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("run hosts.txt missing.py", "launch x", "run --nope hosts.txt task.py"):
        assert "\n        try:  " in run_refused(line, capsys)


def test_a_dry_run_prints_a_block_for_each_host_and_touches_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in project.iterdir())
    assert main(RUN.split()) == 0
    out, err = capsys.readouterr()
    assert out.count("bash -o pipefail train.sh task.py cfg.yaml") == 2
    assert f"cd {project}" in out
    assert err == ""
    assert sorted(path.name for path in project.iterdir()) == before


def test_a_project_without_a_script_gets_torchrun(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "train.sh").unlink()
    assert main(RUN.split()) == 0
    assert "torchrun --nnodes=2 --nproc-per-node=2 --node-rank=1 --master-addr=gpu01" in capsys.readouterr().out


def test_settings_come_from_the_nearest_file(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "fanout.toml").write_text("master-port = 29501\nscript = 'other.sh'\n")
    (project / "home" / ".config" / "fanout").mkdir(parents=True)
    (project / "home" / ".config" / "fanout" / "config.toml").write_text("master-port = 1\nshell = 'sh'\n")
    (project / "other.sh").write_text("")
    assert main(RUN.split()) == 0
    out = capsys.readouterr().out
    assert "export MASTER_PORT=29501" in out
    assert "sh other.sh task.py" in out
    monkeypatch.setenv("FANOUT_MASTER_PORT", "29502")
    assert main(RUN.split()) == 0
    assert "export MASTER_PORT=29502" in capsys.readouterr().out


def test_values_come_from_files_and_from_this_shell(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "my.env").write_text("# values\nexport A='one two'\nB=file\n\nC=\"x=y\"\n")
    monkeypatch.setenv("FROM_HERE", "here")
    assert (
        main(
            [
                "run",
                "--dry-run",
                "--env-file",
                "my.env",
                "-E",
                "B=line",
                "-E",
                "FROM_HERE",
                *"hosts.txt task.py".split(),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    for line in ("export A='one two'", 'export B="line"', 'export C="x=y"', 'export FROM_HERE="here"'):
        assert f"\n{line}\n" in out


def test_a_meaningless_line_of_an_env_file_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "my.env").write_text("A=1\nnonsense\n")
    assert "my.env:2: not NAME=VALUE" in run_refused("run -n --env-file my.env hosts.txt task.py", capsys)


def test_hosts_may_be_on_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("run -n --nproc-per-node 1 gpu[01-03],login task.py".split()) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")] == [
        f"# {name}  (node rank {rank})" for rank, name in enumerate(("gpu01", "gpu02", "gpu03", "login"))
    ]


def test_hosts_shows_how_the_hostfile_was_parsed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hosts", "hosts.txt", "--json"]) == 0
    assert [host["host"] for host in json.loads(capsys.readouterr().out)] == ["gpu01", "gpu02"]


def test_version_and_help_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(["--version"]), main(["run", "--help"])) == (0, 0)
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------------------------------------- the real executable


def run_fanout(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fanout", *words]
    return subprocess.run(argv, cwd=project, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.process
def test_the_executable_exits_with_the_status(project: Path) -> None:
    done = run_fanout(project, "run", "hosts.txt", "missing.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"fanout: no task missing.py in {project}"


@pytest.mark.process
@pytest.mark.parametrize("words", ["run -n hosts.txt task.py", "hosts hosts.txt", "--help"])
def test_a_reader_that_closes_the_pipe_causes_no_traceback(project: Path, words: str) -> None:
    gone, out = os.pipe()
    os.close(gone)
    argv = [sys.executable, "-m", "fanout", *words.split()]
    done = subprocess.run(argv, cwd=project, stdout=out, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(out)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.process
def test_an_unreachable_host_is_255_and_named(project: Path) -> None:
    """192.0.2.0/24 is for documentation; a name under .invalid never resolves."""
    (project / "hosts.txt").write_text("nowhere.invalid slots=1\n")
    done = run_fanout(project, "run", "--skip-check", "--venv", "none", "hosts.txt", "task.py")
    assert done.returncode == 255
    assert "nowhere.invalid" in done.stderr
    assert "does not resolve" in done.stderr
    assert "Traceback" not in done.stderr
