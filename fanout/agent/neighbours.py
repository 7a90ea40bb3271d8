"""Claims that all users of a host see: each is an abstract unix socket, which vanishes with its holder.

The flocks in a user's private directory keep the runs of this user apart; no other user can look in there. The name of
the socket tells the run, and the kernel tells whose it is. Every user can claim whatever is free, as with a port itself.
"""

from __future__ import annotations

import os
import socket
import struct
import time

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Optional

PREFIX = "fanout-claim"
LONGEST_NAME = 106  # sun_path has 108 bytes, and the first is NUL
TRIES = 4  # two users who claim at the same moment see each other: both step back, and try again


class Taken(Exception):
    """Another user holds the claim; ``holder`` is what can be told of that run."""

    def __init__(self, holder: dict) -> None:
        super().__init__(str(holder))
        self.holder = holder


def claim(name: str, run: str) -> socket.socket:
    """Hold ``name`` before all users until the returned socket is closed. Raises Taken.

    It is announced first and looked for then, so of two users one at least sees the other.
    """
    tries = 0
    while True:
        ours = _announce(name, run)
        holder = find_holder(name)
        if holder is None:
            return ours
        ours.close()
        tries += 1
        if tries == TRIES:
            raise Taken(holder)
        time.sleep(0.02 + os.urandom(1)[0] / 1000)


def _announce(name: str, run: str) -> socket.socket:
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
            if uid != os.getuid() and _owner(label) in (uid, None):
                return {"run": fields[5], "by": user_name(uid), "pid": pid, "since": since, "uid": uid}
    return None


def _owner(label: str) -> Optional[int]:
    """Return the uid of the process that listens there; -1 if none does, None if it is too busy to be asked."""
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


def user_name(uid: int) -> str:
    """Return the user's name with the uid, or the uid alone where the host knows no name."""
    import pwd  # only where there is a conflict

    try:
        return "%s (uid %d)" % (pwd.getpwuid(uid).pw_name, uid)
    except KeyError:
        return "uid %d" % uid
