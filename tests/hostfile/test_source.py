"""Sources of HOSTS: files, pipes, Slurm and the command line. Special files neither block nor exhaust memory."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from fanout.hostfile import dump_hostfile, explain_lines, load_source, read_host_list
from fanout.model.errors import HostfileError


def read_names(source: str, stdin: bytes = b"", **environ: str) -> list[str]:
    """Return the hosts of a source, as plain lines."""
    return dump_hostfile(read_host_list(source, stdin=io.BytesIO(stdin).read, environ=environ)).splitlines()


def read_refusal(source: str, **environ: str) -> str:
    """Return the message and the hint."""
    with pytest.raises(HostfileError) as caught:
        read_host_list(source, stdin=io.BytesIO().read, environ=environ)
    return f"{caught.value}\n{caught.value.hint}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("gpu[01-02]", ["gpu01", "gpu02"]),
        ("gpu01,gpu02", ["gpu01", "gpu02"]),
        ("user@h:2222", ["user@h port=2222"]),
        ("localhost", ["localhost"]),
        ("h1:4,h2:4", ["h1 slots=4", "h2 slots=4"]),
        ("[::1]:22", ["::1 port=22"]),
        ("gpu[1-2] slots=8", ["gpu1 slots=8", "gpu2 slots=8"]),
    ],
)
def test_hosts_may_be_on_the_command_line(source: str, expected: list[str]) -> None:
    """An argument that is no path is a list of hosts."""
    assert read_names(source) == expected


def test_standard_input() -> None:
    """'-' reads standard input."""
    assert read_names("-", b"h1 slots=2\n") == ["h1 slots=2"]


def test_slurm() -> None:
    """@slurm is the allocation: its node list, and its GPUs per node if Slurm reports them."""
    assert read_names("@slurm", SLURM_JOB_NODELIST="gpu[1-2],x") == ["gpu1", "gpu2", "x"]
    assert read_names("@slurm", SLURM_JOB_NODELIST="n1", SLURM_GPUS_PER_NODE="a100:8") == ["n1 slots=8"]
    assert "not a Slurm allocation" in read_refusal("@slurm")
    assert "unknown source" in read_refusal("@pbs")


def test_a_file_wins_over_a_host_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing path is a file, with any name; includes are relative to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpu01").write_text("h1\n@include more/b.txt\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.txt").write_text("h2\n@include c.txt\n")
    (tmp_path / "more" / "c.txt").write_text("h3\n")
    assert read_names("gpu01") == ["h1", "h2", "h3"]


def test_a_missing_include_is_reported_at_its_line(tmp_path: Path) -> None:
    """The error points at the line that names the missing file."""
    (tmp_path / "a.txt").write_text("h1\n@include b.txt\n")
    assert "a.txt:2: @include b.txt:" in read_refusal(str(tmp_path / "a.txt"))


@pytest.mark.parametrize("source", ["hsots.txt", "./hsots.txt", "hosts.yaml", "hostfile", "sub/hosts"])
def test_missing_path_is_no_host(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file is never taken for a host name; the error lists files with similar names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.txt").write_text("h1\n")
    message = read_refusal(source)
    assert f"{source}: no such file" in message
    assert "hosts.txt" in message or source == "sub/hosts"


def test_a_special_file_is_refused_at_once(tmp_path: Path) -> None:
    """A folder, a fifo without a writer and a device are refused without a wait."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "not a regular file" in read_refusal(str(fifo))
    assert "not a regular file" in read_refusal("/dev/zero")
    assert "a directory" in read_refusal(str(tmp_path))


def test_a_huge_file_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    """A sparse file of 100 MB costs one bounded read."""
    giant = tmp_path / "giant.txt"
    with giant.open("wb") as file:
        file.truncate(100 << 20)
    assert "larger than 8 MiB" in read_refusal(str(giant))


def test_a_shells_pipe_is_read() -> None:
    """<(command) arrives as /dev/fd/N and is read to its end."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"h1\nh2\n")
        os.close(writing)
        assert read_names(f"/dev/fd/{reading}") == ["h1", "h2"]
    finally:
        os.close(reading)


def test_explain_accepts_the_result_of_load(tmp_path: Path) -> None:
    """The explanation contains the raw lines and the parsed hosts."""
    file = tmp_path / "h.txt"
    file.write_text("worker-1:8\n# c\n")
    source = load_source(str(file), stdin=io.BytesIO().read, environ={})
    explanation = explain_lines(source.data, read_host_list(str(file), stdin=io.BytesIO().read, environ={}))
    assert explanation.splitlines() == [
        f"{file}:1: worker-1:8",
        "  read as    'worker-1' (8 slots)  [MPICH]",
        "  DeepSpeed: refused",
        "  Open MPI: 'worker-1:8' (all of its CPUs)",
        "  pdsh, clush: 'worker-1:8'",
    ]
