"""Paths of a sync: which directories of a host a sync may write to, and which paths inside of one. No file is changed."""

from __future__ import annotations

import os
import pwd
import re

from .. import prepare, state_dir
from .files import list_mount_points
from .probe_tools import FactUnavailable
from .runs import has_live_keeper

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

STATE = ".fanout-sync"  # the directory of the manifest and the lock; the prefix of all other names of a sync
TOKEN = re.compile(re.escape(STATE) + "-[0-9a-f]{16}")  # a file that finds shared directories
TEMPORARY = re.compile(TOKEN.pattern + "-[0-9]+")  # a file that arrives, beside its target
LINK = 2  # kind of a row of the manifest; the others are files
_MOST_PATH = 4096

#: Nothing below these belongs to a project.
_SYSTEM_TREES = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/sbin",
    "/usr/share",
)
#: These hold projects of others, but are none themselves.
_SYSTEM_DIRECTORIES = (
    "/",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/src",
    "/var",
    "/var/lib",
    "/var/tmp",
    "/dev/shm",
)


def resolve_target(path: str) -> str:
    """Return the real path of the directory. Raises FactUnavailable for one that a sync must not write to."""
    real = os.path.realpath(os.path.expanduser(path))
    if not os.path.isabs(os.path.expanduser(path)):
        raise FactUnavailable("%s is not an absolute path" % path)
    if os.path.lexists(real) and not os.path.isdir(real):
        raise FactUnavailable("%s is not a directory" % real)
    if real in _SYSTEM_DIRECTORIES or _is_in_system_tree(real):
        raise FactUnavailable("%s is a directory of the system: a sync writes only to a project" % real)
    for home in _list_homes():
        if is_inside(home, real):
            raise FactUnavailable("%s is or contains the home directory %s: use a directory in it" % (real, home))
    refuse_mount_point(real, list_mount_points())
    return real


def refuse_mount_point(real: str, points: list[str]) -> None:
    """Raise FactUnavailable if a file system is mounted directly in the directory."""
    for point in points:
        if point != real and os.path.dirname(point) == real:
            raise FactUnavailable("%s contains the mount point %s: a sync writes only to a project" % (real, point))


def refuse_live_run(real: str) -> None:
    """Raise FactUnavailable if a run of this user is alive in the directory, above it or below it."""
    for root in state_dir.list_state_dirs():
        for run, node in state_dir.list_runs(root):
            directory = state_dir.run_path(root, run, node)
            there = prepare.read_run_info(directory).get("cwd")
            if not isinstance(there, str) or not has_live_keeper(directory):
                continue
            there = os.path.realpath(os.path.expanduser(there))
            if is_inside(there, real) or is_inside(real, there):
                text = "run %s is alive in %s: wait for its end, or stop it: fanout stop %s"
                raise FactUnavailable(text % (run, there, run))


def is_inside(path: str, directory: str) -> bool:
    """Return whether the path is the directory or lies below it. Both are real paths."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def split_path(path: Any) -> list[str]:
    """Return the names of a path of the manifest. Raises FactUnavailable for one that could leave the directory."""
    names = path.split("/") if isinstance(path, str) and len(path) <= _MOST_PATH else []
    wrong = not names or "\0" in path or any(name in ("", ".", "..", ".git") for name in names)
    if wrong or names[0] == STATE or TOKEN.fullmatch(names[-1]) or TEMPORARY.fullmatch(names[-1]):
        raise FactUnavailable("a sync never writes to the path %r" % (path,))
    return [str(name) for name in names]


def check_rows(rows: list[list[Any]]) -> None:
    """Raise FactUnavailable for a path or a link of the manifest that could leave the directory."""
    for row in rows:
        split_path(row[0])
        if row[1] == LINK and not is_link_inside(row[0], row[3]):
            raise FactUnavailable("the link %s ends outside of the project" % row[0])


def is_link_inside(path: str, target: str) -> bool:
    """Return whether a link at ``path`` with this text ends in the directory, by its names alone."""
    depth = path.count("/")
    for name in target.split("/"):
        depth += -1 if name == ".." else 0 if name in ("", ".") else 1
        if depth < 0:
            return False
    return bool(target) and not target.startswith("/") and "\0" not in target


def _is_in_system_tree(real: str) -> bool:
    return any(is_inside(real, tree) and not is_inside(real, "/dev/shm") for tree in _SYSTEM_TREES)


def _list_homes() -> list[str]:
    homes = [os.path.expanduser("~")]
    try:
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        pass  # in a container, the user id may have no entry
    return [os.path.realpath(home) for home in homes if os.path.isabs(home)]
