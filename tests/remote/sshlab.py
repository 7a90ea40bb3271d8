"""A real sshd at several loopback addresses whose log shows who came, from where, as which user and with which key.

One configuration is tried twice, by ``ssh`` and by fanout; both must look the same to sshd. A case is a ``Row``; its
texts may name ``<port>`` ``<port2>`` ``<closed>`` (a port where nothing listens), ``<root>`` (a directory with the keys)
and ``<user>``. Key files in ``<root>``: ``key`` and ``rsa`` are let in, ``stranger`` is not.
"""

from __future__ import annotations

import getpass
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fanout.model.errors import FanoutError
from fanout.model.settings import Settings
from fanout.remote.transports.base import Deadline
from fanout.remote.transports.select import TransportSelector
from tests.processes import hold_process
from tests.remote.sshd import SSHD, free_port, new_key
from tests.remote.ways import build_host, read_all, start_clock

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1")
COMMAND = "echo in"
SECONDS = 30.0

#: Stands behind the lines of every row, so that a row has only what it is about.
BASE = """
Host *
  HostName 127.0.0.1
  Port <port>
  User <user>
  IdentityFile <root>/key
  IdentitiesOnly yes
  UserKnownHostsFile <root>/known_hosts
  GlobalKnownHostsFile none
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One configuration. ``gets_in``: None where it depends on the machine; ssh and fanout must agree all the same.

    ``line`` is what the hostfile gives for the host, ``options`` are those of -o, ``files`` further files by their name
    in ``<root>``, ``says`` parts of the error of the built-in ssh, ``program_says`` those of the ssh program,
    ``agent`` the key files that an ssh agent holds.
    """

    name: str
    config: str = ""
    gets_in: bool | None = True
    says: tuple[str, ...] = ()
    program_says: tuple[str, ...] = ()
    target: str = "h1"
    line: Mapping[str, object] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    agent: tuple[str, ...] = ()
    base: str = BASE
    transports: tuple[str, ...] = ("ssh", "openssh")
    unlike_ssh: str = ""  # why fanout gets in where ssh does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One login as sshd saw it."""

    source: str
    address: str
    port: str
    user: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of one attempt: did the command run, the logins that sshd let in, and the error."""

    got_in: bool
    visits: tuple[Visit, ...]
    error: str = ""


_CAME = re.compile(r"Connection from (\S+) port (\d+) on (\S+) port (\d+)")
_ACCEPTED = re.compile(r"Accepted publickey for (\S+) from (\S+) port (\d+) ssh2: (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshLab:
    """The sshd, its log, and the files of the client."""

    root: Path
    log: Path
    places: Mapping[str, str]

    def fill_text(self, text: str) -> str:
        for name, value in self.places.items():
            text = text.replace(f"<{name}>", value)
        return text

    def config_of(self, row: Row, directory: Path) -> Path:
        for name, text in row.files.items():
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self.fill_text(text).encode("latin-1"))
        path = directory / "config"
        path.write_bytes(self.fill_text(row.config + row.base).encode("latin-1"))
        return path

    def by_ssh(self, row: Row, config: Path) -> Seen:
        """Log in with the ssh program."""
        argv = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-T"]
        for option in (*row.options, *(f"HostName={row.line[name]}" for name in ("hostname",) if name in row.line)):
            argv += ["-o", self.fill_text(option)]
        argv += ["-p", self.fill_text(str(row.line["port"]))] if "port" in row.line else []
        argv += ["-l", self.fill_text(str(row.line["user"]))] if "user" in row.line else []
        before = self.log.stat().st_size
        child = subprocess.Popen(
            [*argv, row.target, COMMAND],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with hold_process(child):
            try:
                out, error = child.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:  # an ssh for each jump host, without end
                os.killpg(child.pid, signal.SIGKILL)
                raise
        return Seen(got_in="in" in out.split(), visits=self.read_logins(before), error=error)

    def by_fanout(self, row: Row, config: Path, transport: str) -> Seen:
        """Log in as ``fanout exec`` does."""
        options = tuple(map(self.fill_text, row.options))
        facts = {name: self.fill_text(value) if isinstance(value, str) else value for name, value in row.line.items()}
        if "port" in facts:
            facts["port"] = int(str(facts["port"]))
        one = build_host(row.target, **facts)
        settings = Settings(ssh_config=str(config), ssh_option=options, transport=transport)
        picker = TransportSelector(settings, user=getpass.getuser(), agent=bool(row.agent))
        before = self.log.stat().st_size
        try:
            picker.check_config([one])
            with start_clock(Deadline(SECONDS)) as deadline:
                channel = picker(one).open(one, COMMAND, deadline)
                deadline.mark_done()
            text = read_all(channel)
            channel.close()
        except FanoutError as error:
            return Seen(got_in=False, visits=self.read_logins(before), error=f"{error} / {error.hint}")
        return Seen(got_in=b"in" in text.split(), visits=self.read_logins(before), error=text.decode())

    def read_logins(self, before: int) -> tuple[Visit, ...]:
        """Read the logins that sshd has let in since ``before``, in their order."""
        text = self.log.read_bytes()[before:].decode()
        came = {(match[1], match[2]): (match[3], match[4]) for match in _CAME.finditer(text)}
        visits = []
        for match in _ACCEPTED.finditer(text):
            address, port = came[match[2], match[3]]
            visits.append(Visit(source=match[2], address=address, port=port, user=match[1], key=match[4]))
        return tuple(visits)


@contextmanager
def open_lab(root: Path) -> Iterator[SshLab]:
    """Start the sshd."""
    assert SSHD is not None
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what the distribution's service makes for its own
    ports = free_port(), free_port()
    host_key = new_key(root / "host")
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(root / "rsa")], check=True)
    allowed = [new_key(root / "key"), (root / "rsa.pub").read_text().strip()]
    new_key(root / "stranger")
    (root / "authorized").write_text("\n".join(allowed) + "\n")
    (root / "known_hosts").write_text(f"* {host_key}\n")
    (root / "empty").write_text("")
    config = root / "sshd_config"
    config.write_text(
        "".join(f"ListenAddress {address}\n" for address in ADDRESSES)
        + "".join(f"Port {port}\n" for port in ports)
        + f"HostKey {root}/host\nAuthorizedKeysFile {root}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nMaxStartups 100\nLogLevel VERBOSE\n"
        f"SetEnv HOME={root}\n"  # a login shell then reads no user's startup files
    )
    log = root / "log"
    argv = [SSHD, "-D", "-E", str(log), "-f", str(config)]
    with hold_process(subprocess.Popen(argv), kill=False) as child:
        _wait_listening(child, log)
        places = {
            "port": str(ports[0]),
            "port2": str(ports[1]),
            "closed": str(free_port()),
            "root": str(root),
            "user": getpass.getuser(),
            "hostkey": host_key,
        }
        yield SshLab(root=root, log=log, places=places)


def _wait_listening(child: subprocess.Popen[bytes], log: Path) -> None:
    """sshd announces each address in its log; the last one is that of the second port."""
    until = time.monotonic() + SECONDS
    while log.exists() is False or log.read_text().count("Server listening") < len(ADDRESSES[:4]) * 2:
        try:
            child.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < until, "sshd does not listen"
            continue
        pytest.fail(f"sshd ended: {log.read_text()}")


@contextmanager
def agent_with(lab: SshLab, keys: tuple[str, ...]) -> Iterator[str]:
    """Start an ssh agent that holds these keys of the lab; the path of its socket, "" where there are none."""
    if not keys:
        yield ""
        return
    path = lab.root / "agent.sock"
    path.unlink(missing_ok=True)
    with hold_process(subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)) as agent:
        assert agent.stdout is not None
        agent.stdout.readline()  # it prints the socket's name once it listens
        environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        for key in keys:
            add = ["ssh-add", "-q", str(lab.root / key)]
            subprocess.run(add, env=environment, check=True, capture_output=True, timeout=SECONDS)
        yield str(path)
