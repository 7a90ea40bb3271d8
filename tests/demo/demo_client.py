"""Clients of the played hosts: paramiko's, a step at a time, and the system's ssh."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import paramiko

from fanout.demo import embedded_lab
from tests.processes import join_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    code: int
    out: bytes
    err: bytes


@contextmanager
def open_transport(lab: embedded_lab.DemoLab, host: int = 0) -> Iterator[paramiko.Transport]:
    """Open a connection without a login."""
    address = (lab.hosts[host].address, lab.hosts[host].port)
    with socket.create_connection(address, timeout=20) as sock:
        sock.settimeout(None)  # paramiko sets its own
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            yield transport
        finally:
            with suppress(OSError):  # the other end may have gone first
                sock.shutdown(socket.SHUT_RDWR)  # wakes paramiko's thread at once, where close would leave it waiting
            join_threads(transport)


@contextmanager
def log_in(lab: embedded_lab.DemoLab, host: int = 0) -> Iterator[paramiko.Transport]:
    with open_transport(lab, host) as transport:
        transport.auth_publickey(lab.user, paramiko.Ed25519Key.from_private_key_file(str(lab.identity)))
        yield transport


def start_command(transport: paramiko.Transport, command: str) -> paramiko.Channel:
    channel = transport.open_session(timeout=10)
    channel.exec_command(command)
    return channel


def read_all(channel: paramiko.Channel) -> bytes:
    return b"".join(iter(lambda: channel.recv(1 << 17), b""))


def run_command(transport: paramiko.Transport, command: str) -> Ended:
    channel = start_command(transport, command)
    out = read_all(channel)
    err = b"".join(iter(lambda: channel.recv_stderr(1 << 17), b""))
    return Ended(code=channel.recv_exit_status(), out=out, err=err)


def run_ssh(lab: embedded_lab.DemoLab, *words: str, stdin: bytes = b"") -> Ended:
    host = lab.hosts[0]
    argv = ["ssh", "-F", str(lab.ssh_config), "-p", str(host.port), *words]
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=30)
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)
