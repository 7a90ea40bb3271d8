"""Fingerprint of the code: files that git tracks, files that it does not track, and limits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fanout.agent.probes import source_tree

pytestmark = pytest.mark.process


def take_fingerprint(top: Path, **more: Any) -> dict[str, Any]:
    return source_tree.fingerprint_tree({"tree": True, "workdir": str(top), **more})


def run_git(top: Path, *words: str) -> None:
    identity = {"GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(top)}
    for role in ("AUTHOR", "COMMITTER"):
        identity |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@t"}
    words = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *words)
    subprocess.run(["git", "-C", str(top), *words], check=True, capture_output=True, env={**os.environ, **identity})


def write_file(path: Path, text: str = "x = 1\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Create a clone with one tracked file, and a .gitignore."""
    top = tmp_path / "clone"
    write_file(top / "task.py")
    write_file(top / ".gitignore", "VeOmni/\n*.local.py\n")
    run_git(top, "init", "-q")
    run_git(top, "add", "-A")
    run_git(top, "commit", "-qm", "one")
    return top


@pytest.mark.parametrize(
    "path",
    [
        "newpkg/__init__.py",
        "namespace/part/module.py",
        "VeOmni/veomni/core.py",
        "site.local.py",
        "data/loader.py",
        "new.py",
    ],
    ids=["untracked", "namespace", "ignored", "ignored-file", "package-of-data", "file"],
)
def test_code_that_git_does_not_track_is_included(clone: Path, path: str) -> None:
    """This includes directories that git names as a whole, or ignores."""
    write_file(clone / path)
    assert list(take_fingerprint(clone)["files"]) == [path]


def test_a_link_to_a_directory_is_followed_once(clone: Path, tmp_path: Path) -> None:
    """A link to a package elsewhere is code; a link that leads back up ends."""
    write_file(tmp_path / "elsewhere" / "pkg" / "a.py")
    (clone / "pkg").symlink_to(tmp_path / "elsewhere" / "pkg")
    (clone / "loop").symlink_to(clone)
    assert list(take_fingerprint(clone)["files"]) == ["pkg/a.py"]


def test_a_change_in_a_submodule_is_included(clone: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_file(other / "lib.py")
    run_git(other, "init", "-q")
    run_git(other, "add", "-A")
    run_git(other, "commit", "-qm", "one")
    run_git(clone, "submodule", "add", "-q", str(other), "lib")
    run_git(clone, "commit", "-qm", "two")
    before = take_fingerprint(clone)["files"]["lib/lib.py"]
    write_file(clone / "lib" / "lib.py", "x = 2\n")
    assert take_fingerprint(clone)["files"]["lib/lib.py"] != before


def test_a_changed_file_is_distinguished_from_a_new_one(clone: Path) -> None:
    write_file(clone / "task.py", "x = 2\n")
    write_file(clone / "staged.py")
    run_git(clone, "add", "staged.py")
    found = take_fingerprint(clone)
    assert (set(found["dirty"]), found["files"]) == ({"task.py", "staged.py"}, {})


def test_output_of_runs_and_builds_is_not_code(clone: Path) -> None:
    """Examples are copies of the code in results, environments, and byte code."""
    for path in (
        "wandb/run-1/files/train.py",
        "outputs/x/train.py",
        "build/lib/a.py",
        "a/__pycache__/b.py",
        ".cache/a.py",
    ):
        write_file(clone / path)
    write_file(clone / "myenv" / "pyvenv.cfg")
    write_file(clone / "myenv" / "lib" / "a.py")
    assert take_fingerprint(clone)["files"] == {}


def test_truncated_directory_walk_reports_its_position(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of files and the time are limits; neither is silent."""
    monkeypatch.setattr(source_tree, "_MOST_FILES", 3)
    for number in range(6):
        write_file(clone / f"p{number}" / "a.py")
    found = take_fingerprint(clone)
    assert len(found["files"]) == 3
    assert (found["whole"], found["left_out"]) == (False, ["more than 3 files, from p3 on"])
    monkeypatch.setattr(source_tree, "_SECONDS", -1.0)
    assert take_fingerprint(clone)["left_out"] == ["time limit of -1 s reached at ."]


def test_a_plain_copy_can_be_compared_with_a_clone(clone: Path, tmp_path: Path) -> None:
    """The comparison uses only the files, on both."""
    write_file(tmp_path / "copy" / "task.py")
    assert take_fingerprint(tmp_path / "copy")["files"] == take_fingerprint(clone, plain=True)["files"]
