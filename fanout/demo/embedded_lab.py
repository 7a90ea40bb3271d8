"""Demo lab: a directory with keys, ssh_config and hostfile, and the simulated hosts that answer to them.

    with open_lab(Path(".demo")) as lab:
        ...  # lab.hostfile, lab.ssh_config, lab.hosts

Linux answers on all of 127.0.0.0/8, so each host has its own address. If only 127.0.0.1 exists (macOS), the hosts share
it, differ by port, and have the names ``demo1``, ``demo2``, … in the ssh_config.
"""

from __future__ import annotations

import errno
import io
import os
import pwd
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fanout.demo import config_texts
from fanout.demo.channel_command import SHELL, DemoAccount
from fanout.demo.config_texts import DemoHost
from fanout.demo.ssh_server import DemoServer, open_listener
from fanout.demo.workdir import FILES, IGNORE, PROJECT, PROJECT_FILES, STATE, claim_directory
from fanout.model.errors import LauncherError, UsageError
from fanout.model.frozen import frozen

MOST_HOSTS = 200
PATH = "/usr/local/bin:/usr/bin:/bin"
_PROJECT = Path(__file__).parent / PROJECT


@frozen
class DemoLab:
    """Files for fanout and ssh, and the simulated hosts in rank order."""

    directory: Path
    hostfile: Path
    ssh_config: Path
    known_hosts: Path
    identity: Path
    user: str
    hosts: tuple[DemoHost, ...]
    servers: tuple[DemoServer, ...]


@contextmanager
def open_lab(directory: Path, hosts: int = 2, *, keep: bool = False, own_addresses: bool = True) -> Iterator[DemoLab]:
    """Simulate ``hosts`` hosts from ``directory``, which is created if needed and emptied at the end unless ``keep``.

    ``own_addresses=False`` puts all hosts on 127.0.0.1, even if each could have its own address.

    Raises:
        UsageError: the directory is not usable (another owner, not empty, in use), or the number of hosts is out of range.
        LauncherError: this machine cannot run the demo.
    """
    if not 1 <= hosts <= MOST_HOSTS:
        raise UsageError(f"a demo simulates 1 to {MOST_HOSTS} hosts, not {hosts}")
    account = _find_account()
    with ExitStack() as stack:
        root = stack.enter_context(claim_directory(directory, keep=keep))
        client_pem, client_key = _create_key()
        listeners = _open_listeners(hosts, stack, own_addresses=own_addresses)
        played, servers = [], []
        for name, listener in listeners:
            _, host_key = _create_key()
            host = _create_host(root, name, listener, host_key)
            played.append(host)
            server = DemoServer(listener, host_key, _build_account(host, account, client_key))
            servers.append(stack.enter_context(server))
        yield _write_lab_files(root, tuple(played), tuple(servers), account.pw_name, client_pem)


def _find_account() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        raise LauncherError(
            f"user id {os.getuid()} has no name on this machine, and ssh needs a user name",
            hint="run as a user that has a name in `id -un`",
        ) from None


def _build_account(host: DemoHost, account: pwd.struct_passwd, client_key: paramiko.PKey) -> DemoAccount:
    """Return the account on one host, with the small environment of a non-interactive login and the host's id."""
    environment = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": SHELL,
        "PATH": choose_path(PATH),
        "LANG": "C.UTF-8",
        "FANOUT_STATE": str(host.state),
        "FANOUT_HOST_ID": host.name,
    }
    return DemoAccount(
        user=account.pw_name,
        key=client_key.asbytes(),
        home=account.pw_dir if os.path.isdir(account.pw_dir) else "/",  # as sshd does
        environment=tuple(environment.items()),
    )


def choose_path(usual: str) -> str:
    """Return the PATH of commands: the usual one, and if it has no python3, the directory of this Python too."""
    return usual if shutil.which("python3", path=usual) else f"{usual}:{os.path.dirname(sys.executable)}"


def _create_key() -> tuple[str, paramiko.PKey]:
    """Create an ed25519 key; return the text of its private key file and the key."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return pem, paramiko.Ed25519Key.from_private_key(io.StringIO(pem))


def _open_listeners(count: int, stack: ExitStack, *, own_addresses: bool) -> list[tuple[str, socket.socket]]:
    """Open named listeners on ephemeral ports: each on its own address, or all on 127.0.0.1 if there is no other."""
    try:
        if own_addresses and _has_address("127.0.0.2"):
            return [
                (address, stack.enter_context(open_listener(address)))
                for address in (f"127.0.0.{2 + n}" for n in range(count))
            ]
        return [(f"demo{1 + n}", stack.enter_context(open_listener("127.0.0.1"))) for n in range(count)]
    except OSError as error:
        raise LauncherError(f"cannot listen on loopback: {error.strerror}") from error


def _has_address(address: str) -> bool:
    """Return whether this machine has the address: all of 127.0.0.0/8 on Linux, only 127.0.0.1 on macOS."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return False
        return True


def _create_host(root: Path, name: str, listener: socket.socket, host_key: paramiko.PKey) -> DemoHost:
    address, port = listener.getsockname()
    state = root / name / STATE
    for path in (state.parent, state):
        with suppress(FileExistsError):
            path.mkdir(0o700)
    public_key = f"{host_key.get_name()} {host_key.get_base64()}"
    return DemoHost(name=name, address=address, port=port, public_key=public_key, state=state)


def _write_lab_files(
    root: Path, hosts: tuple[DemoHost, ...], servers: tuple[DemoServer, ...], user: str, client_pem: str
) -> DemoLab:
    lab = DemoLab(
        directory=root,
        hostfile=root / FILES[0],
        ssh_config=root / FILES[1],
        known_hosts=root / FILES[2],
        identity=root / FILES[3],
        user=user,
        hosts=hosts,
        servers=servers,
    )
    _write_private_file(root / IGNORE, "*\n")
    _write_private_file(lab.identity, client_pem)
    _write_private_file(lab.known_hosts, config_texts.render_known_hosts(hosts))
    _write_private_file(
        lab.ssh_config,
        config_texts.render_ssh_config(hosts, user=user, identity=lab.identity, known_hosts=lab.known_hosts),
    )
    _write_private_file(lab.hostfile, config_texts.render_hostfile(hosts))
    return lab


def write_project(lab: DemoLab) -> Path:
    """Copy the demo's own task into the lab; return the work directory."""
    directory = lab.directory / PROJECT
    directory.mkdir(0o700, exist_ok=True)
    for name in PROJECT_FILES:
        _write_private_file(directory / name, (_PROJECT / name).read_text(encoding="utf-8"))
    return directory


def _write_private_file(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
