"""Project files: which files are sent, in a clone and elsewhere, and what refuses a sync."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fanout.model.errors import UsageError
from fanout.sync.manifest import FileKind
from fanout.sync.project_files import Project, read_project
from tests.sync.projects import STRANGE, write_files

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


def read_top(top: Path, add: Sequence[str] = (), *, big: bool = False) -> Project:
    return read_project(str(top), ENVIRON, add=add, big=big)


def list_paths(top: Path, *add: str) -> list[str]:
    return [file.path for file in read_top(top, add).manifest.files]


def run_git(top: Path, *words: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    argv = ["git", "-C", str(top), *settings, *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def test_outside_of_a_clone_the_ignore_files_of_each_directory_count(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            ".gitignore": b"out/\n*.log\n",
            "a.py": b"",
            "x.log": b"",
            "out/big": b"",
            "sub/.gitignore": b"!keep.log\nz\n",
            "sub/keep.log": b"",
            "sub/z": b"",
            "z": b"",
            ".fanoutignore": b"/secret\n",
            "secret/x": b"",
            "sub/secret/x": b"",
            ".fanout-sync/lock": b"",
            ".fanout-sync-0123456789abcdef-1": b"",
        },
    )
    expected = [".fanoutignore", ".gitignore", "a.py", "sub/.gitignore", "sub/keep.log", "sub/secret/x", "z"]
    assert list_paths(tmp_path) == expected
    assert read_top(tmp_path).commit == ""


def test_an_ignored_file_is_sent_if_the_user_adds_it(tmp_path: Path) -> None:
    write_files(tmp_path, {".gitignore": b"*\n", ".env": b"A=1", "conf/a.yaml": b"", "conf/sub/b.yaml": b"", "x": b""})
    assert list_paths(tmp_path, ".env", "conf") == [".env", "conf/a.yaml", "conf/sub/b.yaml"]
    with pytest.raises(UsageError, match="there is no such file"):
        read_top(tmp_path, ["gone"])
    with pytest.raises(UsageError, match="outside"):
        read_top(tmp_path, ["../x"])


def test_names_of_any_bytes_are_sent(tmp_path: Path) -> None:
    write_files(tmp_path, {f"d/{name}": name.encode("utf-8", "surrogateescape") for name in STRANGE})
    assert list_paths(tmp_path) == sorted(f"d/{name}" for name in STRANGE)


def test_the_manifest_changes_with_each_content_kind_and_path(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": b"1", "b": b"2", "l": "a"})
    digests = {read_top(tmp_path).manifest.digest, read_top(tmp_path).manifest.digest}
    assert len(digests) == 1
    for change in (
        lambda: (tmp_path / "a").write_bytes(b"3"),
        lambda: (tmp_path / "a").chmod(0o755),
        lambda: (tmp_path / "b").rename(tmp_path / "c"),
        (tmp_path / "l").unlink,
    ):
        change()
        digests.add(read_top(tmp_path).manifest.digest)
    assert len(digests) == 5


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", "/", "chain"])
def test_a_link_that_ends_outside_refuses_the_sync(tmp_path: Path, target: str) -> None:
    write_files(tmp_path, {"outside": b"", "p/a.py": b"", "p/link": target})
    if target == "chain":
        write_files(tmp_path, {"p/chain": "../outside"})
    with pytest.raises(UsageError, match=r"end outside of it.*->") as refused:
        read_top(tmp_path / "p")
    assert refused.value.hint.startswith("echo /")
    (tmp_path / "p/.fanoutignore").write_text("link\nchain\n")
    assert list_paths(tmp_path / "p") == [".fanoutignore", "a.py"]


def test_a_link_inside_is_sent_as_a_relative_link(tmp_path: Path) -> None:
    top = tmp_path / "p"
    write_files(top, {"d/a.py": b"", "d/rel": "a.py", "d/abs": f"{top}/d/a.py", "dir": "d", "dangling": "out/latest"})
    links = {file.path: file.content for file in read_top(top).manifest.files if file.kind is FileKind.LINK}
    assert links == {"d/rel": "a.py", "d/abs": "a.py", "dir": "d", "dangling": "out/latest"}


def test_special_files_are_named_and_not_sent(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": b""})
    os.mkfifo(tmp_path / "pipe")
    project = read_top(tmp_path)
    assert [file.path for file in project.manifest.files] == ["a"]
    assert project.notes == ("not sent, because they are no files: pipe",)


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no directory"):
        read_top(tmp_path / "gone")


@pytest.mark.process
def test_in_a_clone_uncommitted_work_is_sent_and_ignored_files_are_not(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q")
    write_files(
        tmp_path, {".gitignore": b"out\nforced.bin\n", "a.py": b"1", "gone.py": b"", "forced.bin": b"", "out/x": b""}
    )
    run_git(tmp_path, "add", "-f", ".gitignore", "a.py", "gone.py", "forced.bin")
    run_git(tmp_path, "commit", "-qm", "x")
    commit = run_git(tmp_path, "rev-parse", "--short=12", "HEAD").strip()
    clean = read_top(tmp_path)
    assert (clean.commit, clean.is_dirty) == (commit, False)
    (tmp_path / "a.py").write_bytes(b"2")
    (tmp_path / "gone.py").unlink()
    write_files(tmp_path, {"new\n\udcff.py": b"", "sub/new.py": b""})
    project = read_top(tmp_path)
    assert (project.commit, project.is_dirty) == (commit, True)
    assert [file.path for file in project.manifest.files] == [
        ".gitignore",
        "a.py",
        "forced.bin",
        "new\n\udcff.py",
        "sub/new.py",
    ]
    assert list_paths(tmp_path / "sub") == ["new.py"]
    assert list_paths(tmp_path / "out") == ["x"], "an ignored directory is a project of its own"


@pytest.mark.process
def test_submodules_and_nested_clones_are_sent_and_an_empty_one_is_named(tmp_path: Path) -> None:
    library, top = tmp_path / "library", tmp_path / "top"
    write_files(library, {"lib.py": b""})
    run_git(library, "init", "-q")
    run_git(library, "add", ".")
    run_git(library, "commit", "-qm", "x")
    top.mkdir()
    run_git(top, "init", "-q")
    run_git(top, "submodule", "add", "-q", str(library), "mod")
    run_git(top, "submodule", "add", "-q", str(library), "empty")
    run_git(top, "commit", "-qm", "x")
    run_git(top, "submodule", "--quiet", "deinit", "-f", "empty")
    run_git(tmp_path, "clone", "-q", str(library), str(top / "nested"))
    write_files(top, {"mod/uncommitted.py": b"", "nested/own.py": b""})
    project = read_top(top)
    paths = [file.path for file in project.manifest.files]
    assert paths == [".gitmodules", "mod/lib.py", "mod/uncommitted.py", "nested/lib.py", "nested/own.py"]
    assert project.notes == ("submodule empty is empty here: git submodule update --init --recursive",)
