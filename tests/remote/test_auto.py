"""``--transport auto`` takes the ssh program where, and only where, the built-in ssh cannot do what is wanted."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.model.errors import AuthRefused, TransportError, Unreachable
from fanout.model.hosts import Host
from fanout.model.settings import Settings
from fanout.remote.transports.auto import AutoTransport, find_program_only_option
from fanout.remote.transports.base import Channel, Deadline
from fanout.remote.transports.notices import Notices
from fanout.remote.transports.select import TransportSelector
from fanout.remote.transports.ssh_config import SshConfig
from fanout.remote.transports.ssh_options import SshOptions
from tests.agent.agents import wait_for
from tests.processes import hold_process
from tests.remote import sshd
from tests.remote.scripted import ScriptedTransport
from tests.remote.sshd import Sshd
from tests.remote.ways import EXACT, build_host, play_script, read_all, start_clock


def build_options(**values: str) -> SshOptions:
    return SshOptions(
        name="a", hostname="a", port=22, user="me", values={key: (value,) for key, value in values.items()}
    )


@pytest.mark.parametrize(
    ("keyword", "value", "beyond"),
    [
        ("knownhostscommand", "/bin/keys %H", True),
        ("knownhostscommand", "none", False),
        ("pkcs11provider", "/usr/lib/opensc.so", True),
        ("verifyhostkeydns", "yes", True),
        ("verifyhostkeydns", "no", False),
        ("gssapiauthentication", "yes", False),  # Debian has it for every host
    ],
)
def test_configuration_that_needs_openssh_is_named(keyword: str, value: str, beyond: bool) -> None:
    reason = find_program_only_option([build_options(**{keyword: value})])
    assert bool(reason) is beyond
    assert not beyond or keyword in reason


class Refusing:
    """A transport that never lets in."""

    name = "refusing"
    open_files = 3

    def __init__(self, error: TransportError) -> None:
        self.error = error
        self.calls = 0

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        self.calls += 1
        raise self.error


def build_refusal(*methods: str) -> AuthRefused:
    error = AuthRefused("no", hint="x")
    error.methods = methods
    return error


class Config(SshConfig):
    """Gives one answer for every host."""

    def __init__(self, answer: SshOptions) -> None:
        super().__init__()
        self._answer = answer

    def connect_path(self, host: Host) -> tuple[SshOptions, ...]:
        return (self._answer,)


def open_transport(auto: AutoTransport) -> None:
    auto.open(build_host("a"), EXACT, Deadline(10.0)).close()


def test_openssh_login_method_is_tried_once_and_kept() -> None:
    builtin, notices = Refusing(build_refusal("gssapi-with-mic")), Notices()
    program = ScriptedTransport(lambda host, attempt: play_script)
    auto = AutoTransport(Config(build_options(gssapiauthentication="yes")), lambda: builtin, program, notices)
    open_transport(auto)
    open_transport(auto)
    assert (builtin.calls, len(program.attempts["a"])) == (1, 2)
    assert notices.take_new() == ["a: logs in with the ssh program, because the host accepts gssapi-with-mic"]


@pytest.mark.parametrize("error", [build_refusal("publickey"), Unreachable("no route", hint="x")])
def test_openssh_is_not_tried_if_it_cannot_help(error: TransportError) -> None:
    builtin, program = Refusing(error), Refusing(build_refusal())
    auto = AutoTransport(Config(build_options(gssapiauthentication="yes")), lambda: builtin, program, Notices())
    with pytest.raises(type(error)):
        open_transport(auto)
    assert program.calls == 0


def test_two_failed_transports_report_the_first_error() -> None:
    error = build_refusal("hostbased")
    notices = Notices()
    program = Refusing(AuthRefused("the program's", hint="x"))
    config = Config(build_options(hostbasedauthentication="yes"))
    auto = AutoTransport(config, lambda: Refusing(error), program, notices)
    with pytest.raises(AuthRefused, match="no"):
        open_transport(auto)
    assert program.calls == 1
    assert notices.take_new() == []


# ------------------------------------------------------------------------------------------------- with a real sshd


@contextlib.contextmanager
def open_master(config: str, path: Path) -> Iterator[None]:
    """Open the connection that a user opened in a terminal, before the host began to want a second factor."""
    words = ["ssh", "-F", config, "-o", "BatchMode=yes", "-M", "-N", "-S", str(path), "lab"]
    check = ["ssh", "-F", config, "-S", str(path), "-O", "check", "lab"]
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    with hold_process(child):  # killed: ssh may miss a SIGTERM that comes just before it waits
        wait_for(
            lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0,
            "the master does not open",
        )
        yield


def build_selector(config: str) -> TransportSelector:
    return TransportSelector(Settings(transport="auto", ssh_config=config), user="me", agent=False)


def read_output(picker: TransportSelector) -> bytes:
    with start_clock(Deadline(30.0)) as deadline:
        channel = picker(build_host("lab")).open(build_host("lab"), EXACT, deadline)
        deadline.mark_done()
    try:
        return read_all(channel)
    finally:
        channel.close()


SECOND = "KbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive\n"


@pytest.mark.process
def test_an_open_control_master_lets_in_where_a_second_factor_is_wanted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The user typed the second factor once, which is played by a server that wants none."""
    socket = tmp_path / "cm"
    with (
        sshd.start_sshd(tmp_path) as server,
        sshd.start_sshd(tmp_path_factory.mktemp("strict"), extra=SECOND) as strict,
    ):
        config = server.write_config(tmp_path / "config", ControlPath=str(socket))
        with open_master(config, socket):
            text = strict.write_config(tmp_path / "other", ControlPath=str(socket))
            picker = build_selector(text)
            assert read_output(picker) == b"a\0b\xff\n"
            (notice,) = picker.notices.take_new()
            assert notice == f"lab: logs in with the ssh program, because it shares the open connection of {socket}"
        picker = build_selector(str(strict.ssh_config))
        with pytest.raises(AuthRefused, match="second factor"):
            read_output(picker)
        assert picker.notices.take_new() == []


@pytest.mark.process
def test_a_known_hosts_command_is_served_by_the_program(server: Sshd, tmp_path: Path) -> None:
    script = tmp_path / "keys"
    script.write_text(f'#!/bin/sh\necho "[127.0.0.1]:{server.port} {server.host_key}"\n')
    script.chmod(0o700)
    config = server.write_config(
        tmp_path / "config", KnownHostsCommand=f"{script} %H", UserKnownHostsFile=str(tmp_path / "none")
    )
    picker = build_selector(config)
    assert read_output(picker) == b"a\0b\xff\n"
    (notice,) = picker.notices.take_new()
    assert "knownhostscommand" in notice
