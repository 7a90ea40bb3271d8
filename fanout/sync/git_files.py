"""Git files: what git would call the project, with uncommitted work, its commit, and whether there is uncommitted work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from fanout.model.errors import LauncherError, UsageError
from fanout.sync.manifest import decode_path, encode_path

_SECONDS = 120.0
#: git must not refuse a clone of another user, and must start no program that the clone's configuration names.
_SETTINGS = (("safe.directory", "*"), ("core.fsmonitor", "false"), ("core.untrackedCache", "false"))


@dataclass(slots=True, kw_only=True)
class GitFiles:
    """Paths below a directory, and its commit ("" without one). ``empty_modules`` are submodules that were not fetched."""

    paths: set[str] = field(default_factory=set)
    commit: str = ""
    is_dirty: bool = False
    empty_modules: list[str] = field(default_factory=list)


class GitReader:
    """Reader of one clone. ``environ`` is that of the user."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {**environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_COUNT": str(len(_SETTINGS)), "LC_ALL": "C"}
        for number, (name, value) in enumerate(_SETTINGS):
            self._environ |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}

    def read_files(self, top: str) -> GitFiles | None:
        """Return the files below ``top``; None if it is in no clone, or is ignored in one. Raises UsageError."""
        if not _is_in_clone(top):
            return None
        ended, inside, _ = self._run_git(top, "rev-parse", "--is-inside-work-tree")
        if ended != 0 or inside.strip() != b"true":
            return None
        if self._run_git(top, "check-ignore", "-q", ".")[0] == 0:
            return None
        found = GitFiles()
        self._add_files(found, top, "")
        ended, commit, _ = self._run_git(top, "rev-parse", "--short=12", "HEAD")
        found.commit = commit.decode("ascii", "replace").strip() if ended == 0 else ""
        found.is_dirty = bool(self._read_output(top, "status", "--porcelain", "-z", "--", "."))
        return found

    def _add_files(self, found: GitFiles, top: str, prefix: str) -> None:
        """Add the files of a clone, and those of the clones in it."""
        here = top + "/" + prefix if prefix else top
        clones = []
        for entry in self._read_output(here, "ls-files", "-z", "--cached", "--stage").split(b"\0"):
            head, _, name = entry.partition(b"\t")
            if head.startswith(b"160000 "):
                clones.append(decode_path(name))
            elif name:
                found.paths.add(prefix + decode_path(name))
        for name in self._read_output(here, "ls-files", "-z", "--others", "--exclude-standard").split(b"\0"):
            if name.endswith(b"/"):  # a clone that is no submodule
                clones.append(decode_path(name[:-1]))
            elif name:
                found.paths.add(prefix + decode_path(name))
        for clone in dict.fromkeys(clones):
            if os.path.lexists(encode_path(f"{here}/{clone}/.git")):
                self._add_files(found, top, f"{prefix}{clone}/")
            else:
                found.empty_modules.append(prefix + clone)

    def _read_output(self, top: str, *words: str) -> bytes:
        ended, output, errors = self._run_git(top, *words)
        if ended != 0:
            text = errors.decode("utf-8", "replace").strip()[:300]
            raise UsageError(f"git {words[0]} failed in {top}: {text}", hint=f"git -C {top} status")
        return output

    def _run_git(self, top: str, *words: str) -> tuple[int, bytes, bytes]:
        try:
            done = subprocess.run(
                ["git", "-C", encode_path(top), *words],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LauncherError(f"git {words[0]} did not end within {_SECONDS:g} s in {top}") from None
        except OSError as error:
            message = f"{top} is a git clone, and git cannot be started: {error.strerror}"
            raise UsageError(message, hint="install git on this machine") from None
        return done.returncode, done.stdout, done.stderr


def _is_in_clone(top: str) -> bool:
    """Return whether the directory, or one that contains it, has an entry .git."""
    while not os.path.lexists(encode_path(os.path.join(top, ".git"))):
        if top == os.path.dirname(top):
            return False
        top = os.path.dirname(top)
    return True
