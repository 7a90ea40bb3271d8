"""Key selection: the keys for a host in OpenSSH's order. Each file is read once for all hosts.

The order is: agent keys that the configuration names, other agent keys, key files. A key file may be missing, be a public
key whose private key is in the agent, or need a passphrase. The reason is kept for the error, and the next key is tried,
as by ssh.
"""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from fanout.model.frozen import frozen
from fanout.remote.transports.host_certificates import CERTIFICATE
from fanout.remote.transports.key_signing import PrivateKey, load_private_key, public_blob
from fanout.remote.transports.ssh_agent import AgentKey, put_string, take_string
from fanout.remote.transports.ssh_options import SshOptions


@frozen
class Identity:
    """One key, or certificate, to offer. ``agent_blob`` is the agent's key that signs for it, b"" if none does."""

    blob: bytes
    source: str  # for messages: a path, or the agent's comment
    private: PrivateKey | None = None
    agent_blob: bytes = b""

    @property
    def key_type(self) -> str:
        return key_type_of(self.blob)


@dataclass(slots=True, kw_only=True)
class KeyFile:
    """The content of one IdentityFile, or why it cannot be used."""

    path: str
    blob: bytes = b""
    certificate: bytes = b""
    private: PrivateKey | None = None
    locked: bool = False  # it needs a passphrase
    problem: str = ""


@dataclass(slots=True, kw_only=True)
class KeyOffer:
    """The keys to try, and why others are left out."""

    identities: list[Identity] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class KeyFiles:
    """A cache of key files, each read once. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[str, KeyFile] = {}
        self._certificates: dict[str, bytes] = {}

    def read_key(self, path: str) -> KeyFile:
        with self._lock:
            if path not in self._read:
                self._read[path] = read_key_file(path)
            return self._read[path]

    def read_certificate(self, path: str) -> bytes:
        with self._lock:
            if path not in self._certificates:
                self._certificates[path] = read_public_key(path)
            return self._certificates[path]


def select_keys(options: SshOptions, files: KeyFiles, in_agent: Sequence[AgentKey]) -> KeyOffer:
    """Return the keys to offer, in order."""
    made = KeyOffer()
    named = _configured_keys(options, files, made)
    agent_blobs = {key.blob for key in in_agent}
    by_plain = {plain_blob(key.blob): key.blob for key in reversed(in_agent) if not is_certificate(key.blob)}
    named = [_use_agent_key(identity, agent_blobs, by_plain) for identity in named]
    of_agent: list[Identity] = []
    for key in in_agent:
        match = next((identity for identity in named if identity.blob == key.blob), None)
        if match is not None:
            of_agent.append(match)
    signed_elsewhere = [one for one in named if one not in of_agent and (one.agent_blob or one.private is not None)]
    others = (
        []
        if options.identities_only
        else [
            Identity(blob=key.blob, source=key.comment or "a key of the agent", agent_blob=key.blob)
            for key in in_agent
            if all(key.blob != one.blob for one in of_agent)
        ]
    )
    made.identities = [*of_agent, *others, *signed_elsewhere]
    usable = {plain_blob(one.blob) for one in made.identities}
    made.locked = [
        path
        for path in made.locked
        if plain_blob(files.read_key(path).blob) not in usable or not files.read_key(path).blob
    ]
    return made


def _configured_keys(options: SshOptions, files: KeyFiles, made: KeyOffer) -> list[Identity]:
    """Return the keys of the configuration: its certificates first, then each file with the certificate beside it."""
    found = [files.read_key(path) for path in options.identity_files]
    named: list[Identity] = []
    for path in options.certificate_files:
        blob = files.read_certificate(path)
        if is_certificate(blob):
            private = next((one.private for one in found if one.private and one.blob == plain_blob(blob)), None)
            named.append(Identity(blob=blob, source=path, private=private))
        else:
            made.problems.append(f"{path} is not a readable certificate")
    for one in found:
        if one.problem and options.identity_files_given:
            made.problems.append(one.problem)
        if one.locked:
            made.locked.append(one.path)
        if one.blob:
            named.append(Identity(blob=one.blob, source=one.path, private=one.private))
        if one.certificate and not options.certificate_files:
            named.append(Identity(blob=one.certificate, source=f"{one.path}-cert.pub", private=one.private))
    return named


def _use_agent_key(identity: Identity, blobs: set[bytes], by_plain: dict[bytes, bytes]) -> Identity:
    """Let the agent sign if it has the key. For a certificate, the certified key is enough."""
    blob = identity.blob if identity.blob in blobs else by_plain.get(plain_blob(identity.blob), b"")
    if not blob:
        return identity
    return Identity(blob=identity.blob, source=identity.source, private=identity.private, agent_blob=blob)


def read_key_file(path: str) -> KeyFile:
    """Read one IdentityFile: a private key, or a public key whose private key is in the agent."""
    read = KeyFile(path=path, blob=read_public_key(path) or read_public_key(f"{path}.pub"))
    certificate = read_public_key(f"{path}-cert.pub")
    read.certificate = certificate if is_certificate(certificate) else b""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno())
            data = file.read(1 << 20)
    except OSError as error:
        read.problem = "" if read.blob else f"{path}: {error.strerror}"
        return read
    if b"PRIVATE KEY" not in data:
        read.problem = "" if read.blob else f"{path} is not a readable key"
        return read
    if mode.st_uid == os.getuid() and stat.S_IMODE(mode.st_mode) & 0o077:
        read.problem = f"{path} is ignored, as by ssh, because other users may read it (chmod 600 {path})"
        return read
    read.private, read.locked, read.problem = load_private_key(data, path)
    if read.private is not None:
        read.blob = public_blob(read.private)
    return read


def read_public_key(path: str) -> bytes:
    """Return the blob of a public key or certificate file, b"" if there is none."""
    try:
        with open(path, "rb") as file:
            words = file.read(1 << 16).split()
        blob = base64.b64decode(words[1], validate=True)
        return blob if take_string(blob)[0] == words[0] else b""
    except (OSError, IndexError, ValueError):
        return b""


def key_type_of(blob: bytes) -> str:
    return take_string(blob)[0].decode("ascii", "replace")


def is_certificate(blob: bytes) -> bool:
    return bool(blob) and key_type_of(blob).endswith(CERTIFICATE)


#: Number of strings in a public key, by its type. A certificate holds them after its nonce.
_KEY_PARTS = {"ssh-rsa": 2, "ssh-ed25519": 1, "sk-ssh-ed25519@openssh.com": 2, "sk-ecdsa-sha2-nistp256@openssh.com": 3}


def plain_blob(blob: bytes) -> bytes:
    """Return the certified public key of a certificate; return a plain key unchanged."""
    if not is_certificate(blob):
        return blob
    try:
        kind, rest = take_string(blob)
        plain = kind.removesuffix(CERTIFICATE.encode()) + (b"@openssh.com" if kind.startswith(b"sk-") else b"")
        _, rest = take_string(rest)  # the nonce
        made = put_string(plain)
        for _ in range(_KEY_PARTS.get(plain.decode("ascii", "replace"), 2)):
            part, rest = take_string(rest)
            made += put_string(part)
    except ValueError:
        return blob
    return made
