"""Claims of one run on this host: take them, pass them to the run's next attempt, release them.

A claim is a lock on an open file, which separates the runs of one user, and a socket with a name that all users see. The
kernel keeps both while any process has them open. So a claim that one keeper passes to the next over a unix socket
(SCM_RIGHTS, unix(7)) is never free in between, and no other run can take it.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import time

from . import claim_files, frames, run_files, shared_claims, state_dir

SAME_RUN_SECONDS = 10.0  # after this time, another start of the same run counts as another node on this host
HANDOVER_SECONDS = 5.0  # how long the keeper of the attempt before may take to answer
MOST_RIGHTS = 253  # descriptors that one message can pass: SCM_MAX_FD, include/net/scm.h


class RunClaims:
    """The claims that one keeper holds: locks among the user's own runs, and sockets that all users see."""

    def __init__(self, root: str, spec: dict) -> None:
        self.root = root
        self.spec = spec
        self.locks: dict = {}  # name -> descriptor
        self.sockets: dict = {}  # name -> listening socket
        self.notice = ""  # why other users do not see the claims

    def take(self) -> None:
        """Take all claims. Raises claim_files.ClaimHeld, shared_claims.ClaimTaken, and state_dir.AlreadyStarted if the same
        run is just being created."""
        spec = self.spec
        holder = {"by": spec["by"], "run": spec["run"], "node": spec["node"], "pid": os.getpid(), "since": time.time()}
        self._inherit(holder)
        for name in sorted(self.spec["claims"]):
            if name not in self.locks:
                self.locks[name] = self._take_lock(name, holder)
        for name in sorted(self.spec["claims"]):
            if name not in self.sockets:
                self._take_socket(name)

    def _take_socket(self, name: str) -> None:
        """Take the claim among all users. Where the kernel has no such sockets, note that other users do not see it."""
        try:
            taken = shared_claims.take_claim(name, self.root)
        except OSError as error:
            self.notice = "other users do not see which port and GPUs this run holds: %s" % error.strerror
            return
        if taken is not None:
            self.sockets[name] = taken

    def _take_lock(self, name: str, holder: dict) -> int:
        until = time.monotonic() + SAME_RUN_SECONDS
        while True:
            try:
                descriptor = state_dir.retry_missing(_make_lock, self.root, name, holder)
                assert isinstance(descriptor, int)
                return descriptor
            except claim_files.ClaimHeld as busy:
                is_same_run = (busy.holder.get("run"), busy.holder.get("node")) == (self.spec["run"], self.spec["node"])
                if not is_same_run or time.monotonic() > until:
                    raise
            if state_dir.find_run(self.spec["run"], self.spec["node"]):
                raise state_dir.AlreadyStarted
            time.sleep(0.01)  # the same launcher, over a link that broke a moment ago, is just creating the run

    def _inherit(self, holder: dict) -> None:
        """Receive the claims of the attempt before, and release those that this attempt does not need."""
        before = self.spec.get("after")
        directory = state_dir.find_run(before["run"], before["node"]) if before else ""
        locks, sockets = request_claims(directory) if directory else ({}, {})
        for name, descriptor in locks.items():
            if name in self.spec["claims"] and claim_files.write_claim(self.root, name, descriptor, holder):
                self.locks[name] = descriptor
            else:
                claim_files.release_claim(self.root, name, descriptor)
        for name, descriptor in sockets.items():
            listener = socket.socket(fileno=descriptor)
            if name in self.locks:
                shared_claims.offer_claim(listener)
                self.sockets[name] = listener
            else:
                listener.close()

    def send_to(self, client: socket.socket) -> None:
        """Pass all claims to the keeper of the next attempt, and close them here."""
        locks, sockets = sorted(self.locks), sorted(self.sockets)
        passed = [self.locks[name] for name in locks] + [self.sockets[name].fileno() for name in sockets]
        rights = array.array("i", passed[:MOST_RIGHTS])
        data = json.dumps([locks, sockets]).encode() + b"\n"
        client.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if passed else [])
        for name in locks:
            os.close(self.locks.pop(name))
        for name in sockets:
            self.sockets.pop(name).close()

    def release(self) -> None:
        """Release everything that is still held. The sockets come first: a lock that is free promises a free name."""
        while self.sockets:
            self.sockets.popitem()[1].close()
        for name in list(self.locks):
            claim_files.release_claim(self.root, name, self.locks.pop(name))


def request_claims(directory: str) -> tuple:
    """Return (name -> descriptor of the locks, the same of the sockets) that the keeper of ``directory`` passes.

    Both are {} if it does not answer.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(HANDOVER_SECONDS)
    rights = array.array("i")
    try:
        client.connect(run_files.open_socket_path(directory))
        client.sendall(frames.pack_control({"op": "hand_over", "v": frames.PROTOCOL_VERSION}))
        data = b""
        until = time.monotonic() + HANDOVER_SECONDS
        while not rights and time.monotonic() < until:
            data, control, _, _ = client.recvmsg(65536, socket.CMSG_SPACE(MOST_RIGHTS * rights.itemsize))
            for level, kind, payload in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    rights.frombytes(payload[: len(payload) - len(payload) % rights.itemsize])
            if not data:
                break
        if not rights:
            return {}, {}
        locks, sockets = json.loads(data.decode())
        return dict(zip(locks, rights)), dict(zip(sockets, rights[len(locks) :]))
    except (OSError, ValueError):
        for descriptor in rights:
            os.close(descriptor)
        return {}, {}
    finally:
        client.close()


def _make_lock(root: str, name: str, holder: dict) -> int:
    state_dir.make_private(root)
    _check_other_dirs(root, name)
    return claim_files.take_claim(root, name, holder)


def _check_other_dirs(root: str, name: str) -> None:
    """Raise ClaimHeld if a run holds this claim in another state directory, for example from before a disk filled up."""
    for other in state_dir.list_state_dirs():
        try:
            descriptor = os.open(os.path.join(other, "claim-" + name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if other != root:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise claim_files.ClaimHeld(name, claim_files.read_holder(descriptor)) from None
        finally:
            os.close(descriptor)
