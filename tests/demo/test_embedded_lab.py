"""Embedded hosts as clients see them: the environment of a command, its bytes, and which logins are accepted."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import paramiko
import pytest

from fanout.demo import embedded_lab
from fanout.remote.transports.command_end import request_end
from fanout.sync.project_files import read_project
from tests.demo.demo_client import Ended, log_in, open_transport, read_all, run_command, run_ssh, start_command
from tests.processes import join_threads
from tests.skips import needs

pytestmark = pytest.mark.process

WINDOW = 2 << 20  # what a side may send before the other has read, by SSH's flow control as paramiko sets it


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded_lab.DemoLab]:
    with embedded_lab.open_lab(tmp_path_factory.mktemp("stage") / ".demo") as lab:
        yield lab


# ------------------------------------------------------------------------------------------------ input of a command


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_is_the_commands_own(lab: embedded_lab.DemoLab, code: int) -> None:
    with log_in(lab) as transport:
        assert run_command(transport, f"echo hi; exit {code}") == Ended(code=code, out=b"hi\n", err=b"")


def test_fifty_quick_commands_in_a_row_each_have_their_exit_code(lab: embedded_lab.DemoLab) -> None:
    with log_in(lab) as transport:
        assert [run_command(transport, f"exit {code}").code for code in range(50)] == list(range(50))


@pytest.mark.parametrize("code", [0, 3])
def test_openssh_gets_the_exit_code_too(lab: embedded_lab.DemoLab, code: int) -> None:
    assert run_ssh(lab, lab.hosts[0].name, f"echo hi; exit {code}") == Ended(code=code, out=b"hi\n", err=b"")


def test_a_death_by_signal_is_reported_as_a_signal(lab: embedded_lab.DemoLab) -> None:
    death = run_ssh(lab, "-v", lab.hosts[0].name, "kill -KILL $$")
    assert death.code == 255
    assert b"rtype exit-signal" in death.err


def test_the_ssh_config_alone_is_enough_to_reach_every_host(lab: embedded_lab.DemoLab) -> None:
    for host in lab.hosts:
        argv = ["ssh", "-F", str(lab.ssh_config), host.name, "echo $FANOUT_HOST_ID"]
        assert subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout.decode() == f"{host.name}\n"


def test_a_command_finds_a_small_environment_and_its_home(lab: embedded_lab.DemoLab) -> None:
    host = lab.hosts[1]
    with log_in(lab, 1) as transport:
        out = run_command(transport, "pwd; env").out.decode().splitlines()
    found = dict(line.split("=", 1) for line in out[1:])
    assert out[0] == os.path.realpath(found["HOME"])
    assert found["FANOUT_HOST_ID"] == host.name
    assert found["FANOUT_STATE"] == str(host.state)
    assert found["USER"] == found["LOGNAME"] == lab.user
    assert set(found) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "FANOUT_STATE", "FANOUT_HOST_ID", "SSH_CONNECTION")
    }


def test_a_second_command_of_the_connection_ends_the_first(lab: embedded_lab.DemoLab) -> None:
    """Ctrl-C on ``fanout exec`` sends it in a login of root; a command of another connection goes on."""
    with log_in(lab) as transport, log_in(lab) as other:
        channel, unrelated = start_command(transport, "echo on; exec sleep 1003"), start_command(other, "cat")
        assert channel.recv(3) == b"on\n"
        end = request_end(transport, channel)
        assert end.recv_exit_status() == 0
        assert read_all(channel) == b""
        assert channel.status_event.wait(10.0)
        unrelated.send(b"still here")
        unrelated.shutdown_write()
        assert read_all(unrelated) == b"still here"


def test_two_hosts_on_one_machine_have_different_state_directories(lab: embedded_lab.DemoLab) -> None:
    assert len({host.state for host in lab.hosts}) == 2
    assert all(stat.S_IMODE(host.state.stat().st_mode) == 0o700 for host in lab.hosts)


# ------------------------------------------------------------------------------------------------------------- the bytes


def test_fifty_megabytes_come_over_unchanged(lab: embedded_lab.DemoLab, tmp_path: Path) -> None:
    data = os.urandom(50_000_000)
    (tmp_path / "data").write_bytes(data)
    with log_in(lab) as transport:
        channel = start_command(transport, f"cat '{tmp_path}/data'")
        assert hashlib.sha256(read_all(channel)).digest() == hashlib.sha256(data).digest()
        assert channel.recv_exit_status() == 0


def test_stdin_comes_back_unchanged(lab: embedded_lab.DemoLab) -> None:
    data = os.urandom(5_000_000)
    with log_in(lab) as transport:
        channel = start_command(transport, "cat")

        def write_data() -> None:
            channel.sendall(data)
            channel.shutdown_write()

        writer = threading.Thread(target=write_data)
        writer.start()
        assert read_all(channel) == data
        join_threads(writer)
        assert channel.recv_exit_status() == 0


def test_openssh_stdin_comes_back_unchanged(lab: embedded_lab.DemoLab) -> None:
    data = os.urandom(5_000_000)
    assert run_ssh(lab, lab.hosts[0].name, "cat", stdin=data) == Ended(code=0, out=data, err=b"")


def test_stderr_is_a_stream_of_its_own(lab: embedded_lab.DemoLab) -> None:
    with log_in(lab) as transport:
        assert run_command(transport, "echo out; echo err >&2") == Ended(code=0, out=b"out\n", err=b"err\n")


def test_a_command_that_has_closed_its_stdin_does_not_stall_the_client(
    lab: embedded_lab.DemoLab, tmp_path: Path
) -> None:
    word = tmp_path / "word"
    os.mkfifo(word)
    with log_in(lab) as transport:
        channel = start_command(transport, f"exec <&-; echo closed; cat '{word}'")
        assert channel.recv(100) == b"closed\n"
        channel.settimeout(10)
        channel.sendall(bytes(3 * WINDOW))
        word.write_text("go on")
        assert read_all(channel) == b"go on"
        assert channel.recv_exit_status() == 0


def test_a_client_that_does_not_read_stops_the_command(lab: embedded_lab.DemoLab, tmp_path: Path) -> None:
    """A writer that waits 0.5 s for room has met backpressure; what it wrote until then is bounded."""
    report = tmp_path / "report"
    os.mkfifo(report)
    writer = (
        "import os, select; os.set_blocking(1, False); total = 0; p = select.poll(); p.register(1, select.POLLOUT)\n"
        "while p.poll(500): total += os.write(1, bytes(32768))\n"
        f"open('{report}', 'w').write(str(total))"
    )
    with log_in(lab) as transport:
        start_command(transport, f'exec {sys.executable} -c "{writer}"')
        assert int(report.read_text()) < 3 * WINDOW


def test_a_command_that_does_not_read_stops_the_client(lab: embedded_lab.DemoLab) -> None:
    with log_in(lab) as transport:
        channel = start_command(transport, "echo go; exec sleep 60")
        assert channel.recv(100) == b"go\n"
        channel.settimeout(0.5)
        with pytest.raises(TimeoutError):
            channel.sendall(bytes(3 * WINDOW))


def test_thirty_two_commands_run_at_once(lab: embedded_lab.DemoLab) -> None:
    """All have answered before any is allowed to end."""
    with ExitStack() as clients:
        transports = [clients.enter_context(log_in(lab, number % 2)) for number in range(32)]
        channels = [start_command(transport, f"echo {number}; cat") for number, transport in enumerate(transports)]
        assert [channel.recv(100) for channel in channels] == [b"%d\n" % number for number in range(32)]
        for channel in channels:
            channel.sendall(b"bye")
            channel.shutdown_write()
        assert [read_all(channel) for channel in channels] == [b"bye"] * 32
        assert [channel.recv_exit_status() for channel in channels] == [0] * 32


# ---------------------------------------------------------------------------------------------------------- who may come


def test_a_wrong_key_a_wrong_user_a_password_and_no_credentials_are_refused(
    lab: embedded_lab.DemoLab, tmp_path: Path
) -> None:
    with embedded_lab.open_lab(tmp_path / "other", 1) as other:
        stranger = paramiko.Ed25519Key.from_private_key_file(str(other.identity))
    ours = paramiko.Ed25519Key.from_private_key_file(str(lab.identity))
    with open_transport(lab) as transport, pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(lab.user, stranger)
    with open_transport(lab) as transport, pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(f"{lab.user}x", ours)
    with open_transport(lab) as transport, pytest.raises(paramiko.BadAuthenticationType):
        transport.auth_password(lab.user, "", fallback=False)
    with open_transport(lab) as transport, pytest.raises(paramiko.BadAuthenticationType):
        transport.auth_none(lab.user)


def test_forwarding_terminals_shells_and_subsystems_are_refused_and_commands_go_on(lab: embedded_lab.DemoLab) -> None:
    here = ("127.0.0.1", 1)
    with log_in(lab) as transport:
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", here, here, timeout=10)
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)
        with pytest.raises(paramiko.SSHException):
            transport.open_session(timeout=10).get_pty()
        with pytest.raises(paramiko.SSHException):
            transport.open_session(timeout=10).invoke_shell()
        with pytest.raises(paramiko.SSHException):
            transport.open_session(timeout=10).invoke_subsystem("sftp")
        assert run_command(transport, "echo fine").out == b"fine\n"


def test_agent_forwarding_is_refused_and_a_missing_terminal_is_only_reported(lab: embedded_lab.DemoLab) -> None:
    assert run_ssh(lab, "-A", lab.hosts[0].name, "echo [$SSH_AUTH_SOCK]").out == b"[]\n"
    without = run_ssh(lab, "-t", "-t", lab.hosts[0].name, "echo fine")
    assert b"PTY allocation request failed" in without.err


def test_clients_that_come_all_at_once_are_all_answered(lab: embedded_lab.DemoLab) -> None:
    with ExitStack() as clients:
        address = (lab.hosts[0].address, lab.hosts[0].port)
        socks = [clients.enter_context(socket.create_connection(address, timeout=10)) for _ in range(64)]
        assert {sock.recv(8) for sock in socks} == {b"SSH-2.0-"}


def test_noise_and_half_a_handshake_end_their_own_connection_only(lab: embedded_lab.DemoLab) -> None:
    host = lab.hosts[0]
    for opening in (b"GET / HTTP/1.0\r\n\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 64, b"SSH-2.0-x\r\n", b""):
        with socket.create_connection((host.address, host.port), timeout=20) as sock:
            sock.sendall(opening)
            assert sock.recv(100).startswith(b"SSH-2.0-")
    with log_in(lab) as transport:
        assert run_command(transport, "echo fine").out == b"fine\n"


@needs("linux")
def test_every_listening_socket_of_ours_is_on_loopback(lab: embedded_lab.DemoLab) -> None:
    ours = {os.path.realpath(f"/proc/self/fd/{fd}").rpartition("/")[2] for fd in os.listdir("/proc/self/fd")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in ours]
    assert len(addresses) >= len(lab.hosts)  # tests of other folders may play hosts in this process as well
    assert all(re.fullmatch(r"0[0-9]00007F:[0-9A-F]{4}", address) for address in addresses)


def test_a_sync_of_the_directory_above_sends_nothing_of_the_demo(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("")
    with embedded_lab.open_lab(tmp_path / ".demo", hosts=1):
        project = read_project(str(tmp_path), {}, add=(), big=False)
    assert [file.path for file in project.manifest.files] == ["task.py"]
