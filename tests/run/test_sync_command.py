"""``fanout sync`` as a user types it, on several directories of this machine: each one stands for a host."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.record.code_record import read_code_record
from tests.processes import hold_process
from tests.remote.sshd import free_port
from tests.sources import ROOT
from tests.sync.projects import STRANGE, read_files, write_files

pytestmark = pytest.mark.process
SECONDS = 100.0  # a loaded machine takes long to start the agents


class SyncBench:
    """A project, and hosts that are directories of this machine."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.source = top / "project"
        self.home = top / "home"
        self.home.mkdir()
        write_files(self.source, {"train.py": b"1\n", "conf/a.yaml": b"x\n"})

    def write_hosts(self, **workdirs: Path) -> None:
        lines = "".join(f"{name} slots=1 workdir={path}\n" for name, path in workdirs.items())
        (self.top / "hosts.txt").write_text(lines)

    def get_environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.home), "LANG": "C.UTF-8"}

    def list_words(self, *words: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "fanout",
            "sync",
            "--transport",
            "local",
            "-t",
            "60",
            *words,
            f"{self.top}/hosts.txt",
        ]

    def run_sync(self, *words: str, limit: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command in the project. ``limit``: the largest file, in KiB, that any process can write."""
        prefix = ["bash", "-c", f'ulimit -f {limit} && exec "$@"', "bash"] if limit else []
        return subprocess.run(
            [*prefix, *self.list_words(*words)],
            cwd=self.source,
            env=self.get_environ(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def run_fanout(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command in the project."""
        return subprocess.run(
            [sys.executable, "-m", "fanout", *words],
            cwd=self.source,
            env=self.get_environ(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture
def bench(tmp_path: Path) -> SyncBench:
    return SyncBench(tmp_path)


def test_a_shared_directory_is_written_once_and_the_source_never(bench: SyncBench) -> None:
    """Two of three hosts share a directory under different names, and a fourth has the very directory that is sent."""
    shared, own = bench.top / "shared", bench.top / "own"
    shared.mkdir()
    (bench.top / "alias").symlink_to(shared)
    (bench.top / "mount").symlink_to(bench.source)
    bench.write_hosts(a=shared, b=bench.top / "alias", c=own, d=bench.top / "mount")
    before = read_files(bench.source)
    done = bench.run_sync("--delete")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "a,b,c (one directory: a,b): 2 new",
        f"d: this is the directory that is sent: {bench.source}",
    ]
    assert "fanout: a,b,c,d: the code is equal, manifest " in done.stderr
    assert read_files(shared) == read_files(own) == before == read_files(bench.source)
    assert not (bench.source / ".fanout-sync").exists()
    assert not [path for path in bench.source.iterdir() if path.name.startswith(".fanout")]


def test_names_of_any_bytes_arrive_and_are_shown_without_control_characters(bench: SyncBench) -> None:
    write_files(bench.source, {f"d/{name}": name.encode("utf-8", "surrogateescape") for name in STRANGE})
    bench.write_hosts(a=bench.top / "a")
    shown = bench.run_sync("--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "  + d/new\\x0aline\n" in shown.stdout
    assert not (bench.top / "a").exists()
    done = bench.run_sync()
    assert done.returncode == 0, done.stderr
    assert read_files(bench.top / "a") == read_files(bench.source)


def test_a_write_that_fails_leaves_all_old_files_and_no_temporary_one(bench: SyncBench) -> None:
    """A limit of the file size fails like a full disk: in the middle of a file, after others have arrived."""
    target = bench.top / "a"
    bench.write_hosts(a=target, b=bench.top / "b")
    bench.run_sync()
    before = read_files(target)
    write_files(bench.source, {"big.bin": os.urandom(900 << 10), "z.py": b"1"})
    (bench.source / "conf/a.yaml").write_bytes(b"changed\n")
    done = bench.run_sync(limit=400)
    assert done.returncode == 1, done.stderr
    assert f"fanout: a: cannot write in {target}: File too large" in done.stderr
    assert "the code is not equal" in done.stderr
    assert read_files(target) == before
    assert bench.run_sync().returncode == 0
    assert read_files(target) == read_files(bench.source)


def test_a_project_with_a_link_out_of_it_contacts_no_host(bench: SyncBench) -> None:
    (bench.source / "data").symlink_to("/etc")
    bench.write_hosts(a=bench.top / "a")
    done = bench.run_sync()
    assert done.returncode == 2
    assert "1 link in" in done.stderr
    assert "data -> /etc" in done.stderr
    assert "echo /data >> .fanoutignore" in done.stderr
    assert not (bench.top / "a").exists()


def test_a_host_that_refuses_does_not_keep_others_from_their_code(bench: SyncBench) -> None:
    write_files(bench.top / "a", {"conf": b"a file"})
    bench.write_hosts(a=bench.top / "a", b=bench.top / "b", c=Path("/etc/fanout"))
    done = bench.run_sync()
    assert done.returncode == 1, done.stderr
    assert "fanout: a: conf is a file there, and a directory here" in done.stderr
    assert "fanout: c: /etc/fanout is a directory of the system" in done.stderr
    assert "fanout: b: the code is equal" in done.stderr
    assert "; a,c: the code is not equal" in done.stderr
    assert read_files(bench.top / "a") == {"conf": b"a file"}


def test_a_large_deletion_needs_yes(bench: SyncBench) -> None:
    bench.write_hosts(a=bench.top / "a")
    write_files(bench.source, {f"old/{number}": b"" for number in range(9)})
    bench.run_sync()
    for number in range(9):
        (bench.source / f"old/{number}").unlink()
    refused = bench.run_sync("--delete")
    assert refused.returncode == 1
    assert "--delete would delete 9 of 11 files that earlier syncs created: add --yes" in refused.stderr
    assert len(read_files(bench.top / "a")) == 11
    shown = bench.run_sync("--delete", "-n")
    assert shown.stdout.count("\n  - old/") == 9
    done = bench.run_sync("--delete", "--yes")
    assert done.stdout == "a: 9 deleted, 2 equal\n", done.stderr
    assert read_files(bench.top / "a") == read_files(bench.source)


def test_a_terminal_shows_a_progress_bar_and_removes_it(bench: SyncBench) -> None:
    write_files(bench.source, {"big.bin": os.urandom(3 << 20)})
    bench.write_hosts(a=bench.top / "a", b=bench.top / "b")
    outer, inner = pty.openpty()
    child = subprocess.Popen(
        bench.list_words(), cwd=bench.source, env=bench.get_environ(), stdout=subprocess.DEVNULL, stderr=inner
    )
    with hold_process(child):
        os.close(inner)
        shown = b""
        try:
            while data := os.read(outer, 65536):
                shown += data
        except OSError:
            pass  # the terminal closes with its last process
        os.close(outer)
        assert child.wait(SECONDS) == 0
    text = shown.decode()
    assert " of 6.3 MB, " in text
    assert "/2 hosts" in text
    assert text.rpartition("\x1b[K")[2].startswith("fanout: a,b: the code is equal")


def test_a_run_with_sync_starts_with_the_code_and_records_it(bench: SyncBench) -> None:
    """``train.sh`` exists only in the directory that is sent."""
    target = bench.top / "a"
    write_files(bench.source, {"train.sh": b"echo the code of $PWD\n", "task.py": b""})
    bench.write_hosts(a=target)
    words = ["--sync", "--skip-check", "--transport", "local", "--venv", "none", "--master-port", str(free_port())]
    done = bench.run_fanout("run", *words, str(bench.top / "hosts.txt"), "task.py")
    assert done.returncode == 0, done.stderr
    assert f"the code of {target}" in done.stdout
    assert read_files(target).items() >= read_files(bench.source).items()
    shown = bench.run_fanout("report")
    (run,) = (bench.home / ".local/state/fanout/runs").glob("2*")
    code = read_code_record(str(run))
    assert code is not None
    assert (code.directory, code.files, code.commit) == (str(bench.source), 4, "")
    assert shown.stdout.startswith(f"code: manifest {code.manifest}, from {bench.source}\n"), shown.stdout
    assert json.loads(bench.run_fanout("report", "--json").stdout)["code"]["manifest"] == code.manifest


def test_a_run_with_sync_does_not_start_if_a_host_lacks_the_code(bench: SyncBench) -> None:
    write_files(bench.source, {"train.sh": b"echo started\n", "task.py": b""})
    write_files(bench.top / "a", {"conf": b"a file"})
    bench.write_hosts(a=bench.top / "a")
    words = ["--sync", "--skip-check", "--transport", "local", "--venv", "none"]
    done = bench.run_fanout("run", *words, str(bench.top / "hosts.txt"), "task.py")
    assert done.returncode == 125, done.stderr
    assert "the run was not started: not all hosts have the same code" in done.stderr
    assert "started" not in done.stdout
    assert not list((bench.home / ".local/state/fanout").glob("runs/2*"))
