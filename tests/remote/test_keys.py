"""Which keys are offered, with a real sshd and a real ssh-agent: both transports let in what ``ssh`` lets in.

Each row is a configuration. ``ssh`` itself is asked first, so that a row cannot promise what OpenSSH does not do.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from fanout.model.errors import AuthRefused, TransportError
from fanout.remote.transports.base import Deadline, Transport
from fanout.remote.transports.builtin_ssh import SshTransport
from fanout.remote.transports.openssh import OpensshTransport
from fanout.remote.transports.ssh_config import SshConfig
from tests.remote import sshd
from tests.remote.agents import silent_agent, start_agent
from tests.remote.sshd import Sshd
from tests.remote.ways import EXACT, build_host, read_all, start_clock

pytestmark = pytest.mark.process


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A directory of keys, of which ``authorized`` may log in."""

    root: Path

    def get_path(self, name: str) -> Path:
        return self.root / name


def generate_key(path: Path, *options: str, phrase: str = "") -> None:
    subprocess.run(["ssh-keygen", "-q", "-N", phrase, "-f", str(path), *options], check=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Make every kind of key that the rows need."""
    root = tmp_path_factory.mktemp("keys")
    generate_key(root / "plain", "-t", "ed25519")
    generate_key(root / "locked", "-t", "ed25519", phrase="secret")
    generate_key(root / "rsa", "-t", "rsa", "-b", "2048")
    generate_key(root / "pkcs8", "-t", "rsa", "-b", "2048", "-m", "PKCS8")
    generate_key(root / "pkcs8ec", "-t", "ecdsa", "-b", "384", "-m", "PKCS8")
    generate_key(root / "pem", "-t", "rsa", "-b", "2048", "-m", "PEM")
    generate_key(root / "ecdsa", "-t", "ecdsa", "-b", "521")
    generate_key(root / "certified", "-t", "ed25519")
    generate_key(root / "certifiedrsa", "-t", "rsa", "-b", "2048")
    for number in range(3):
        generate_key(root / f"stranger{number}", "-t", "ed25519")
    generate_key(root / "ca", "-t", "ed25519")
    user = getpass.getuser()
    for name in ("certified", "certifiedrsa"):
        subprocess.run(
            ["ssh-keygen", "-q", "-s", str(root / "ca"), "-I", "me", "-n", user, str(root / f"{name}.pub")], check=True
        )
    shutil.copy(root / "plain", root / "open")
    (root / "open").chmod(0o644)
    (root / "alone.pub").write_text((root / "locked.pub").read_text())
    shutil.copy(root / "certified", root / "bare")  # a certified key with its certificate elsewhere
    (root / "elsewhere.pub").write_text((root / "certified-cert.pub").read_text())
    (root / "rubbish").write_text("not a key\n")
    return Keys(root=root)


AUTHORIZED = ("plain", "locked", "rsa", "pkcs8", "pkcs8ec", "pem", "ecdsa")


@pytest.fixture(scope="module")
def servers(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sshd]]:
    """Servers of several kinds of authentication."""
    allowed = keys.get_path("allowed")
    allowed.write_text("".join(keys.get_path(f"{name}.pub").read_text() for name in AUTHORIZED))
    common = f"AuthorizedKeysFile {allowed}\nTrustedUserCAKeys {keys.get_path('ca.pub')}\n"
    kinds = {
        "keys": common,
        "few tries": common + "MaxAuthTries 3\n",
        "second factor": common
        + "KbdInteractiveAuthentication yes\nAuthenticationMethods publickey,keyboard-interactive\n",
        "key and password": common + "PasswordAuthentication yes\nAuthenticationMethods publickey,password\n",
        "two keys": common + "AuthenticationMethods publickey,publickey\n",
        "password": "PubkeyAuthentication no\nPasswordAuthentication yes\n",
        "no rsa": common + "PubkeyAcceptedAlgorithms ssh-ed25519\n",
    }
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(sshd.start_sshd(tmp_path_factory.mktemp("sshd"), extra=extra))
            for kind, extra in kinds.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``files``: what IdentityFile names; ``agent``: the keys in the agent, None for no agent at all."""

    name: str
    files: tuple[str, ...]
    works: bool
    agent: tuple[str, ...] | None = None
    only: bool = True  # IdentitiesOnly
    server: str = "keys"
    identity_agent: str = ""  # "socket": the agent is found by IdentityAgent alone
    more: tuple[str, ...] = ()
    words: str = ""  # in the error of both transports


ROWS = [
    Row(name="an ed25519 key", files=("plain",), works=True),
    Row(name="an RSA key", files=("rsa",), works=True),
    Row(name="an ECDSA key of 521 bits", files=("ecdsa",), works=True),
    Row(name="an RSA key in PKCS#8", files=("pkcs8",), works=True),
    Row(name="an ECDSA key in PKCS#8", files=("pkcs8ec",), works=True),
    Row(name="an RSA key in PEM", files=("pem",), works=True),
    Row(name="a missing file before the key", files=("nothing-here", "plain"), works=True),
    Row(name="a file that is no key before the key", files=("rubbish", "plain"), works=True),
    Row(name="strangers before the key", files=("stranger0", "stranger1", "plain"), works=True),
    Row(name="a stranger's key", files=("stranger0",), works=False, words="permission denied|Permission denied"),
    Row(name="a key that others may read", files=("open",), works=False),
    Row(name="a locked key before the key", files=("locked", "plain"), works=True),
    Row(name="a locked key", files=("locked",), works=False),
    Row(name="a locked key that the agent has", files=("locked",), agent=("locked",), works=True),
    Row(name="a public key that the agent has", files=("alone.pub",), agent=("stranger0", "locked"), works=True),
    Row(name="a public key that the agent lacks", files=("alone.pub",), agent=("stranger0",), works=False),
    Row(name="a key of the agent that is not named", files=("stranger1",), agent=("plain",), works=False),
    Row(name="any key of the agent", files=("stranger1",), agent=("plain",), only=False, works=True),
    Row(name="an RSA key of the agent", files=("rsa.pub",), agent=("rsa",), works=True),
    Row(
        name="an agent named by IdentityAgent",
        files=("alone.pub",),
        agent=("locked",),
        identity_agent="socket",
        works=True,
    ),
    Row(name="IdentityAgent none", files=("alone.pub",), agent=("locked",), identity_agent="none", works=False),
    Row(name="a certificate beside the key", files=("certified",), works=True),
    Row(name="an RSA certificate beside the key", files=("certifiedrsa",), works=True),
    Row(name="a certificate elsewhere", files=("bare",), more=("CertificateFile {keys}/elsewhere.pub",), works=True),
    Row(name="a certified key without its certificate", files=("bare",), works=False),
    Row(name="a certificate in the agent", files=("stranger0",), agent=("certified",), only=False, works=True),
    Row(
        name="a certificate whose key the agent has",
        files=("certified.pub",),
        agent=("certified",),
        more=("CertificateFile {keys}/elsewhere.pub",),
        works=True,
    ),
    Row(
        name="more keys in the agent than tries",
        files=("plain",),
        agent=("stranger0", "stranger1", "stranger2", "plain"),
        only=False,
        server="few tries",
        works=True,  # a key that is named and in the agent comes first
    ),
    Row(
        name="more strangers than tries",
        files=("stranger0", "stranger1", "stranger2", "plain"),
        server="few tries",
        works=False,
        words="MaxAuthTries",
    ),
    Row(name="two keys where two are wanted", files=("plain", "rsa"), server="two keys", works=True),
    Row(name="one key where two are wanted", files=("plain",), server="two keys", works=False),
    Row(name="a second factor", files=("plain",), server="second factor", works=False, words="second factor: keyboard"),
    Row(
        name="a key and a password",
        files=("plain",),
        server="key and password",
        works=False,
        words="second factor: pass",
    ),
    Row(name="a password alone", files=("plain",), server="password", works=False, words="cannot type a password"),
    Row(name="an RSA key where none is taken", files=("rsa", "plain"), server="no rsa", works=True),
    Row(
        name="keys switched off",
        files=("plain",),
        more=("PubkeyAuthentication no",),
        works=False,
    ),
    Row(
        name="kinds of keys that the configuration excludes",
        files=("rsa", "ecdsa"),
        more=("PubkeyAcceptedAlgorithms ssh-ed25519",),
        works=False,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_key_login_has_the_outcome_of_ssh(
    row: Row, keys: Keys, servers: dict[str, Sshd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    in_agent = [keys.get_path(name) for name in row.agent or ()]
    with start_agent(*in_agent) as path:
        more = [line.format(keys=keys.root) for line in row.more]
        if row.identity_agent:
            more.append(f"IdentityAgent {path if row.identity_agent == 'socket' else 'none'}")
        elif row.agent is not None:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
        config = write_config(tmp_path / "config", servers[row.server], keys, row, more)
        assert by_ssh(config) is row.works
        refusals = {name: try_login(make, config) for name, make in MAKES.items()}
    for name, refusal in refusals.items():
        assert (refusal is None) is row.works, f"{name}: {refusal}"
        if refusal is not None:
            assert type(refusal) is AuthRefused, f"{name}: {refusal}"
            assert refusal.hint
            assert re.search(row.words, str(refusal)), f"{name}: {refusal}"
            if "factor" in row.words:
                assert "ssh-copy-id" not in refusal.hint
                assert "--transport openssh" in refusal.hint


def write_config(path: Path, server: Sshd, keys: Keys, row: Row, more: list[str]) -> str:
    files = [f"IdentityFile {keys.get_path(name)}" for name in row.files]
    only = f"IdentitiesOnly {'yes' if row.only else 'no'}"
    lines = [
        *more,
        *files,
        only,
        "HostName 127.0.0.1",
        f"Port {server.port}",
        f"UserKnownHostsFile {server.known_hosts}",
    ]
    path.write_text("Host lab\n" + "".join(f"  {line}\n" for line in lines))
    return str(path)


MAKES: dict[str, Callable[[SshConfig], Transport]] = {
    "ssh": lambda config: SshTransport(config, agent="SSH_AUTH_SOCK" in os.environ),
    "openssh": OpensshTransport,
}


def by_ssh(config: str) -> bool:
    done = subprocess.run(
        ["ssh", "-F", config, "-o", "BatchMode=yes", "lab", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def try_login(make: Callable[[SshConfig], Transport], config: str, seconds: float = 30.0) -> TransportError | None:
    """Log in: why not, None where it worked."""
    with start_clock(Deadline(seconds)) as deadline:
        try:
            channel = make(SshConfig(file=config)).open(build_host("lab"), EXACT, deadline)
        except TransportError as error:
            return error
        deadline.mark_done()
    try:
        assert read_all(channel) == b"a\0b\xff\n"
    finally:
        channel.close()
    return None


def test_an_agent_that_never_answers_costs_its_time_and_no_more(
    keys: Keys, servers: dict[str, Sshd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(name="silent", files=("stranger0",), works=False)
    with silent_agent() as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        refusal = try_login(MAKES["ssh"], write_config(tmp_path / "config", servers["keys"], keys, row, []))
        assert f"the ssh agent at {path} gave no answer within 3 s" in str(refusal)
        row = Row(name="silent", files=("plain",), works=True)  # a key file needs no agent
        assert try_login(MAKES["ssh"], write_config(tmp_path / "config", servers["keys"], keys, row, [])) is None
