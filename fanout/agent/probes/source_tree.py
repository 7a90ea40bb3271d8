"""Source fingerprint of the work directory: git's index if there is one, and a hash of what git does not track.

The probe only reads: it takes no lock in the repository and ignores the user's configuration. Time and number of files
are bounded; what is left out is named.
"""

from __future__ import annotations

import hashlib
import os
import time

from .files import resolve_path
from .probe_tools import FactUnavailable, ToolProcess

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_CODE = (".py", ".sh", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".cpp", ".cu", ".cuh", ".h")
_SKIPPED_DIRS = (
    "__pycache__",
    "node_modules",
    "site-packages",
    "build",
    "dist",
)  # generated from the code on each host
# Directories that runs write, or read as data, by their names. A package of such a name has modules directly in it.
_WRITTEN = (
    "wandb",
    "log",
    "run",
    "result",
    "checkpoint",
    "ckpt",
    "data",
    "output",
    "venv",
    "env",
    "mlruns",
    "tensorboard",
)
_MOST_FILES = 4000
_MOST_CHANGED = 200
_LARGEST = 1 << 20
_SECONDS = 2.5


def fingerprint_tree(args: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint. A git clone has ``{"head", "code", "dirty": {path: hash}, "empty_modules"}``.

    Every directory has ``{"files": {path: hash}, "whole", "left_out": [reason]}`` for what git does not track.
    """
    if not args.get("tree"):
        raise FactUnavailable("not asked for")
    top = resolve_path(".", args)
    if not os.path.isdir(top):
        raise FactUnavailable("no directory %s" % top)
    clone: dict[str, Any] = {}
    tracked: set[str] = set()
    if os.path.exists(os.path.join(top, ".git")) and not args.get("plain"):
        try:
            clone, tracked = _fingerprint_git(os.path.realpath(top))
        except FactUnavailable:
            pass  # no git program, or git refuses: the files themselves can still be read
    walk = _TreeWalk(top, tracked)
    walk.run()
    return {**clone, "files": walk.found, "whole": not walk.left_out, "left_out": walk.left_out}


def ask_tree(args: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint by the files alone (``plain``), for a host whose peers are no clones."""
    return fingerprint_tree(args)


def _fingerprint_git(top: str) -> tuple[dict[str, Any], set[str]]:
    """Return git's facts about the clone, and the tracked paths."""
    head = _run_git(top, "rev-parse", "--short=12", "HEAD").strip()
    entries = [line.split("\t", 1) for line in _run_git(top, "ls-files", "-s", "-z").split("\0") if line]
    code = hashlib.sha256("\n".join("\t".join(entry) for entry in entries if entry[1].endswith(_CODE)).encode())
    dirty: dict[str, str] = {}
    for entry in _run_git(top, "status", "--porcelain", "-z", "--untracked-files=no", "--no-renames").split("\0"):
        path = entry[3:]
        if path.endswith(_CODE) and len(dirty) < _MOST_CHANGED:  # logs and results may differ between hosts
            full = os.path.join(top, path)
            dirty[path] = _hash_file(full) if os.path.isfile(full) else "deleted"
    modules = [path for mode, path in entries if mode.startswith("160000 ")]
    empty = [path for path in modules if not os.listdir(_existing_or_empty(os.path.join(top, path)))]
    clone = {"head": head, "code": code.hexdigest()[:16], "dirty": dirty, "empty_modules": empty}
    return clone, {path for _, path in entries}


def _existing_or_empty(path: str) -> str:
    return path if os.path.isdir(path) else "/proc/self/fdinfo"


def _run_git(top: str, *words: str) -> str:
    """Run git without optional locks, and without its check that the tree belongs to this uid."""
    env = dict(
        os.environ,
        GIT_OPTIONAL_LOCKS="0",
        GIT_CONFIG_COUNT="3",
        GIT_CONFIG_KEY_0="safe.directory",
        GIT_CONFIG_VALUE_0="*",
        GIT_CONFIG_KEY_1="core.fsmonitor",
        GIT_CONFIG_VALUE_1="false",
        GIT_CONFIG_KEY_2="core.untrackedCache",
        GIT_CONFIG_VALUE_2="false",
    )
    status, text = ToolProcess(["git", "-C", top, *words], env, 4.0).get_output()
    if status != 0:
        raise FactUnavailable("git %s: %s" % (words[0], text.strip()[:200]))
    return text


class _TreeWalk:
    """Walk over directories, top levels first. Links to directories are followed, each directory once."""

    def __init__(self, top: str, tracked: set[str]) -> None:
        self.found: dict[str, str] = {}
        self.left_out: list[str] = []
        self._tracked = tracked
        self._until = time.monotonic() + _SECONDS
        self._seen: set[tuple[int, int]] = set()
        self._waiting: list[tuple[str, str, bool]] = [("", top, False)]  # path from the top, full path, only modules

    def run(self) -> None:
        while self._waiting:
            level, self._waiting = self._waiting, []
            for inside, full, modules in level:
                if not self._may_continue(inside or "."):
                    return
                self._scan(inside, full, modules)

    def _may_continue(self, where: str) -> bool:
        if len(self.found) >= _MOST_FILES:
            self.left_out.append("more than %d files, from %s on" % (_MOST_FILES, where))
        elif time.monotonic() > self._until:
            self.left_out.append("time limit of %g s reached at %s" % (_SECONDS, where))
        return not self.left_out or self.left_out[-1].startswith("cannot read")

    def _scan(self, inside: str, full: str, modules: bool) -> None:
        try:
            seen = os.stat(full)
            if (seen.st_dev, seen.st_ino) in self._seen:
                return
            self._seen.add((seen.st_dev, seen.st_ino))
            with os.scandir(full) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.left_out.append("cannot read %s: %s" % (inside, error.strerror))
            return
        names = {entry.name for entry in listed}
        if inside and ("pyvenv.cfg" in names or "conda-meta" in names):
            return  # an environment: its packages are compared by version
        if _is_written(os.path.basename(inside)):
            modules = True
            if not any(name.endswith(".py") for name in names):
                return
        for entry in listed:
            path = os.path.join(inside, entry.name)
            if entry.name.endswith((".py",) if modules else _CODE):
                if path not in self._tracked and entry.is_file() and len(self.found) < _MOST_FILES:
                    self._add_file(path, entry.path)
            elif _may_hold_code(entry.name) and entry.is_dir():
                self._waiting.append((path, entry.path, modules))

    def _add_file(self, path: str, full: str) -> None:
        try:
            self.found[path] = _hash_file(full)
        except OSError as error:
            self.found[path] = "cannot be read (%s)" % error.strerror


def _may_hold_code(name: str) -> bool:
    return not name.startswith(".") and name not in _SKIPPED_DIRS and not name.endswith((".egg-info", ".dist-info"))


def _is_written(name: str) -> bool:
    plain = name.lower().lstrip(".")
    return any(
        plain in (word, word + "s") or plain.startswith((word + "_", word + "-", word + "s_")) for word in _WRITTEN
    )


def _hash_file(path: str) -> str:
    size = os.path.getsize(path)
    if size > _LARGEST:
        return "%d bytes" % size
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(_LARGEST)).hexdigest()[:16]
