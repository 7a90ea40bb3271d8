"""The pipe for ssh's own log on a machine without /proc (macOS): a named pipe in a private directory."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from fanout.transports.sshprocess import LogPipe


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_named_pipe_is_private_and_carries_the_log(temporary: Path) -> None:
    pipe = LogPipe(by_proc=False)
    seen = os.lstat(pipe.path)
    assert stat.S_ISFIFO(seen.st_mode)
    assert stat.S_IMODE(os.lstat(Path(pipe.path).parent).st_mode) == 0o700
    with Path(pipe.path).open("wb", buffering=0) as writer:
        writer.write(b"debug1: ready\n")
        pipe.opened()
        assert pipe.file.read(100) == b"debug1: ready\n"
    pipe.close()
    assert list(temporary.iterdir()) == []


def test_a_file_of_another_program_in_the_directory_of_the_pipe_stays(temporary: Path) -> None:
    """Only the pipe is deleted, by its name; the directory stays with what is in it."""
    pipe = LogPipe(by_proc=False)
    foreign = Path(pipe.path).with_name("other")
    foreign.write_text("x")
    pipe.close()
    assert [path.name for path in temporary.rglob("*") if path.is_file()] == ["other"]
    assert not Path(pipe.path).exists()
