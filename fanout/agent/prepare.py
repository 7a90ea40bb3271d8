"""Prepare: take the claims, check the directories, and start a keeper; or refuse and leave nothing behind.

``Refusal`` carries a kind for programs, and a message and a hint for users. If any part fails, all steps are undone.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import sys
import time
import traceback

from . import claim_files, kill_sweep, processes, run_claims, run_files, shared_claims, state_dir
from .probes import probe_tools

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Optional

    from .keeper import Keeper

FAULT_KILL_SECONDS = 20.0  # how long a failed keeper tries to kill its tree
CHECK_SECONDS = 10.0  # how long the work directory may take to answer
FETCHED_SECONDS = 30.0  # a live launcher has reconnected by then


class Refusal(Exception):
    """Reason why this host does not start the run."""

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint

    def to_frame(self) -> dict:
        return {"t": "refused", "kind": self.kind, "message": str(self), "hint": self.hint}


def prepare_run(spec: dict) -> str:
    """Create the run's directory and its keeper; return the directory. An existing run of this id is reused. Raises
    Refusal."""
    directory = state_dir.find_run(spec["run"], spec["node"])
    if directory:
        return directory
    try:
        root = state_dir.make_state_dir()
    except state_dir.NoStateDir as error:
        hint = "make one of them usable, or set FANOUT_STATE on that host to a local directory that you own"
        if error.full:
            hint = "free some space there (df -h %s), or set FANOUT_STATE on that host" % error.full
        kind = "disk-full" if error.full else "no-state"
        raise Refusal(kind, "no private directory for the run's state: %s" % error, hint) from None
    try:
        _check_in_child(spec)
        _start_keeper(spec, root)
    except Refusal:
        state_dir.remove_stale_files(root)
        raise
    return state_dir.run_path(root, spec["run"], spec["node"])


def _check_in_child(spec: dict) -> None:
    """Run the checks in a child: an unresponsive file server must not block this connection."""

    def found() -> Optional[list]:
        try:
            _check_spec(spec)
        except Refusal as refusal:
            return [refusal.kind, str(refusal), refusal.hint]
        return None

    try:
        refused = probe_tools.ForkedCall(found, CHECK_SECONDS).get_result()
    except probe_tools.FactUnavailable as error:
        message = "%s cannot be read: %s" % (spec["cwd"], error)
        raise Refusal(
            "no-directory", message, "check that its file server is up: `ls %s` on that host" % spec["cwd"]
        ) from None
    if refused:
        raise Refusal(*refused)


def _check_spec(spec: dict) -> None:
    """Check what must exist before the run starts on any host. Raises Refusal."""
    if sys.platform != "linux":
        raise Refusal("no-linux", "this host runs %s; fanout needs Linux" % sys.platform)
    cwd = spec["cwd"]
    if not os.path.isdir(cwd):
        raise Refusal(
            "no-directory",
            "no directory %s on this host" % cwd,
            "give every host the project at the same path, or give its path with --chdir or workdir=",
        )
    if not os.access(cwd, os.X_OK):
        raise Refusal("no-directory", "no permission to enter %s" % cwd)
    for path in spec["required_files"]:
        if not os.path.isfile(os.path.join(cwd, path)):
            raise Refusal("no-script", "no file %s in %s" % (path, cwd), "copy it there, or share the directory")


def _start_keeper(spec: dict, root: str) -> None:
    """Fork the keeper and wait for its answer: ready, or a refusal."""
    temporary = state_dir.temporary_run_path(root, spec["run"], spec["node"])
    answer_read, answer_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer_read)
        os.setsid()
        if os.fork():
            os._exit(0)  # the keeper must belong to init, not to this connection
        _run_keeper(spec, root, temporary, answer_write)
        os._exit(0)
    os.close(answer_write)
    os.waitpid(child, 0)
    with open(answer_read, "rb") as file:
        text = file.read().decode()
    state_dir.remove_tree(temporary)  # left only by a failure: a ready keeper has renamed it
    if not text and state_dir.find_run(spec["run"], spec["node"]):
        return  # the keeper died after its directory was renamed: the record describes it
    answer = json.loads(text or '["keeper", "the keeper died at its start", ""]')
    if answer != "ready":
        raise Refusal(*answer)


def _run_keeper(spec: dict, root: str, temporary: str, answer: int) -> None:
    """Run the keeper in its own process: take the claims, create directory and socket, then serve until the end."""
    claims = run_claims.RunClaims(root, spec)
    keepers: list = []

    def release() -> None:
        for kept in keepers:
            kept.release_claims()
        claims.release()

    try:
        from . import keeper, spawn

        spawn.LIBC.prctl(spawn.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _take_claims(claims)
        _check_connection()
        state_dir.retry_missing(_make_run_directory, root, temporary)
        listener = _open_socket(temporary)
        _write_run_info(spec, temporary)
        kept = keeper.Keeper(spec, temporary, listener, claims)
        kept.relays.watch_claim_sockets(claims.sockets.values(), shared_claims.describe_run(spec["run"], root))
        keepers.append(kept)
        kept.set_directory(_publish_directory(spec, root, temporary))
    except Refusal as refusal:
        release()
        os.write(answer, json.dumps([refusal.kind, str(refusal), refusal.hint]).encode())
        os._exit(0)
    except state_dir.AlreadyStarted:
        release()
        os.write(answer, b'"ready"')
        os._exit(0)
    except OSError as error:
        release()
        os.write(answer, json.dumps(_refuse_no_space(error, root)).encode())
        os._exit(0)
    _report_ready(answer)
    _serve_keeper(kept)


def _serve_keeper(kept: Keeper) -> None:
    """Serve the run to its end. Record a bug of the keeper for the next relay, and leave no process behind."""
    try:
        kept.serve()
    except Exception:
        kept.status.update(fault=run_files.summarize_traceback(traceback.format_exc()))
        kill_sweep.kill_all(lambda: processes.descendants(os.getpid()), FAULT_KILL_SECONDS)


def _make_run_directory(root: str, temporary: str) -> None:
    state_dir.make_private(root)
    os.mkdir(temporary, 0o700)


def _publish_directory(spec: dict, root: str, temporary: str) -> str:
    """Give the finished directory its final name, which only one process can do. So a run that exists has a listening
    keeper."""
    directory = state_dir.run_path(root, spec["run"], spec["node"])
    try:
        os.rename(temporary, directory)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise state_dir.AlreadyStarted from None
        raise
    return directory


def _refuse_no_space(error: OSError, root: str) -> tuple:
    """Return the refusal for a state directory that does not accept the run's record."""
    message = "cannot keep the run's record: %s: %s" % (error.filename or root, error.strerror)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk-full", message, "free some space there (df -h %s), or set FANOUT_STATE on that host" % root
    return "no-state", message, "set FANOUT_STATE on that host to a local directory that you own"


