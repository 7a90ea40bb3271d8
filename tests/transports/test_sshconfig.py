"""What ssh's configuration says about a host, asked of the real ``ssh -G``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.errors import LauncherError, UsageError
from fanout.transports.sshconfig import SshConfig, jump_question
from tests.transports.ways import host

pytestmark = pytest.mark.process


def config_of(tmp_path: Path, text: str, **more: object) -> SshConfig:
    path = tmp_path / "config"
    path.write_bytes(text.encode("latin-1"))
    return SshConfig(file=str(path), **more)  # type: ignore[arg-type]


def test_the_hostfile_and_the_flags_override_the_configuration(tmp_path: Path) -> None:
    config = config_of(tmp_path, "Host a\n HostName 10.0.0.9\n User conf\n Port 99\n", user="flag")
    plain = config.resolve(host("a"))
    assert (plain.hostname, plain.user, plain.port) == ("10.0.0.9", "flag", 99)
    given = config.resolve(host("a", user="line", port=7, hostname="10.0.0.1"))
    assert (given.hostname, given.user, given.port) == ("10.0.0.1", "line", 7)


def test_options_of_the_command_line_are_for_the_target_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path, "Host a\n ProxyJump j\n", options=("Port=77", "User=me"))
    jump, target = config.chain(host("a"))
    assert (target.port, target.user) == (77, "me")
    assert jump.port == 22


def test_a_comment_behind_a_value_and_bytes_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    options = config_of(tmp_path, "# caf\xe9\nHost a # the big one\n Port 99 # docker\n HostName h # x\n").resolve(
        host("a")
    )
    assert (options.hostname, options.port) == ("h", 99)


def test_jumps_are_visited_in_the_order_in_which_they_are_written(tmp_path: Path) -> None:
    config = config_of(
        tmp_path, "Host c\n ProxyJump me@a:2201,ssh://b\nHost a\n ProxyJump z\nHost b\n ProxyJump no.invalid\n"
    )
    assert [one.address for one in config.chain(host("c"))] == ["z:22", "a:2201", "b:22", "c:22"]
    assert config.chain(host("c"))[1].user == "me"


def test_no_jump_is_made_where_the_configuration_says_none(tmp_path: Path) -> None:
    config = config_of(tmp_path, "Host a\n ProxyJump none\nHost *\n ProxyJump bastion\n")
    assert [one.name for one in config.chain(host("a"))] == ["a"]


@pytest.mark.parametrize("text", ["Host *\n ProxyJump a\n", "Host b\n ProxyJump a\nHost a\n ProxyJump b\n"])
def test_jumps_in_a_circle_are_an_error_that_names_them(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"loop|its own jump host"):
        config_of(tmp_path, text).chain(host("b"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Host a\n Port abc\n", "line 2: Bad port 'abc'"),
        ("Host a\n HostName\n", "line 2: no argument after keyword"),
        ("Host b\n Colour blue\n", "line 2: Bad configuration option: colour"),
        ("Host a\n IdentityFile /k/${NOT_SET_HERE}\n", "no variable NOT_SET_HERE"),
    ],
)
def test_a_broken_configuration_is_an_error_with_file_and_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        config_of(tmp_path, text).resolve(host("a"))
    assert "\n" not in str(raised.value)


def test_a_machine_without_ssh_is_told_so(tmp_path: Path) -> None:
    config = config_of(tmp_path, "Host a\n", program=str(tmp_path / "no-ssh"))
    with pytest.raises(LauncherError, match="no `ssh` program"):
        config.resolve(host("a"))


def test_one_question_is_asked_once(tmp_path: Path) -> None:
    counted = tmp_path / "count"
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\necho x >>{counted}\nexec ssh "$@"\n')
    program.chmod(0o755)
    config = config_of(tmp_path, "Host a\n", program=str(program))
    assert config.resolve(host("a")) is config.resolve(host("a"))
    config.resolve(host("a", port=3))
    assert counted.read_text().count("x") == 2


@pytest.mark.parametrize(
    ("spec", "name", "user", "port"),
    [
        ("b", "b", "", None),
        ("u@b:22", "b", "u", 22),
        ("u@v@b", "b", "u@v", None),
        ("ssh://u@b:22", "b", "u", 22),
        ("ssh://b/", "b", "", None),
        ("[fe80::1]:33", "fe80::1", "", 33),
        ("ssh://u@[::1]:33", "::1", "u", 33),
        ("fe80::1", "fe80::1", "", None),
    ],
)
def test_an_entry_of_proxy_jump_is_read_as_ssh_reads_it(spec: str, name: str, user: str, port: int | None) -> None:
    question = jump_question(spec)
    assert (question.name, question.user, question.port) == (name, user, port)


@pytest.mark.parametrize("spec", ["b:x", "", "@", "[::1]:x"])
def test_an_entry_of_proxy_jump_that_names_no_host_is_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        jump_question(spec)
