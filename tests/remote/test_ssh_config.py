"""The ssh configuration of a host, as the real ``ssh -G`` prints it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fanout.model.errors import UsageError
from fanout.model.settings import Settings
from fanout.remote.transports.select import TransportSelector
from fanout.remote.transports.ssh_config import SshConfig, parse_jump
from tests.remote.ways import build_host

pytestmark = pytest.mark.process


def config_of(tmp_path: Path, text: str, **more: object) -> SshConfig:
    path = tmp_path / "config"
    path.write_bytes(text.encode("latin-1"))
    return SshConfig(file=str(path), **more)  # type: ignore[arg-type]


def test_the_hostfile_and_the_flags_override_the_configuration(tmp_path: Path) -> None:
    config = config_of(tmp_path, "Host a\n HostName 10.0.0.9\n User conf\n Port 99\n", user="flag")
    plain = config.resolve_host(build_host("a"))
    assert (plain.hostname, plain.user, plain.port) == ("10.0.0.9", "flag", 99)
    given = config.resolve_host(build_host("a", user="line", port=7, hostname="10.0.0.1"))
    assert (given.hostname, given.user, given.port) == ("10.0.0.1", "line", 7)


def test_options_of_the_command_line_are_for_the_target_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path, "Host a\n ProxyJump j\n", options=("Port=77", "User=me"))
    jump, target = config.resolve_path(build_host("a"))
    assert (target.port, target.user) == (77, "me")
    assert jump.port == 22


def test_a_comment_behind_a_value_and_bytes_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    options = config_of(tmp_path, "# caf\xe9\nHost a # the big one\n Port 99 # docker\n HostName h # x\n").resolve_host(
        build_host("a")
    )
    assert (options.hostname, options.port) == ("h", 99)


def test_jumps_are_visited_in_the_order_in_which_they_are_written(tmp_path: Path) -> None:
    config = config_of(
        tmp_path, "Host c\n ProxyJump me@a:2201,ssh://b\nHost a\n ProxyJump z\nHost b\n ProxyJump no.invalid\n"
    )
    assert [one.connect_address for one in config.resolve_path(build_host("c"))] == ["z:22", "a:2201", "b:22", "c:22"]
    assert config.resolve_path(build_host("c"))[1].user == "me"


def test_no_jump_is_made_for_proxyjump_none(tmp_path: Path) -> None:
    config = config_of(tmp_path, "Host a\n ProxyJump none\nHost *\n ProxyJump bastion\n")
    assert [one.name for one in config.resolve_path(build_host("a"))] == ["a"]


@pytest.mark.parametrize("text", ["Host *\n ProxyJump a\n", "Host b\n ProxyJump a\nHost a\n ProxyJump b\n"])
def test_jumps_in_a_circle_are_an_error_that_names_them(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"loop|its own jump host"):
        config_of(tmp_path, text).resolve_path(build_host("b"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host a\n Port abc\n", "line 2: Bad port 'abc'"),
        ("Host a\n HostName\n", "line 2: no argument after keyword"),
        ("Host b\n Colour blue\n", "line 2: Bad configuration option: colour"),
        ("Host a\n IdentityFile /k/${NOT_SET_HERE}\n", "no variable NOT_SET_HERE"),
    ],
)
def test_a_broken_configuration_is_an_error_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        config_of(tmp_path, text).resolve_host(build_host("a"))
    assert "\n" not in str(raised.value)


def write_counting_ssh(tmp_path: Path, count: Path) -> str:
    """Write an ssh that counts its calls."""
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\necho x >>{count}\nexec ssh "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_many_hosts_of_one_kind_take_one_question(tmp_path: Path) -> None:
    """Addresses, users, ports, keys and jumps of their own make no other kind; another time-out does."""
    blocks = [
        f"Host h{n}\n HostName 10.0.0.{n}\n User u{n}\n Port {n + 1}\n IdentityFile ~/.ssh/k{n}\n ProxyJump j\n"
        for n in range(64)
    ]
    text = "".join(blocks) + "Host slow\n ConnectTimeout 99\nHost *\n ConnectTimeout 9\n"
    config = config_of(tmp_path, text, program=write_counting_ssh(tmp_path, tmp_path / "count"))
    for number in range(64):
        options = config.resolve_host(build_host(f"h{number}"))
        assert (options.hostname, options.port, options.user) == (f"10.0.0.{number}", number + 1, f"u{number}")
        assert options.identity_files[0].endswith(f"/.ssh/k{number}")
        assert options.connect_timeout == 9
    assert config.resolve_host(build_host("slow")).connect_timeout == 99
    assert (tmp_path / "count").read_text().count("x") == 2


def test_an_ssh_that_reads_the_files_differently_is_queried_for_every_host(tmp_path: Path) -> None:
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\nssh "$@" | sed "s/^port .*/port 4444/"\n')
    program.chmod(0o755)
    config = config_of(tmp_path, "Host *\n Port 99\n", program=str(program))
    assert [config.resolve_host(build_host(name)).port for name in ("a", "b")] == [4444, 4444]


def test_a_machine_without_ssh_reads_the_files_by_itself(tmp_path: Path) -> None:
    text = "Host a # big\n HostName 10.0.0.1\n ProxyJump j\n IdentityFile %d/k\n StrictHostKeyChecking no\n"
    config = config_of(tmp_path, text, program=str(tmp_path / "no-ssh"))
    jump, target = config.resolve_path(build_host("a"))
    assert (jump.connect_address, target.connect_address, target.strict_host_key_checking) == (
        "j:22",
        "10.0.0.1:22",
        "no",
    )
    assert target.identity_files_given
    assert not jump.identity_files_given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host a\n Port 9\nMatch exec true\n", "config:3: Match exec"),
        ("Host b\nHost a\n Colour blue\n", "config:3: colour is not a keyword of OpenSSH"),
        ("Host a\n ConnectTimeout x\n", "config:2: connecttimeout cannot be `x`"),
        ("Host a\n CanonicalizeHostname yes\n", "config:2: canonicalizehostname"),
    ],
)
def test_without_ssh_a_line_that_only_ssh_can_read_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        config_of(tmp_path, text, program=str(tmp_path / "no-ssh")).resolve_host(build_host("a"))
    assert "OpenSSH" in raised.value.hint


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
    question = parse_jump(spec)
    assert (question.name, question.user, question.port) == (name, user, port)


@pytest.mark.parametrize("spec", ["b:x", "", "@", "[::1]:x"])
def test_an_entry_of_proxy_jump_that_names_no_host_is_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        parse_jump(spec)


@pytest.mark.parametrize("exec_", ["", "Match exec true\n Compression yes\n"], ids=["read here", "asked of ssh"])
@pytest.mark.parametrize("transport", ["auto", "ssh", "openssh"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host h7\n ProxyJump j\nHost j\n ProxyJump h7\n", "loop|its own jump host"),
        ("Host h7\n IdentityFile /k/${NOT_SET_HERE}\n", "h7.*NOT_SET_HERE|NOT_SET_HERE.*h7"),
    ],
)
def test_a_wrong_line_for_one_host_of_many_is_found_before_any_login(
    tmp_path: Path, text: str, message: str, transport: str, exec_: str
) -> None:
    path = tmp_path / "config"
    path.write_text(f"{exec_}{text}")
    picker = TransportSelector(Settings(transport=transport, ssh_config=str(path)), user="me", agent=False)
    picker.check_config([build_host(f"h{number}") for number in range(7)])
    with pytest.raises(UsageError, match=message):
        picker.check_config([build_host(f"h{number}") for number in range(9)])


def test_ssh_is_asked_once_for_many_hosts_of_one_kind(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\necho >> {calls}\nexec ssh "$@"\n')
    program.chmod(0o755)
    config = config_of(tmp_path, "Host *\n User me\n", program=str(program))
    config.check([build_host(f"h{number}") for number in range(50)])
    assert len(calls.read_text().splitlines()) == 1


def test_a_command_of_match_exec_that_holds_the_pipes_delays_no_error(tmp_path: Path) -> None:
    """The query for ``held`` is not needed after the error for ``bad``. Its child holds both pipes."""
    program, child = tmp_path / "ssh", tmp_path / "child"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *bad*) until [ -s {child} ]; do sleep 0.05; done; echo no >&2; exit 255;; esac\n'
        f"sleep 1007 &\necho $! > {child}\nexec sleep 1007\n"
    )
    program.chmod(0o755)
    config = config_of(tmp_path, "Match exec true\n Port 9\n", program=str(program))
    try:
        with pytest.raises(UsageError, match="no"):
            config.check([build_host("bad"), build_host("held")])
    finally:
        os.kill(int(child.read_text()), signal.SIGKILL)
