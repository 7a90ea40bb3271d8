"""known_hosts: which key a host must show, by the same files and rules as OpenSSH; appended to, never rewritten.

Hashed names, ``[host]:port`` and @revoked are understood; @cert-authority lines are not (such a host is unknown here:
use ``--transport openssh``). paramiko's own writer rewrites the file without a lock and drops what it does not know.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from fanout.transports.sshoptions import SshOptions

#: What paramiko may negotiate for a key that known_hosts calls ssh-rsa.
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")


class Verdict(Enum):
    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a known_hosts file: the name patterns, the key, and its marker ("" for most)."""

    marker: str
    names: tuple[str, ...]
    key_type: str
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the files say of one host."""

    name: str  # as known_hosts writes it: host, or [host]:port
    files: tuple[str, ...]
    keys: tuple[Line, ...]
    found_in: tuple[str, ...]  # the files that have a line for it
    by_hand: str

    @property
    def key_types(self) -> list[str]:
        """Signature types to ask for first, so that a server with several keys shows the one that is known."""
        kinds = [line.key_type for line in self.keys if not line.marker]
        return [kind for name in kinds for kind in (RSA_SIGNATURES if name == "ssh-rsa" else (name,))]


def parse(text: str) -> tuple[Line, ...]:
    """The lines that hold keys; comments, blanks and what is broken are passed over, as OpenSSH does."""
    lines = []
    for raw in text.splitlines():
        fields = raw.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3:
            continue
        try:
            key = base64.b64decode(fields[2], validate=True)
        except ValueError:
            continue
        lines.append(Line(marker=marker, names=tuple(fields[0].split(",")), key_type=fields[1], key=key))
    return tuple(lines)


def matches(line: Line, name: str) -> bool:
    """Is ``name`` meant by the line: plain, with wildcards, negated with ``!``, or hashed (``|1|salt|hash``)?"""
    hit = False
    for pattern in line.names:
        if pattern.startswith("|1|"):
            hit |= _hashed(pattern, name)
        elif pattern.startswith("!"):
            if fnmatchcase(name, _glob(pattern[1:])):
                return False
        else:
            hit |= fnmatchcase(name, _glob(pattern))
    return hit


def _glob(pattern: str) -> str:
    """OpenSSH knows * and ? alone; in ``[host]:22`` the brackets are brackets."""
    return pattern.lower().replace("[", "[[]")


def _hashed(pattern: str, name: str) -> bool:
    try:
        _, _, salt, digest = pattern.split("|")
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest))
    except ValueError:
        return False


class Lines:
    """A file's lines, found by name: most names are plain, and to try every line for every host is the square of both.

    64 hosts in one file of 64 lines: 100 ms for trying them all, 2 ms for this.
    """

    def __init__(self, lines: tuple[Line, ...]) -> None:
        self._plain: dict[str, list[Line]] = {}
        self._patterns: list[Line] = []
        for line in lines:
            if any(pattern.startswith(("|", "!")) or "*" in pattern or "?" in pattern for pattern in line.names):
                self._patterns.append(line)
                continue
            for name in {pattern.lower() for pattern in line.names}:
                self._plain.setdefault(name, []).append(line)

    def of(self, name: str) -> tuple[Line, ...]:
        """Those that mean ``name``, which is in lower case."""
        return (*self._plain.get(name, ()), *(line for line in self._patterns if matches(line, name)))


class KnownHosts:
    """The files, each read once."""

    def __init__(self, *, accept_new: bool) -> None:
        self._accept_new = accept_new
        self._files: dict[str, Lines] = {}

    def entry(self, options: SshOptions) -> Expected:
        """Return what is expected of the host that ``options`` dial, by the files and the alias that they name."""
        files = (*options.user_known_hosts, *options.global_known_hosts)
        plain = options.known_as
        name = plain if options.port == 22 or options.host_key_alias else f"[{plain}]:{options.port}"
        found = {path: self._lines(path).of(name) for path in files}
        return Expected(
            name=name,
            files=files or ("(no file)",),
            keys=tuple(line for lines in found.values() for line in lines),
            found_in=tuple(path for path, lines in found.items() if lines),
            by_hand=options.by_hand,
        )

    def _lines(self, path: str) -> Lines:
        if path not in self._files:
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    self._files[path] = Lines(parse(file.read()))
            except OSError:
                self._files[path] = Lines(())
        return self._files[path]

    def judge(self, expected: Expected, key_type: str, key: bytes) -> Verdict:
        """Is this the key? An unknown one is written down where that was asked for."""
        if any(line.marker == "@revoked" and line.key == key for line in expected.keys):
            return Verdict.REVOKED
        keys = [line for line in expected.keys if not line.marker]
        if any(line.key == key for line in keys):
            return Verdict.KNOWN
        if any(line.key_type == key_type for line in keys):
            return Verdict.CHANGED
        if keys:
            return Verdict.CHANGED  # another type than any we know: OpenSSH refuses this as well
        if self._accept_new:
            append(expected.files[0], f"{expected.name} {key_type} {base64.b64encode(key).decode()}")
            return Verdict.KNOWN
        return Verdict.UNKNOWN


def append(path: str, line: str) -> None:
    """Add one line under a lock, on a line of its own whatever the file's last byte is."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        ends_well = size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n"
        file.write(("" if ends_well else "\n").encode() + line.encode() + b"\n")
