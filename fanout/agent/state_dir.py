"""State directory: a private directory on a local file system for each user's runs.

It is never the home directory, which may be NFS and shared by all hosts. It is never a directory with other
permissions: /tmp is open to all users, so a planted directory or link is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from . import claim_files, run_files

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable

RECORD_BYTES = 64 << 10  # the space that a run needs besides its log: status, run_info, claims, socket
FULL = (errno.ENOSPC, errno.EDQUOT)
MAX_RETRIES = 100  # how often the directory may vanish meanwhile before it counts as an error


class NoStateDir(Exception):
    """No usable state directory; the text names each candidate with its reason. ``full``: the first full one."""

    def __init__(self, reasons: str, full: str) -> None:
        super().__init__(reasons)
        self.full = full


class AlreadyStarted(Exception):
    """Another connection of the same launcher has just created this run on this host."""


def list_candidates() -> list:
    """Return the directories to try, best first."""
    given = os.environ.get("FANOUT_STATE")
    if given:
        return [given]
    return [base + "/fanout-%d" % os.getuid() for base in ("/var/tmp", "/tmp", "/dev/shm")]


def make_state_dir() -> str:
    """Return this user's state directory on this host, created if necessary. Raises NoStateDir."""
    reasons, full = [], ""
    for path in list_candidates():
        try:
            return str(retry_missing(make_private, path))
        except OSError as error:
            reasons.append("%s: %s" % (path, error.strerror or error))
            if error.errno in FULL:
                full = full or path
                remove_stale_files(path)
    raise NoStateDir("; ".join(reasons), full)


def retry_missing(act: Callable, *args: object) -> object:
    """Return ``act(*args)``; retry if a run that just ended removed the empty directory meanwhile."""
    for _ in range(MAX_RETRIES):
        try:
            return act(*args)
        except FileNotFoundError:
            time.sleep(0.001)
    return act(*args)


def find_run(run: str, node: int) -> str:
    """Return the directory of an existing run, "" if there is none. Search all candidates, because disks fill up."""
    for path in list_candidates():
        directory = run_path(path, run, node)
        try:
            _check_private(path)
            if stat.S_ISDIR(os.lstat(directory).st_mode):
                return directory
        except OSError:
            continue
    return ""


def make_private(path: str) -> str:
    """Return ``path`` as a private directory that accepts files; create it if necessary. Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    _check_private(path)
    probe = os.path.join(path, ".probe.%d" % os.getpid())
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, RECORD_BYTES)
    except OSError as error:
        if error.errno in FULL:
            raise
    finally:
        os.close(descriptor)
        os.unlink(probe)
    return path


def _check_private(path: str) -> None:
    """Raise OSError unless ``path`` is a directory of this uid with mode 0700, and no link. Change nothing."""
    seen = os.lstat(path)
    if not stat.S_ISDIR(seen.st_mode):
        raise OSError(0, "already exists and is not a directory")
    if seen.st_uid != os.getuid():
        raise OSError(0, "belongs to uid %d, not to this user" % seen.st_uid)
    if stat.S_IMODE(seen.st_mode) & 0o077:
        raise OSError(0, "is open to others (mode %o)" % stat.S_IMODE(seen.st_mode))


def temporary_run_path(root: str, run: str, node: int) -> str:
    """Return the name of a run's directory until its keeper listens there; then it is renamed."""
    return os.path.join(root, "unborn-%s.%d.%dp" % (run, node, os.getpid()))


def list_state_dirs() -> list:
    """Return the existing state directories of this user. Create none."""
    found = []
    for path in list_candidates():
        if _is_own_directory(path):
            found.append(path)
    return found


def run_path(root: str, run: str, node: int) -> str:
    """Return the path of a run's directory."""
    return os.path.join(root, "%s.%d" % (run, node))


def list_runs(root: str) -> list:
    """Return (run, node) of each run directory. Another directory of such a name has no status of a keeper."""
    found = []
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        names = []  # the last run there has just ended
    for name in names:
        run, dot, node = name.rpartition(".")
        if dot and node.isdigit() and _is_run(os.path.join(root, name)):
            found.append((run, int(node)))
    return found


def _is_run(directory: str) -> bool:
    """Return whether a keeper of this user made the directory: it is no link and has a fully allocated status."""
    status = run_files.stat_own_file(os.path.join(directory, "status"))
    return _is_own_directory(directory) and status is not None and status.st_size >= run_files.LEAST_BYTES


def _is_own_directory(path: str) -> bool:
    try:
        seen = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid()


def lock_record(directory: str) -> None:
    """Hold a shared lock on the run's status until this process exits, so that the run does not count as stale."""
    try:
        fcntl.flock(os.open(os.path.join(directory, "status"), os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)
    except OSError:
        pass  # the file is gone, or the file system has no locks


def is_record_read(directory: str) -> bool:
    """Return whether a relay reads the record. A record that is removed meanwhile was read to its end."""
    try:
        descriptor = os.open(os.path.join(directory, "status"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return not os.path.isdir(directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove_stale_files(root: str) -> None:
    """Delete what killed keepers left, and the directory itself if it is empty then. Other files in it stay."""
    try:
        for name in os.listdir(root):
            path = os.path.join(root, name)
            if name.startswith(("claim-port-", "claim-gpu-")) and claim_files.is_claim(path):
                claim_files.remove_stale_claim(root, name[len("claim-") :])
            elif (
                name.startswith("unborn-") and _has_maker_died(name.rpartition(".")[2], "p") and _is_own_directory(path)
            ):
                remove_tree(path)
            elif (
                name.startswith(".probe.") and _has_maker_died(name[len(".probe.") :]) and run_files.stat_own_file(path)
            ):
                os.unlink(path)
        os.rmdir(root)
    except OSError:
        pass


def _has_maker_died(pid: str, end: str = "") -> bool:
    """Return whether ``pid``, the last part of a temporary name, belongs to no process."""
    number = pid[: -len(end)] if end and pid.endswith(end) else pid if not end else ""
    return number.isdigit() and not os.path.exists("/proc/" + number)


def remove_run(root: str, run: str, node: int) -> None:
    """Delete a run's directory with its content, if a keeper made it. What cannot be deleted is tried again later."""
    from . import torch_dirs  # only the end of a run needs it

    directory = run_path(root, run, node)
    try:
        if _is_run(directory):
            torch_dirs.remove_temporary(directory)
            remove_tree(directory)
    except OSError:
        pass


def remove_tree(directory: str) -> None:
    """Delete a private directory and its content; never follow a link, never enter another file system.

    The status is deleted last, so that an interrupted deletion can be repeated. Another relay may delete at the same
    time.
    """
    try:
        device = os.lstat(directory).st_dev
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name == "status")
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif entry.stat(follow_symlinks=False).st_dev == device:
                remove_tree(entry.path)
        os.rmdir(directory)
    except FileNotFoundError:
        pass
