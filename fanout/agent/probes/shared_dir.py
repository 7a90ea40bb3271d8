"""Shared directory test: each host leaves a token in the directory and looks for those of the other hosts.

A token's name is random, and other hosts look it up only after its host has reported it: a network file system caches a
missing name for up to a minute. Each host removes its own token, by a child that outlives the agent.
"""

from __future__ import annotations

import os
import signal
import time

from .files import find_mount, resolve_path
from .probe_tools import FactUnavailable

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Iterator

_PREFIX = ".fanout-check-"
_STALE = 3600.0  # seconds; no check takes as long
LOCAL_FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "ramfs", "bcachefs"}


def ask_share(args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Put this host's token into the work directory; it is removed when the question is cancelled."""
    top = resolve_path(".", args)
    folder = os.path.join(top, _PREFIX + args["nonce"])
    token = os.path.join(folder, str(args["index"]))
    _remove_stale_tokens(top)
    _remove_at_exit(folder, token)
    try:
        os.makedirs(folder, mode=0o777, exist_ok=True)
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(descriptor, args["nonce"].encode())
        os.fsync(descriptor)
        os.close(descriptor)
    except OSError as error:
        raise FactUnavailable("cannot write in %s: %s" % (top, error.strerror)) from None
    yield {"token": token}
    while True:
        signal.pause()


def ask_shared(args: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of the tokens that are visible here, and the seconds until the last one was.

    Only a network file system is polled: on a local one, a missing token will not appear.
    """
    top = resolve_path(".", args)
    folder = os.path.join(top, _PREFIX + args["nonce"])
    patience = (
        0.0 if find_mount(os.path.realpath(top)).get("type") in LOCAL_FILE_SYSTEMS else float(args.get("wait", 3.0))
    )
    began = time.monotonic()
    while True:
        seen = [number for number in range(args["count"]) if _is_there(folder, number, args["nonce"])]
        took = time.monotonic() - began
        if len(seen) == args["count"] or took >= patience:
            return {"seen": seen, "seconds": round(took, 2)}
        os.listdir(top)  # makes some file systems refresh their cache
        time.sleep(0.2)


def _is_there(folder: str, number: int, nonce: str) -> bool:
    try:
        with open(os.path.join(folder, str(number)), "rb") as file:
            return file.read(64).decode("ascii", "replace") == nonce
    except OSError:
        return False


def _remove_at_exit(folder: str, token: str) -> None:
    """Fork a child that waits until this process ends in any way, then removes the token."""
    ours, theirs = os.pipe()
    if os.fork():
        os.close(ours)  # the other end stays open until this process ends
        return
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)  # sshd waits for each process that holds these
        os.close(theirs)
        os.read(ours, 1)
        _remove_tokens(folder, token)
    finally:
        os._exit(0)


def _remove_tokens(folder: str, *tokens: str) -> None:
    for path in tokens:
        try:
            os.unlink(path)
        except OSError:
            pass
    try:
        os.rmdir(folder)  # the last host succeeds
    except OSError:
        pass


def _remove_stale_tokens(top: str) -> None:
    """Remove the tokens of a check whose host lost power: files named by a number that contain the check's nonce."""
    for name in os.listdir(top):
        folder, nonce = os.path.join(top, name), name[len(_PREFIX) :]
        if not name.startswith(_PREFIX) or os.path.islink(folder) or not os.path.isdir(folder):
            continue
        if time.time() - os.stat(folder).st_mtime > _STALE:
            numbers = [int(entry) for entry in os.listdir(folder) if entry.isdigit()]
            _remove_tokens(folder, *(os.path.join(folder, str(n)) for n in numbers if _is_there(folder, n, nonce)))
