"""``fanout hosts --ssh``: each value of a login, and where it comes from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

CONFIG = """\
Host gpu1 gpu2
  HostName 10.0.0.1
  ProxyJump j,k
  IdentityFile /not/there
  IdentitiesOnly yes
Host j
  User me
  Port 2201
Match exec "test %n = odd"
  Port 77
Host *
  StrictHostKeyChecking accept-new
"""


def run_hosts(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "config").write_text(CONFIG.replace("Match exec", "#") if "odd" not in words else CONFIG)
    (tmp_path / "hosts.txt").write_text("ada@gpu1:2222\ngpu2\nlocalhost\n")
    argv = [sys.executable, "-m", "fanout", "hosts", "--ssh", "-F", "config", *words]
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)


def read_output(tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    done = run_hosts(tmp_path, "--json", *words)
    assert done.returncode == 0, done.stderr
    logins: list[dict[str, Any]] = json.loads(done.stdout)
    return logins


def test_each_value_names_the_line_the_flag_or_the_default_that_it_comes_from(tmp_path: Path) -> None:
    first, second, here = read_output(tmp_path, "-l", "bob", "-o", "ConnectTimeout=4", "hosts.txt")
    config = tmp_path / "config"
    assert first["address"] == {"value": "10.0.0.1", "from": f"{config}:2"}
    assert first["port"] == {"value": 2222, "from": "hosts.txt:1"}
    assert first["user"] == {"value": "ada", "from": "hosts.txt:1"}
    assert first["keys"] == {"value": ["/not/there (no such file: skipped)"], "from": f"{config}:4"}
    assert first["jump_hosts"]["value"][0] == "j (me@j:2201)"
    assert first["jump_hosts"]["from"] == f"{config}:3"
    assert first["agent"]["from"] == f"{config}:5"
    assert "accepted and kept" in first["host_key"]["value"]
    assert first["host_key"]["from"] == f"{config}:12"
    assert first["by_hand"] == f"ssh -F {config} -o ConnectTimeout=4 -p 2222 ada@gpu1"
    assert second["user"] == {"value": "bob", "from": "--user"}
    assert second["port"] == {"value": 22, "from": "default"}
    assert here["transport"]["value"] == "ssh"  # another user than ours: a login is meant


def test_an_option_of_the_command_line_is_its_own_origin(tmp_path: Path) -> None:
    (login,) = read_output(tmp_path, "-o", "Port=99", "-o", "ProxyJump=none", "gpu2")
    assert login["port"] == {"value": 99, "from": "-o"}
    assert "jump_hosts" not in login


def test_a_line_that_only_ssh_can_read_names_ssh(tmp_path: Path) -> None:
    (login,) = read_output(tmp_path, "odd")
    assert login["port"] == {"value": 77, "from": "ssh -G"}


def test_a_switch_to_the_ssh_program_names_the_option_that_wants_it(tmp_path: Path) -> None:
    (login,) = read_output(tmp_path, "-o", "VerifyHostKeyDNS=yes", "gpu2")
    assert login["transport"]["value"] == "openssh"
    assert "verifyhostkeydns" in login["transport"]["from"]


def test_own_machine_needs_no_ssh(tmp_path: Path) -> None:
    (login,) = read_output(tmp_path, "localhost")
    assert login == {"host": "localhost", "transport": {"value": "local", "from": "default (auto)"}, "by_hand": None}


def test_a_person_reads_a_line_for_each_value(tmp_path: Path) -> None:
    done = run_hosts(tmp_path, "gpu2")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["gpu2"]
    assert ["address", "10.0.0.1", f"{tmp_path}/config:2"] in lines
    assert ["port", "22", "default"] in lines


def test_a_configuration_that_ssh_refuses_is_a_usage_error(tmp_path: Path) -> None:
    done = run_hosts(tmp_path, "-o", "Colour=blue", "gpu1")
    assert done.returncode == 2
    assert "Bad configuration option: colour" in done.stderr
    assert "Traceback" not in done.stderr
