"""The fingerprint of the work directory's code: git's own index where there is one, else a hash of the sources.

Only reading: no lock is taken in the repository, and no configuration of the user is touched.
"""

from __future__ import annotations

import hashlib
import os

from .probes_files import placed
from .probes_tools import NotHad, Program

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Any

_CODE = (".py", ".sh", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".cpp", ".cu", ".cuh", ".h")
_SKIPPED = {"__pycache__", "node_modules", "venv", "env", "wandb", "logs", "runs", "results", "checkpoints", "data"}
_MOST_FILES = 4000
_LARGEST = 1 << 20


def tree(args: dict[str, Any]) -> dict[str, Any]:
    """``{"head", "index", "dirty": {path: sha256}, "empty_modules"}``, or ``{"files": {path: sha256}, "whole"}``."""
    if not args.get("tree"):
        raise NotHad("not asked for")
    top = placed(".", args)
    if not os.path.isdir(top):
        raise NotHad("no directory %s" % top)
    if os.path.exists(os.path.join(top, ".git")):
        try:
            return _git(os.path.realpath(top))
        except NotHad:
            pass  # no git program, or one that refuses: the files themselves can still be read
    return _walk(top)


def _git(top: str) -> dict[str, Any]:
    head = _run(top, "rev-parse", "--short=12", "HEAD").strip()
    index = _run(top, "ls-files", "-s", "-z")
    dirty: dict[str, str] = {}
    for entry in _run(top, "status", "--porcelain", "-z", "--untracked-files=normal").split("\0"):
        path = entry[3:]
        if not path.endswith(_CODE) or len(dirty) >= 200:
            continue  # logs and results differ between hosts, and should
        full = os.path.join(top, path)
        if os.path.isfile(full):
            dirty[path] = _hash(full)
        elif entry[:2].strip() == "D":
            dirty[path] = "deleted"
    empty = [
        line.split("\t", 1)[1]
        for line in index.split("\0")
        if line.startswith("160000 ") and not os.listdir(_existing(os.path.join(top, line.split("\t", 1)[1])))
    ]
    return {"head": head, "index": hashlib.sha256(index.encode()).hexdigest(), "dirty": dirty, "empty_modules": empty}


def _existing(path: str) -> str:
    return path if os.path.isdir(path) else "/proc/self/fdinfo"


def _run(top: str, *words: str) -> str:
    """git without optional locks, and without its refusal to read a tree that belongs to another uid."""
    env = dict(
        os.environ, GIT_OPTIONAL_LOCKS="0", GIT_CONFIG_COUNT="3",
        GIT_CONFIG_KEY_0="safe.directory", GIT_CONFIG_VALUE_0="*",
        GIT_CONFIG_KEY_1="core.fsmonitor", GIT_CONFIG_VALUE_1="false",
        GIT_CONFIG_KEY_2="core.untrackedCache", GIT_CONFIG_VALUE_2="false",
    )  # fmt: skip
    status, text = Program(["git", "-C", top, *words], env, 4.0).output()
    if status != 0:
        raise NotHad("git %s: %s" % (words[0], text.strip()[:200]))
    return text


def _walk(top: str) -> dict[str, Any]:
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith((".", "output")))
        for name in sorted(names):
            full = os.path.join(folder, name)
            if name.endswith(_CODE) and os.path.isfile(full) and os.path.getsize(full) <= _LARGEST:
                if len(found) >= _MOST_FILES:
                    return {"files": found, "whole": False}
                found[os.path.relpath(full, top)] = _hash(full)
    return {"files": found, "whole": True}


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(_LARGEST)).hexdigest()[:16]
