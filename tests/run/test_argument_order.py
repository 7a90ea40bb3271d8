"""Order of HOSTS and TASK: swapped words are refused with the command that was meant; fanout.toml may name the hosts."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.cli.parser import parse_arguments
from fanout.model.errors import UsageError
from fanout.run.argument_order import resolve_hosts
from fanout.run.load_settings import load_settings
from tests.process_contexts import build_process

FILES = {
    "hosts.txt": "gpu01 slots=2\ngpu02 slots=2\n",
    "task.py": "import os\n",
    "cfg.yaml": "train:\n  lr: 1.0\n",
    "train.sh": "echo never\n",
    "inventory.yaml": "all:\n  hosts:\n    gpu01:\n",
    "launch": "#!/usr/bin/env python3\nimport os\n",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a project, and work in it."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "below").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PWD", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "FANOUT_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("run task.py hosts.txt", "fanout run hosts.txt task.py"),
        ("run --grace 5s task.py hosts.txt --lr 1", "fanout run --grace 5s hosts.txt task.py --lr 1"),
        ("run task.py cfg.yaml", "fanout run hosts.txt task.py cfg.yaml"),
        ("run train.sh", "fanout run hosts.txt train.sh"),
        ("run launch task.py", "fanout run hosts.txt task.py launch"),
        ("run cfg.yaml task.py", "fanout run hosts.txt task.py cfg.yaml"),
        ("run cfg.yaml hosts.txt task.py", "fanout run hosts.txt task.py cfg.yaml"),
        ("run hosts.txt cfg.yaml task.py", "fanout run hosts.txt task.py cfg.yaml"),
        ("run gpu01 cfg.yaml task.py", "fanout run gpu01 task.py cfg.yaml"),
        ("run hosts.txt hosts.txt", "fanout run hosts.txt task.py"),
        ("run gpu01 gpu02 task.py", "fanout run gpu01,gpu02 task.py"),
        ("check task.py inventory.yaml", "fanout check inventory.yaml task.py"),
        ("check task.py", "fanout check hosts.txt task.py"),
        ("check", "fanout check hosts.txt"),
        ("hosts", "fanout hosts hosts.txt"),
        ("exec -- uname -a", "fanout exec hosts.txt -- uname -a"),
        ("clean -y", "fanout clean -y hosts.txt"),
    ],
)
def test_words_in_another_order_lead_to_the_command_that_was_meant(line: str, meant: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolve_hosts(parse_arguments(shlex.split(line)), "")
    assert raised.value.hint == meant
    again = parse_arguments(shlex.split(meant)[1:])
    assert resolve_hosts(again, "") == again  # the command that the hint names is right


@pytest.mark.parametrize(
    "line",
    [
        "run hosts.txt task.py cfg.yaml",
        "run gpu01,gpu02 task.py hosts.txt",
        "run inventory.yaml task.py cfg.yaml",
        "run gpu01 launch cfg.yaml",
        "run hosts.txt cfg.yaml",
        "run hosts.txt -- cfg.yaml task.py",
        "run - task.py",
        "run hosts.txt missing.py cfg.yaml",
        "check hosts.txt",
        "exec gpu01 -- task.py hosts.txt",
    ],
)
def test_a_line_in_order_stays_as_it_is(line: str) -> None:
    request = parse_arguments(shlex.split(line))
    assert resolve_hosts(request, "") == request


@pytest.mark.parametrize(
    ("line", "hosts", "task"),
    [
        ("run task.py cfg.yaml", "lab.txt", ("task.py", "cfg.yaml")),
        ("run -n ./train.sh", "lab.txt", ("./train.sh",)),
        ("run gpu01 task.py", "gpu01", ("task.py",)),
        ("check", "lab.txt", ()),
        ("check task.py", "lab.txt", ("task.py",)),
        ("exec -- uname -a", "lab.txt", ("uname", "-a")),
        ("exec gpu01 -- uname", "gpu01", ("uname",)),
        ("hosts", "lab.txt", ()),
        ("clean", "lab.txt", ()),
    ],
)
def test_hosts_may_be_left_out_if_the_settings_name_them(line: str, hosts: str, task: tuple[str, ...]) -> None:
    request = resolve_hosts(parse_arguments(shlex.split(line)), "lab.txt")
    assert (request.hosts, request.task) == (hosts, task)


def test_a_hostfile_after_the_task_is_refused_also_if_the_settings_name_the_hosts() -> None:
    with pytest.raises(UsageError, match=r"hosts.txt is a hostfile"):
        resolve_hosts(parse_arguments(["run", "task.py", "hosts.txt"]), "lab.txt")


@pytest.mark.parametrize("directory", [".", "below"])
def test_the_hosts_of_a_file_are_relative_to_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], directory: str
) -> None:
    (project / "fanout.toml").write_text('hosts = "hosts.txt"\n')
    monkeypatch.chdir(project / directory)
    monkeypatch.setenv("PWD", str(project / directory))
    assert main(["hosts", "--json"]) == 0
    assert '"gpu02"' in capsys.readouterr().out
    monkeypatch.setenv("FANOUT_HOSTS", "gpu[07-08]")
    assert main(["hosts"]) == 0
    assert "gpu08" in capsys.readouterr().out


def test_the_ssh_config_of_a_file_is_relative_to_it(project: Path) -> None:
    (project / "fanout.toml").write_text('ssh-config = "lab/ssh_config"\n')
    process = build_process(project / "below", io.StringIO())
    assert load_settings(parse_arguments(["hosts", "h1"]), process).settings.ssh_config == str(
        project / "lab" / "ssh_config"
    )
    flags = parse_arguments(["hosts", "-F", "mine", "h1"])
    assert load_settings(flags, process).settings.ssh_config == str(project / "below" / "mine")


def test_a_mistyped_task_leads_to_the_nearest_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-n", "hosts.txt", "tsak.py", "cfg.yaml"]) == 2
    assert "try:  fanout run -n hosts.txt task.py cfg.yaml\n" in capsys.readouterr().err


def test_a_config_is_no_task_for_torchrun(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-n", "hosts.txt", "cfg.yaml"]) == 0
    (project / "train.sh").unlink()
    capsys.readouterr()
    assert main(["run", "-n", "hosts.txt", "cfg.yaml"]) == 2
    assert "cfg.yaml is not a program" in capsys.readouterr().err
