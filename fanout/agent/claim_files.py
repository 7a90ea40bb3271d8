"""Claim files: a lock (flock) on a file in the state directory, with a description of its holder as content.

The kernel releases a lock when its holder dies, so there are no stale claims.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

from . import run_files

CLAIM_BYTES = 64 << 10  # more than a holder writes into its claim
HOLDER_SECONDS = 1.0  # how long a holder may take to write who it is


class ClaimHeld(Exception):
    """Another run holds a claim that this run needs; ``holder`` is what that run wrote into it."""

    def __init__(self, claim: str, holder: dict) -> None:
        super().__init__(claim)
        self.claim = claim
        self.holder = holder


def take_claim(root: str, name: str, own: dict) -> int:
    """Hold ``name`` on this host until the returned descriptor is closed. Raises ClaimHeld with the holder's data."""
    path = os.path.join(root, "claim-" + name)
    until = time.monotonic() + HOLDER_SECONDS
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = read_holder(descriptor)
            os.close(descriptor)
            if not holder and time.monotonic() < until:
                time.sleep(0.01)  # the holder is just taking the claim, or removing that of a dead one
                continue
            raise ClaimHeld(name, holder) from None
        try:
            if write_claim(root, name, descriptor, own):
                return descriptor
        except OSError:
            release_claim(root, name, descriptor)
            raise
        os.close(descriptor)  # its last holder removed the file between our open and our flock


def write_claim(root: str, name: str, descriptor: int, holder: dict) -> bool:
    """Write the holder into a locked claim; return False if the file was deleted. Raises OSError."""
    if not _is_same_file(descriptor, os.path.join(root, "claim-" + name)):
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)
    return True


def release_claim(root: str, name: str, descriptor: int) -> None:
    """Release a claim and delete its file, while it is still locked: no process can lock a deleted file."""
    try:
        os.unlink(os.path.join(root, "claim-" + name))
    except FileNotFoundError:
        pass
    os.close(descriptor)


def _is_same_file(descriptor: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def read_holder(descriptor: int) -> dict:
    """Return what the holder wrote into its claim; {} if that is not there yet."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0).decode())
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def is_claim(path: str) -> bool:
    """Return whether the file is empty or holds the JSON object that a claim's holder writes."""
    seen = run_files.stat_own_file(path)
    if seen is None or seen.st_size > CLAIM_BYTES:
        return False
    try:
        with open(path, "rb") as file:
            return seen.st_size == 0 or isinstance(json.loads(file.read().decode()), dict)
    except (OSError, ValueError):
        return False


def remove_stale_claim(root: str, name: str) -> None:
    """Delete the claim of a holder that was killed; keep a claim that is held."""
    try:
        release_claim(root, name, take_claim(root, name, {}))
    except ClaimHeld:
        pass