def _report_ready(answer: int) -> None:
    """Report ready, and close the connection's descriptors: sshd ends a session only when no process holds them."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    os.chdir("/")
    os.write(answer, b'"ready"')
    os.close(answer)


def _check_connection() -> None:
    """Raise Refusal if the connection of the request has ended.

    The launcher has connected again by now. Its run may even be over, and no launcher would ever release this keeper.
    """
    poll = select.poll()
    poll.register(0, select.POLLRDHUP)
    if poll.poll(0):
        raise Refusal("gone", "the connection ended while this host prepared the run", "connect again")


def _take_claims(claims: run_claims.RunClaims) -> None:
    """Take the claims. Raises Refusal with the holder if another run has one."""
    try:
        claims.take()
    except claim_files.ClaimHeld as busy:
        raise _refuse_busy(claims.spec, busy.claim, busy.holder) from None
    except shared_claims.ClaimTaken as taken:
        raise _refuse_taken(taken.claim, taken.holder) from None


def _refuse_busy(spec: dict, name: str, holder: dict) -> Refusal:
    """Return the refusal that names the holder, a run of this user, and what the user can do."""
    if holder.get("run") == spec["run"]:
        return Refusal(
            "same-machine",
            "this machine already has node %s of this run" % holder.get("node", "?"),
            "leave one of the two out of the hostfile; for more processes on one machine, use slots=N",
        )
    return Refusal(
        "busy",
        "busy: %s is held by run %s of %s since %s (pid %s)"
        % (
            name,
            holder.get("run", "?"),
            holder.get("by", "?"),
            _format_time(holder.get("since", 0)),
            holder.get("pid", "?"),
        ),
        _advise_busy("stop it with `fanout stop %s`" % holder.get("run", "RUN")),
    )


def _refuse_taken(name: str, holder: dict) -> Refusal:
    """Return the refusal that names the process of another user that holds the claim."""
    if holder["uid"] is None:
        message = "busy: %s is held by a process that does not accept connections" % name
        return Refusal(
            "busy", message, _advise_busy("find it with `sudo ss -xlp | grep %s%s`" % (shared_claims.PREFIX, name))
        )
    who = "run %s of %s" % (holder["run"], holder["user"]) if holder["run"] else holder["user"]
    since = " since %s" % _format_time(holder["since"]) if holder["since"] is not None else ""
    what = "" if holder["run"] else ", which reports no run of fanout"
    message = "busy: %s is held by %s%s (pid %s)%s" % (name, who, since, holder["pid"] or "in another container", what)
    return Refusal("busy", message, _advise_busy("ask %s to stop it" % holder["user"]))


def _format_time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _advise_busy(end: str) -> str:
    return "wait for it, %s, or use another --master-port and other GPUs" % end


def _write_run_info(spec: dict, directory: str) -> None:
    """Write a description of the run, for `ps`, `attach`, `clean` and a launcher that resumes it without its record."""
    run_info = dict(spec.get("run_info", {}), cwd=spec["cwd"], by=spec["by"], claims=spec["claims"], since=time.time())
    if os.path.isdir("/sys/class/infiniband"):
        from .probes import rdma  # loaded only on a host with such ports

        run_info["ports"] = rdma.read_counters()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(os.path.join(directory, "run_info"), flags, 0o600), "w", encoding="utf-8") as file:
        json.dump(run_info, file)


def read_run_info(directory: str) -> dict:
    """Return that description; {} if it cannot be read."""
    try:
        with open(os.path.join(directory, "run_info"), encoding="utf-8") as file:
            run_info = json.load(file)
    except (OSError, ValueError):
        return {}
    return run_info if isinstance(run_info, dict) else {}


def list_stale_runs() -> list:
    """Return the stale runs: their directory exists, no keeper of theirs lives, and no launcher has fetched how they
    ended.

    A run that has just ended is not stale: its launcher reads it, or is reconnecting.
    """
    return [
        run
        for root in state_dir.list_state_dirs()
        for run, node in state_dir.list_runs(root)
        if _is_stale(state_dir.run_path(root, run, node))
    ]


def _is_stale(directory: str) -> bool:
    return (
        _is_deserted(directory)
        and run_files.read_age(directory) > FETCHED_SECONDS
        and not state_dir.is_record_read(directory)
    )


def _is_deserted(directory: str) -> bool:
    """Return whether no keeper answers. A directory that vanishes meanwhile belongs to a run that is just being
    fetched."""
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    keeper.settimeout(0.0)
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        keeper.connect("/proc/self/fd/%d/socket" % descriptor)
    except BlockingIOError:
        pass  # the keeper exists, and its queue is full
    except OSError:
        return os.path.isdir(directory)
    finally:
        keeper.close()
        os.close(descriptor)
    return False


def _open_socket(directory: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(run_files.open_socket_path(directory))
    listener.listen(16)
    return listener
