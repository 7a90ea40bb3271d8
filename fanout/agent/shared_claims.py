"""Claims that all users of a host see: each is an abstract unix socket, which the kernel removes with its holder.

The flocks in a user's private directory separate the runs of that user only; other users cannot read there. The name of
the socket contains the run, and the kernel reports its owner. Every user can claim a free name, as with a port.
"""

from __future__ import annotations

import os
import socket
import struct
import time

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Optional

PREFIX = "fanout-claim"
LONGEST_NAME = 106  # sun_path has 108 bytes, and the first is NUL
TRIES = 4  # two users who claim at the same moment see each other: both withdraw and retry


class ClaimTaken(Exception):
    """Another user holds the claim; ``holder`` contains what is known of that run."""

    def __init__(self, claim: str, holder: dict) -> None:
        super().__init__(str(holder))
        self.claim = claim
        self.holder = holder


def take_claim(name: str, run: str) -> socket.socket:
    """Hold ``name`` among all users of the host until the returned socket is closed. Raises ClaimTaken.

    The claim is announced first and others are looked for then. So of two users at least one sees the other.
    """
    tries = 0
    while True:
        ours = _bind_claim(name, run)
        holder = find_holder(name)
        if holder is None:
            return ours
        ours.close()
        tries += 1
        if tries == TRIES:
            raise ClaimTaken(name, holder)
        time.sleep(0.02 + os.urandom(1)[0] / 1000)


def _bind_claim(name: str, run: str) -> socket.socket:
    label = "/".join([PREFIX, name, str(os.getuid()), str(os.getpid()), str(int(time.time())), run.replace("/", "_")])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(b"\0" + os.fsencode(label)[:LONGEST_NAME])
    listener.listen(64)
    listener.setblocking(False)
    return listener


def find_holder(name: str) -> Optional[dict]:
    """Return what is known of another user's run that holds ``name``; None if no other user does."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
            rows = file.read().splitlines()
    except OSError:
        return None
    start = "@%s/%s/" % (PREFIX, name)
    for label in {row[row.find(start) :] for row in rows if start in row}:
        fields = label.split("/")
        if len(fields) == 6 and all(field.isdigit() for field in fields[2:5]):
            uid, pid, since = map(int, fields[2:5])
            if uid != os.getuid() and _read_owner(label) in (uid, None):
                return {"run": fields[5], "by": format_user(uid), "pid": pid, "since": since, "uid": uid}
    return None


def _read_owner(label: str) -> Optional[int]:
    """Return the uid of the process that listens on the socket; -1 if there is none, None if it is too busy."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        client.connect(b"\0" + os.fsencode(label[1:]))
        return int(struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
    except BlockingIOError:
        return None
    except OSError:
        return -1
    finally:
        client.close()


def format_user(uid: int) -> str:
    """Return the user's name with the uid; the uid alone if the host does not know the user."""
    import pwd  # needed only for a conflict

    try:
        return "%s (uid %d)" % (pwd.getpwuid(uid).pw_name, uid)
    except KeyError:
        return "uid %d" % uid
