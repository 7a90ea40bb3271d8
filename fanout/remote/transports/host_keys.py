"""Host key verification: the known_hosts files and the policy of the configuration, applied as by OpenSSH.

Two differences from OpenSSH are intended. A changed key is never accepted, even with ``StrictHostKeyChecking no``. After
a key was accepted, no other key of that host is accepted in this process, even if known_hosts is /dev/null. New lines
are appended under a lock; files are never rewritten.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import ipaddress
import os
import threading
import time
from collections.abc import Iterator
from enum import Enum
from typing import IO

from fanout.model.errors import Unreachable
from fanout.model.frozen import frozen
from fanout.remote.transports.host_certificates import CERTIFICATE, InvalidCertificate, check_certificate
from fanout.remote.transports.known_hosts import KnownHostsIndex, KnownHostsLine, hash_name, parse_known_hosts
from fanout.remote.transports.ssh_options import SshOptions

LOCK_SECONDS = 5.0  # time-out if another process holds the lock of known_hosts
LOCK_PAUSE_SECONDS = 0.05

#: Algorithms that paramiko may negotiate for a key of type ssh-rsa in known_hosts.
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
#: The certificate types that paramiko supports, in OpenSSH's order.
CERTIFICATES = tuple(
    f"{kind}{CERTIFICATE}"
    for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", *RSA_SIGNATURES)
)


class HostKeyStatus(Enum):
    KNOWN = "known"
    ACCEPTED = "accepted"  # unknown, and accepted by the configuration or a flag
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@frozen
class PresentedKey:
    """The key that a host presents, and its certificate if it has one."""

    key_type: str
    key: bytes
    certificate: bytes = b""


@frozen
class ExpectedKeys:
    """The known_hosts entries of one host."""

    options: SshOptions
    name: str  # as in known_hosts: host, or [host]:port
    files: tuple[str, ...]
    lines: tuple[KnownHostsLine, ...]
    without_port: tuple[KnownHostsLine, ...]  # the lines for the plain name, if the port is not 22
    found_in: tuple[str, ...]  # the files that have a line for it

    @property
    def by_hand(self) -> str:
        return self.options.by_hand

    @property
    def key_types(self) -> list[str]:
        """Return the signature types to request first, so that a server with several keys presents a known one."""
        trusted = self.lines or self.without_port
        certificates = CERTIFICATES if any(line.marker == "@cert-authority" for line in trusted) else ()
        kinds = [line.key_type for line in trusted if not line.marker]
        return [*certificates, *(kind for name in kinds for kind in (RSA_SIGNATURES if name == "ssh-rsa" else (name,)))]


class KnownHosts:
    """The known_hosts files, read again after a change, and the keys that were accepted in this process."""

    def __init__(self, *, accept_new: bool) -> None:
        """Set ``accept_new`` to accept the key of a host that no file lists, in spite of its configuration."""
        self._accept_new = accept_new
        self._lock = threading.Lock()
        self._files: dict[str, tuple[tuple[int, int, int], KnownHostsIndex]] = {}
        self._accepted: dict[str, KnownHostsLine] = {}

    def expected_keys(self, options: SshOptions) -> ExpectedKeys:
        """Return the known_hosts entries of a host, from the files and by the alias in ``options``."""
        files = (*options.user_known_hosts, *options.global_known_hosts)
        plain = options.known_as
        own_name = options.port == 22 or bool(options.host_key_alias)
        name = plain if own_name else f"[{plain}]:{options.port}"
        found = {path: self._load_lines(path).find_lines(name) for path in files}
        lines = [line for of_file in found.values() for line in of_file]
        with self._lock:
            accepted = self._accepted.get(name)
        return ExpectedKeys(
            options=options,
            name=name,
            files=files,
            lines=(*lines, accepted) if accepted is not None else tuple(lines),
            without_port=()
            if own_name
            else tuple(line for path in files for line in self._load_lines(path).find_lines(plain)),
            found_in=tuple(path for path, of_file in found.items() if of_file),
        )

    def _load_lines(self, path: str) -> KnownHostsIndex:
        try:
            facts = os.stat(path)
            stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            with self._lock:
                before, lines = self._files.get(path, (None, KnownHostsIndex(())))
            if stamp == before:
                return lines
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = KnownHostsIndex(parse_known_hosts(file.read()))
        except OSError:
            return KnownHostsIndex(())
        with self._lock:
            self._files[path] = (stamp, lines)
        return lines

    def verify_key(self, expected: ExpectedKeys, shown: PresentedKey) -> HostKeyStatus:
        """Return the status of the presented key. An unknown key is accepted and stored if that is enabled."""
        verdict = self._compare_key(expected, shown)
        if verdict is not HostKeyStatus.UNKNOWN or not self.accepts_new(expected.options):
            return verdict
        return self._accept_key(expected, shown)

    def accepts_new(self, options: SshOptions) -> bool:
        return self._accept_new or options.strict_host_key_checking in ("accept-new", "no")

    def _compare_key(self, expected: ExpectedKeys, shown: PresentedKey) -> HostKeyStatus:
        if not expected.options.check_localhost_key and _is_loopback(expected.options.hostname):
            return HostKeyStatus.KNOWN
        revoked = {line.key for line in (*expected.lines, *expected.without_port) if line.marker == "@revoked"}
        if shown.key in revoked:
            return HostKeyStatus.REVOKED
        verdict = _compare_with_lines(expected.lines, shown, expected.options.known_as, revoked)
        if verdict is HostKeyStatus.UNKNOWN:  # as in OpenSSH: the plain name counts only if it has this very key
            plain = _compare_with_lines(expected.without_port, shown, expected.options.known_as, revoked)
            return plain if plain in (HostKeyStatus.KNOWN, HostKeyStatus.REVOKED) else verdict
        return verdict

    def _accept_key(self, expected: ExpectedKeys, shown: PresentedKey) -> HostKeyStatus:
        """Store the key, unless another thread or process stored one meanwhile: then that one counts."""
        line = KnownHostsLine(marker="", names=(expected.name,), key_type=shown.key_type, key=shown.key)
        path = expected.files[0] if expected.files else os.devnull
        try:
            with _open_locked(path) as file:
                now = self.expected_keys(expected.options)
                verdict = self._compare_key(now, shown)
                if verdict is not HostKeyStatus.UNKNOWN:
                    return verdict
                _append_line(file, _format_line(line, hashed=expected.options.hash_known_hosts))
        except OSError:
            pass  # as in ssh: continue without the file; below, this process remembers the key
        with self._lock:
            first = self._accepted.setdefault(expected.name, line)
        return HostKeyStatus.ACCEPTED if first.key == shown.key else HostKeyStatus.CHANGED


def _compare_with_lines(
    lines: tuple[KnownHostsLine, ...], shown: PresentedKey, name: str, revoked: set[bytes]
) -> HostKeyStatus:
    authorities = {line.key for line in lines if line.marker == "@cert-authority"}
    if shown.certificate and authorities:
        with contextlib.suppress(InvalidCertificate):  # as in OpenSSH: then its plain key counts
            authority = check_certificate(shown.certificate, name, time.time())
            if authority in revoked:
                return HostKeyStatus.REVOKED
            if authority in authorities:
                return HostKeyStatus.KNOWN
    keys = {line.key for line in lines if not line.marker}
    if shown.key in keys:
        return HostKeyStatus.KNOWN
    # a key of a type that is not known for this host is a change, although OpenSSH treats it as new
    return HostKeyStatus.CHANGED if keys else HostKeyStatus.UNKNOWN


def _is_loopback(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname.partition("%")[0]).is_loopback
    except ValueError:
        return hostname == "localhost"


def _format_line(line: KnownHostsLine, *, hashed: bool) -> str:
    name = hash_name(line.names[0], os.urandom(20)) if hashed else line.names[0]
    return f"{name} {line.key_type} {base64.b64encode(line.key).decode()}"


@contextlib.contextmanager
def _open_locked(path: str) -> Iterator[IO[bytes]]:
    """Open a known_hosts file for appending and hold its lock. Raises OSError, Unreachable."""
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    until = time.monotonic() + LOCK_SECONDS
    with open(path, "ab+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Unreachable(
                        f"{path} has been locked by another process for {LOCK_SECONDS:g} s", hint=f"fuser -v {path}"
                    ) from None
            threading.Event().wait(LOCK_PAUSE_SECONDS)
        yield file


def append_line(path: str, line: str) -> None:
    """Append one line under a lock. Add a line end first if the file's last line has none."""
    with _open_locked(path) as file:
        _append_line(file, line)


def _append_line(file: IO[bytes], line: str) -> None:
    size = file.seek(0, os.SEEK_END)
    ends_well = size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n"
    file.write(("" if ends_well else "\n").encode() + line.encode() + b"\n")
    file.flush()  # before the lock is released
