"""The log of an ssh process: its pipe on a machine without /proc (macOS), and the errors that it reports."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from fanout.model.errors import Dropped
from fanout.remote.transports import openssh_errors
from fanout.remote.transports.openssh_log import SshLog
from fanout.remote.transports.openssh_process import LogPipe


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
        pipe.mark_opened()
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


@pytest.mark.parametrize(
    "line",
    [
        "ssh_dispatch_run_fatal: Connection to 10.0.0.7 port 22: Broken pipe",
        "ssh_dispatch_run_fatal: Connection to 10.0.0.7 port 22: Connection reset by peer",
        "kex_exchange_identification: Connection closed by remote host",
        "Connection closed by 10.0.0.7 port 22",
        "Connection reset by 10.0.0.7 port 22",
        "client_loop: send disconnect: Broken pipe",
        "packet_write_wait: Connection to 10.0.0.7 port 22: Broken pipe",
    ],
)
def test_a_connection_that_ends_during_the_login_is_tried_again(line: str) -> None:
    """Each message of ssh about a lost connection becomes Dropped, which the launcher tries again."""
    log = SshLog()
    log.feed_bytes(f"debug1: Connection established.\n{line}\n".encode())
    assert isinstance(openssh_errors.explain_refusal(log, [], by_hand="ssh gpu07", accept_new=False), Dropped)


def test_a_connection_with_a_wrong_signature_is_not_tried_again() -> None:
    log = SshLog()
    log.feed_bytes(b"ssh_dispatch_run_fatal: Connection to 10.0.0.7 port 22: incorrect signature\n")
    assert not isinstance(openssh_errors.explain_refusal(log, [], by_hand="ssh gpu07", accept_new=False), Dropped)
