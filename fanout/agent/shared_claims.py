"""Claims that all users of a host see: one abstract unix socket per claim, which the kernel removes with its holder.

The user who binds a name first holds the claim, and no other user can free it. The kernel reports who listens on the
socket (SO_PEERCRED, unix(7)). So a process that takes a name can only be reported as itself. The run is what the holder
reports. Abstract names belong to a network namespace: runs in another container are not visible here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import select
import socket
import struct
import time

from . import processes

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Iterable, Optional

PREFIX = "fanout-claim/"
ANSWER_SECONDS = 1.0  # how long the holders may take to report their runs; the kernel reports the user at once
VANISH_SECONDS = 2.0  # how long a dead holder's socket may outlive its lock: the kernel closes one file after the other
MOST_CLAIMS = 512  # of one host; more are only possible for a user who takes names without a run
LONGEST_ANSWER = 512
_NAME = re.compile(r"(?:port|gpu)-[A-Za-z0-9._:-]{1,80}")
_RUN = re.compile(r"[A-Za-z0-9._-]{1,100}")


class ClaimTaken(Exception):
    """Another user holds the claim; ``holder`` contains what is known of that process."""

    def __init__(self, claim: str, holder: dict) -> None:
        super().__init__(str(holder))
        self.claim = claim
        self.holder = holder


def take_claim(name: str, root: str) -> Optional[socket.socket]:
    """Hold ``name`` among all users of the host until the returned socket is closed. Raises ClaimTaken, OSError.

    Return None if this user holds it, but no run in ``root`` does: two hosts that are simulated on one machine. The caller
    holds the lock of the claim in ``root``, so a socket from there belongs to a run that ends. A process of this user that
    does not answer, for example because it is stopped, gets as much time to end as a run that ends.
    """
    until = time.monotonic() + VANISH_SECONDS
    while True:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(_build_address(name))
            offer_claim(listener)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
        holder = find_holders([name]).get(name)
        is_own = holder is not None and holder["uid"] == os.getuid()
        is_late = time.monotonic() > until
        if holder is not None and is_own and holder["place"] != hash_place(root) and (holder["place"] or is_late):
            return None
        if is_late or (holder is not None and holder["uid"] not in (os.getuid(), None)):
            raise ClaimTaken(name, holder or _build_holder(None, None, b""))
        time.sleep(0.01)


def offer_claim(listener: socket.socket) -> None:
    """Listen on the socket of a claim. From now on, the kernel reports this process as its holder."""
    listener.listen(64)
    listener.setblocking(False)


def describe_run(run: str, root: str) -> bytes:
    """Return the line with which a holder answers each connection to its claims."""
    return json.dumps({"run": run, "since": time.time(), "place": hash_place(root)}).encode() + b"\n"


def hash_place(root: str) -> str:
    """Return a short hash of a state directory, because other users need not know its path."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def list_claims() -> list:
    """Return the holder of every claim in this network namespace, with ``claim``, its name."""
    holders = find_holders(list_names())
    return [dict(holder, claim=name) for name, holder in sorted(holders.items())]


def list_claims_of_others() -> list:
    """Return the claims of other users' processes in this network namespace."""
    return [holder for holder in list_claims() if holder["uid"] != os.getuid()]


def find_holders(names: Iterable[str]) -> dict:
    """Return name -> holder for each of these claims that is held: uid, user, pid, run, since and place.

    The kernel gives uid and pid; they are None if the process does not accept connections. ``run`` is "" if the process
    does not report one, so it may be no run of fanout.
    """
    clients: dict = {}
    holders: dict = {}
    for name in names:
        client, holders[name] = _connect_holder(name)
        if client is not None:
            clients[client] = name
    until = time.monotonic() + ANSWER_SECONDS
    while clients:
        ready = select.select(list(clients), [], [], max(0.0, until - time.monotonic()))[0]
        for client in ready or list(clients):
            name = clients.pop(client)
            uid, pid = holders[name]["uid"], holders[name]["pid"]
            try:
                holders[name] = _build_holder(uid, pid, client.recv(LONGEST_ANSWER))
            except OSError:
                pass  # it did not answer
            client.close()
    return {name: holder for name, holder in holders.items() if holder is not None}


def _build_address(name: str) -> bytes:
    return b"\0" + os.fsencode(PREFIX + name)


def list_names() -> list:
    """Return the names of all claims in this network namespace, without their holders."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file:
            paths = {row.rpartition(" ")[2] for row in file.read().splitlines() if "@" + PREFIX in row}
    except OSError:
        return []
    names = sorted(path[len(PREFIX) + 1 :] for path in paths if path.startswith("@" + PREFIX))
    return [name for name in names if _NAME.fullmatch(name)][:MOST_CLAIMS]


def _connect_holder(name: str) -> tuple:
    """Return (the connection, the holder as the kernel knows it); (None, None) if no process has the name."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        client.connect(_build_address(name))
        pid, uid, _ = struct.unpack("iIi", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return client, _build_holder(uid, pid or None, b"")
    except OSError as error:
        client.close()
        if error.errno == errno.ECONNREFUSED and name not in list_names():
            return None, None
        return None, _build_holder(None, None, b"")  # it does not listen, or its queue is full


def _build_holder(uid: Optional[int], pid: Optional[int], answer: bytes) -> dict:
    """Return what is known of a holder. ``answer`` is its own text, so nothing in it is trusted but its form."""
    try:
        stated = json.loads(answer.decode()) if answer else {}
        stated = stated if isinstance(stated, dict) else {}
    except ValueError:
        stated = {}
    run, since, place = stated.get("run"), stated.get("since"), stated.get("place")
    is_run = isinstance(run, str) and _RUN.fullmatch(run) is not None
    is_time = isinstance(since, (int, float)) and not isinstance(since, bool) and 0 <= since < 1e11
    return {
        "uid": uid,
        "user": format_user(uid),
        "pid": pid,
        "run": run if is_run else "",
        "since": processes.read_start_time(pid) if pid else since if is_time else None,
        "place": place if isinstance(place, str) else "",
    }


def format_user(uid: Optional[int]) -> str:
    """Return the user's name with the uid; the uid alone if the host does not know the user."""
    import pwd  # needed only for a conflict

    if uid is None:
        return "a user that cannot be identified"
    try:
        return "%s (uid %d)" % (pwd.getpwuid(uid).pw_name, uid)
    except KeyError:
        return "uid %d" % uid
