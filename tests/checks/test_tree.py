"""The fingerprint of the code: what git tracks, what it does not, and how much of it is looked at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fanout.agent.probes import source_tree

pytestmark = pytest.mark.process


def fingerprint(top: Path, **more: Any) -> dict[str, Any]:
    return source_tree.fingerprint_tree({"tree": True, "workdir": str(top), **more})


def git(top: Path, *words: str) -> None:
    identity = {"GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(top)}
    for role in ("AUTHOR", "COMMITTER"):
        identity |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@t"}
    words = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *words)
    subprocess.run(["git", "-C", str(top), *words], check=True, capture_output=True, env={**os.environ, **identity})


def put(path: Path, text: str = "x = 1\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with one tracked file, and a .gitignore."""
    top = tmp_path / "clone"
    put(top / "task.py")
    put(top / ".gitignore", "VeOmni/\n*.local.py\n")
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "one")
    return top


@pytest.mark.parametrize(
    "path",
    ["newpkg/__init__.py", "namespace/part/module.py", "VeOmni/veomni/core.py", "site.local.py", "data/loader.py", "new.py"],
    ids=["untracked", "namespace", "ignored", "ignored-file", "package-of-data", "file"],
)  # fmt: skip
def test_code_that_git_does_not_track_is_in_it(clone: Path, path: str) -> None:
    """Also in directories that git names as a whole, or ignores."""
    put(clone / path)
    assert list(fingerprint(clone)["files"]) == [path]


def test_a_link_to_a_directory_is_followed_once(clone: Path, tmp_path: Path) -> None:
    """A link to a package elsewhere is code; one that leads back up ends."""
    put(tmp_path / "elsewhere" / "pkg" / "a.py")
    (clone / "pkg").symlink_to(tmp_path / "elsewhere" / "pkg")
    (clone / "loop").symlink_to(clone)
    assert list(fingerprint(clone)["files"]) == ["pkg/a.py"]


def test_a_change_in_a_submodule_is_in_it(clone: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    put(other / "lib.py")
    git(other, "init", "-q")
    git(other, "add", "-A")
    git(other, "commit", "-qm", "one")
    git(clone, "submodule", "add", "-q", str(other), "lib")
    git(clone, "commit", "-qm", "two")
    before = fingerprint(clone)["files"]["lib/lib.py"]
    put(clone / "lib" / "lib.py", "x = 2\n")
    assert fingerprint(clone)["files"]["lib/lib.py"] != before


def test_a_changed_file_is_told_apart_from_a_new_one(clone: Path) -> None:
    put(clone / "task.py", "x = 2\n")
    put(clone / "staged.py")
    git(clone, "add", "staged.py")
    found = fingerprint(clone)
    assert (set(found["dirty"]), found["files"]) == ({"task.py", "staged.py"}, {})


def test_what_runs_write_and_what_is_built_is_no_code(clone: Path) -> None:
    """Copies of the code in results, environments, byte code."""
    for path in (
        "wandb/run-1/files/train.py",
        "outputs/x/train.py",
        "build/lib/a.py",
        "a/__pycache__/b.py",
        ".cache/a.py",
    ):
        put(clone / path)
    put(clone / "myenv" / "pyvenv.cfg")
    put(clone / "myenv" / "lib" / "a.py")
    assert fingerprint(clone)["files"] == {}


def test_a_walk_that_is_cut_short_says_where(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of files and by time: never silently."""
    monkeypatch.setattr(source_tree, "_MOST_FILES", 3)
    for number in range(6):
        put(clone / f"p{number}" / "a.py")
    found = fingerprint(clone)
    assert len(found["files"]) == 3
    assert (found["whole"], found["left_out"]) == (False, ["more than 3 files, from p3 on"])
    monkeypatch.setattr(source_tree, "_SECONDS", -1.0)
    assert fingerprint(clone)["left_out"] == ["time limit of -1 s reached at ."]


def test_a_plain_copy_can_be_compared_with_a_clone(clone: Path, tmp_path: Path) -> None:
    """By the files alone, on both."""
    put(tmp_path / "copy" / "task.py")
    assert fingerprint(tmp_path / "copy")["files"] == fingerprint(clone, plain=True)["files"]
