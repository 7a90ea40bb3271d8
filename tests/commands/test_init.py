"""``fanout init``: a hostfile from the Host entries of ssh_config; it asks first and never overwrites a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.cli.parser import parse_arguments
from fanout.commands import init
from fanout.hostfile import read_host_list
from tests.process_contexts import build_process

CONFIG = """\
Include {folder}/conf.d/*
Host github.com
  User git
Host gpu01 gpu02 !gpu03 *.lab gpu0?
  User ann
  SetEnv A="b c"
host = login
Host gpu01
Match host gpu09
Host *
  ForwardAgent no
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an ssh_config with an included file, and work in an empty directory."""
    (tmp_path / "ssh" / "conf.d").mkdir(parents=True)
    (tmp_path / "ssh" / "conf.d" / "more").write_text("Host jump.lab\n  HostName 192.0.2.1\n")
    path = tmp_path / "ssh" / "config"
    path.write_text(CONFIG.format(folder=tmp_path / "ssh"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PWD", str(tmp_path / "work"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return path


def list_written(path: str) -> list[str]:
    """Return the hosts of the file that init wrote."""
    return [host.name for host in read_host_list(path, stdin=lambda _: b"", environ={}).hosts]


def test_init_writes_each_concrete_name_once_in_order(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--yes", "-F", str(config)]) == 0
    names = ["jump.lab", "gpu01", "gpu02", "login"]
    assert list_written("hosts.txt") == names
    out, err = capsys.readouterr()
    assert out.split() == names
    assert "wrote hosts.txt with 4 hosts" in err
    assert f"next:  fanout check --ssh-config {config} hosts.txt" in err
    assert f"come from {config}.\n" in Path("hosts.txt").read_text()


def test_init_takes_only_matching_names(config: Path) -> None:
    assert main(["init", "-y", "--match", "gpu*,login", "-F", str(config), "lab.txt"]) == 0
    assert list_written("lab.txt") == ["gpu01", "gpu02", "login"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_init_never_overwrites_a_file(config: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    if kind == "file":
        Path("hosts.txt").write_text("gpu07\n")
    else:
        Path("hosts.txt").symlink_to("missing.txt")
    assert main(["init", "--yes", "-F", str(config)]) == 2
    assert "hosts.txt exists" in capsys.readouterr().err
    assert not Path("missing.txt").exists()
    assert kind == "link" or Path("hosts.txt").read_text() == "gpu07\n"


@pytest.mark.parametrize(
    ("text", "message"), [("Host *\n", "has no Host entry"), ("", "has no Host entry"), ("Host a\n", "that matches x*")]
)
def test_init_without_a_name_writes_nothing(
    config: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    config.write_text(text)
    match = ["--match", "x*"] if "matches" in message else []
    assert main(["init", "--yes", *match, "-F", str(config)]) == 2
    assert message in capsys.readouterr().err
    assert not Path("hosts.txt").exists()


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_init_asks_before_it_writes(config: Path, answer: str, status: int) -> None:
    err = io.StringIO()
    process = build_process(Path.cwd(), io.StringIO(), stderr=err, line=lambda: answer, keyboard=0)
    assert init.run_init(parse_arguments(["init", "-F", str(config)]), process) == status
    assert "write these 4 hosts to hosts.txt? [y/N]" in err.getvalue()
    assert Path("hosts.txt").exists() == (status == 0)


def test_init_without_a_terminal_needs_yes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "-F", str(config)]) == 2
    assert "try:  fanout init --yes hosts.txt" in capsys.readouterr().err
    assert not Path("hosts.txt").exists()
