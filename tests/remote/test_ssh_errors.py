"""Why a login fails, over a real sshd and over sockets that misbehave: one sentence, and what to type next."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fanout.model.errors import AuthRefused, Dropped, HostKeyChanged, HostKeyUnknown, TransportError, Unreachable
from fanout.remote.transports.base import Deadline
from fanout.remote.transports.builtin_ssh import SshTransport
from fanout.remote.transports.ssh_config import SshConfig
from tests.processes import join_threads
from tests.remote.sshd import Sshd, free_port, new_key
from tests.remote.ways import EXACT, build_host, read_all, start_clock

pytestmark = pytest.mark.process


def read_refusal(config: str, *, seconds: float = 20.0, accept_new: bool = False) -> TransportError:
    """Log in to ``lab``, which does not work: why."""
    transport = SshTransport(SshConfig(file=config), accept_new_host_keys=accept_new, agent=False)
    with start_clock(Deadline(seconds)) as deadline, pytest.raises(TransportError) as raised:
        transport.open(build_host("lab"), EXACT, deadline).close()
    assert "\n" not in str(raised.value)
    assert raised.value.hint
    return raised.value


@contextmanager
def open_listener(*, then: str) -> Iterator[int]:
    """Listen on a port: accept, and ``says nothing`` or ``hangs up``."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def accept_clients() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                if then == "hangs up":
                    client.close()
                else:
                    kept.append(client)

        thread = threading.Thread(target=accept_clients, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        join_threads(thread)
        for client in kept:
            client.close()


def test_a_port_without_a_listener_is_refused(server: Sshd, tmp_path: Path) -> None:
    port = free_port()
    error = read_refusal(server.write_config(tmp_path / "config", Port=str(port)))
    assert type(error) is Unreachable
    assert str(error) == f"127.0.0.1:{port} refused the connection"
    assert error.hint.endswith(f"ssh -F {tmp_path / 'config'} lab")


def test_login_to_a_closing_server_may_be_retried(server: Sshd, tmp_path: Path) -> None:
    """sshd does so beyond MaxStartups."""
    with open_listener(then="hangs up") as port:
        error = read_refusal(server.write_config(tmp_path / "config", Port=str(port)))
    assert type(error) is Dropped
    assert "closed the connection, or sent nothing, before any login" in str(error)


def test_a_silent_server_costs_the_deadline_and_no_more(server: Sshd, tmp_path: Path) -> None:
    began = time.monotonic()
    with open_listener(then="says nothing") as port:
        error = read_refusal(server.write_config(tmp_path / "config", Port=str(port)), seconds=0.5)
    assert isinstance(error, Unreachable)
    assert time.monotonic() - began < 10.0


def test_an_unknown_key_is_shown_and_not_taken(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    error = read_refusal(server.write_config(tmp_path / "config", UserKnownHostsFile=str(known)))
    assert type(error) is HostKeyUnknown
    kept = tmp_path / "shown.pub"
    kept.write_text(server.host_key + "\n")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(kept)], capture_output=True, text=True, check=True).stdout
    assert shown.split()[1] in str(error)
    assert str(known) in str(error)
    assert "--accept-new-host-keys" in error.hint
    assert known.read_text() == ""


def test_an_unknown_key_is_taken_where_that_was_asked_for(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("# mine\n")
    config = server.write_config(tmp_path / "config", UserKnownHostsFile=str(known))
    with start_clock(Deadline(20.0)) as deadline:
        channel = SshTransport(SshConfig(file=config), accept_new_host_keys=True).open(
            build_host("lab"), EXACT, deadline
        )
        deadline.mark_done()
    assert read_all(channel) == b"a\0b\xff\n"
    assert channel.peer == "127.0.0.1"
    channel.close()
    assert known.read_text() == f"# mine\n[127.0.0.1]:{server.port} {server.host_key}\n"


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_changed_key_is_never_taken(server: Sshd, tmp_path: Path, accept_new: bool) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {new_key(tmp_path / 'other')}\n")
    before = known.read_text()
    error = read_refusal(server.write_config(tmp_path / "config", UserKnownHostsFile=str(known)), accept_new=accept_new)
    assert type(error) is HostKeyChanged
    assert "CHANGED" in str(error)
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in error.hint
    assert known.read_text() == before


def test_a_revoked_key_is_reported_as_revoked(server: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"{server.known_hosts.read_text()}@revoked * {server.host_key}\n")
    assert "@revoked" in str(read_refusal(server.write_config(tmp_path / "config", UserKnownHostsFile=str(known))))


def test_rejected_key_is_named(server: Sshd, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger")
    text = server.ssh_config.read_text().replace(str(server.identity), str(tmp_path / "stranger"))
    (tmp_path / "config").write_text(text)
    error = read_refusal(str(tmp_path / "config"))
    assert type(error) is AuthRefused
    assert str(error).startswith("permission denied for ")
    assert str(tmp_path / "stranger") in str(error)
    assert "no agent is running" in str(error)
    assert "ssh-copy-id" in error.hint


def test_unresolved_name_is_reported(server: Sshd, tmp_path: Path) -> None:
    error = read_refusal(server.write_config(tmp_path / "config", HostName="nowhere.invalid"))
    assert type(error) is Unreachable
    assert "the name nowhere.invalid does not resolve" in str(error)
    assert "`Host lab`" in error.hint


def test_connecting_does_not_change_the_shared_ssh_config(server: Sshd) -> None:
    """fabric's own Connection does, and rebuilds the Config each time: other threads find it empty meanwhile."""
    config = SshConfig(file=str(server.ssh_config))
    transport = SshTransport(config)
    shared = transport._config
    before = shared._config
    for _ in range(3):
        transport._build_connection(config.resolve_host(build_host("lab")))
    assert shared._modifications == {}
    assert shared._config is before
