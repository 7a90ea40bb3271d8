"""The demo's directory: locked while in use, and no user's files are lost."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fanout.demo.workdir import claim_directory
from fanout.model.errors import UsageError


def test_a_new_directory_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with claim_directory(tmp_path / "lab", keep=False) as root:
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        (root / "127.0.0.2" / "state" / "run").mkdir(parents=True)
        (root / "127.0.0.2" / "state" / "run" / "file").write_text("x")
        (root / "127.0.0.2" / "state" / "link").symlink_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_used_and_left_empty(tmp_path: Path) -> None:
    with claim_directory(tmp_path, keep=False) as root:
        (root / "hosts.txt").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_files_that_the_user_made_meanwhile_stay(tmp_path: Path) -> None:
    with claim_directory(tmp_path / "lab", keep=False) as root:
        (root / "127.0.0.2" / "state").mkdir(parents=True)
        for name in ("hosts.txt", "thesis.tex", "127.0.0.2/notes"):
            (root / name).write_text("x")
        (root / "data").mkdir()
        (root / "project").mkdir()
        for name in ("train.sh", "task.py", "mine.py"):
            (root / "project" / name).write_text("x")
        (root / "power-switch").write_text("no pipe")
        (root / "ssh_config").symlink_to(tmp_path / "thesis.tex")
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert left == [
        *("127.0.0.2", "127.0.0.2/notes", "data", "power-switch", "project", "project/mine.py"),
        *("ssh_config", "thesis.tex"),
    ]


def test_files_that_no_demo_made_are_refused_and_stay(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="no demo made"), claim_directory(tmp_path, keep=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_in_use_is_refused_and_stays_in_use(tmp_path: Path) -> None:
    with claim_directory(tmp_path / "lab", keep=False) as root:
        with pytest.raises(UsageError, match="another demo"), claim_directory(root, keep=False):
            pass
        assert root.is_dir()


def test_kept_directory_is_used_again_and_then_deleted(tmp_path: Path) -> None:
    with claim_directory(tmp_path / "lab", keep=True) as root:
        (root / "hosts.txt").write_text("x")
    assert (root / "hosts.txt").exists()
    with claim_directory(root, keep=False):
        assert (root / "hosts.txt").exists()
    assert not root.exists()


def test_directory_is_deleted_when_the_demo_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), claim_directory(tmp_path / "lab", keep=False):
        raise RuntimeError("broken")
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("name", ["50%", 'say "hi"', "$HOME", "two\nlines", "back\\slash"])
def test_a_path_that_ssh_config_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="ssh_config"), claim_directory(tmp_path / name, keep=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_or_a_missing_parent_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "no" / "lab"):
        with pytest.raises(UsageError, match=path.name), claim_directory(path, keep=False):
            pass
