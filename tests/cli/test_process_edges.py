"""The launcher's process: standard streams, ignored signals, a deleted directory, a user without a name."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fanout.cli.main import main

pytestmark = pytest.mark.process

FANOUT = f"{sys.executable} -m fanout"
RUN = f"{FANOUT} run --skip-check --nproc-per-node 1 --output plain localhost task.py"
STREAMS = (">&-", "2>&-", "<&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", ">&- 2>&- <&-", "2> >(true)")
QUICK = (
    "--help",
    "--version",
    "hosts localhost",
    "ps -a",
    "logs",
    "report",
    "replay",
    "lnav",
    "stop nothing",
    "why .",
    "no",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a project whose script runs until a file ``go`` exists, and then prints its last line."""
    (tmp_path / "train.sh").write_text("echo up; touch up; until [ -e go ]; do sleep 0.02; done; echo last\n")
    (tmp_path / "task.py").touch()
    for name in ("home", "state", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "record"))
    monkeypatch.setenv("FANOUT_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_bash(line: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", line], capture_output=True, check=False, timeout=90)


def read_log(project: Path) -> str:
    (log,) = project.glob("record/fanout/runs/*/logs/localhost.log")
    return log.read_text()


@pytest.mark.parametrize("streams", [*STREAMS, "--json >/dev/full"])
def test_a_run_survives_missing_standard_streams(project: Path, streams: str) -> None:
    (project / "go").touch()
    run = RUN.replace("--output plain", streams.split()[0]) if streams.startswith("--") else RUN
    done = run_bash(f"{run} {streams.removeprefix('--json ')}")
    assert done.returncode == 0, done
    assert b"Traceback" not in done.stderr
    assert read_log(project) == "up\nlast\n"
    if streams.endswith(">/dev/full") and not streams.startswith("2"):
        assert done.stderr.count(b"stdout: No space left on device") == 1


@pytest.mark.parametrize("streams", STREAMS)
def test_missing_standard_streams_cause_no_traceback(project: Path, streams: str) -> None:
    """For a command whose output is its result, a full disk is an error; a stream that the user closed is not."""
    script = "; ".join(f"{FANOUT} {words} {streams}; echo $? >&9" for words in QUICK)
    read, write = os.pipe()
    done = subprocess.run(
        ["bash", "-c", f"exec 9>&{write}; {script}"], capture_output=True, check=False, timeout=200, pass_fds=[write]
    )
    os.close(write)
    with open(read, encoding="ascii") as output:
        codes = dict(zip(QUICK, map(int, output.read().split()), strict=True))
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception ignored" not in done.stderr
    full = streams.startswith(">/dev/full")
    assert (codes["hosts localhost"], codes["lnav"], codes["--help"]) == ((125,) * 3 if full else (0,) * 3)
    assert codes["no"] == 2


@contextmanager
def start_run(project: Path, line: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run and wait until its script runs; end it with the test."""
    child = subprocess.Popen(["bash", "-c", f"{line}"], start_new_session=True, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]
    try:
        wait_until_exists(project / "up", child)
        yield child
    finally:
        (project / "go").touch()
        child.communicate(timeout=60)


def wait_until_exists(path: Path, child: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if path.exists():
            return
        assert child.poll() is None, child.stderr and child.stderr.read()
        select.select([], [], [], 0.02)
    raise AssertionError(f"{path} did not come")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(project: Path, number: signal.Signals) -> None:
    with start_run(project, f"trap '' {number}; exec {RUN}") as run:
        for _ in range(2):
            os.kill(run.pid, number)
        (project / "go").touch()
        _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert b"got SIG" not in err
    assert read_log(project) == "up\nlast\n"


def test_stop_ends_a_run_whose_launcher_ignores_sigterm(project: Path) -> None:
    with start_run(project, f"trap '' TERM; exec {RUN} --grace 5") as run:
        assert main(["stop"]) == 0
        run.communicate(timeout=60)
        assert run.returncode == 143


@pytest.mark.parametrize("command", [f"nohup {RUN}", f"trap '' HUP; {RUN} --output auto"])
def test_a_run_outlives_its_terminal_if_sighup_is_ignored(project: Path, command: str) -> None:
    """The terminal is closed while the run prints to it: neither the signal nor the failing writes end the run."""
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl,os,termios; fcntl.ioctl(0,termios.TIOCSCTTY,0); os.execvp('bash',['bash','-c',{command!r}+' ; echo $? >code'])",
        ],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    wait_until_exists(project / "up", shell)
    os.close(master)
    (project / "go").touch()
    signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for _ in range(3000):
        if list(project.glob("record/fanout/runs/*/result.json")):
            break
        select.select([], [], [], 0.02)
    (result,) = project.glob("record/fanout/runs/*/result.json")
    assert '"exit_code": 0' in result.read_text()
    assert read_log(project) == "up\nlast\n"
    shell.wait(60)


IN_NO_DIRECTORY = "mkdir gone; cd gone; rmdir ../gone; "


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("hosts localhost", 0),
        ("ps", 0),
        ("run --skip-check --nproc-per-node 1 --chdir {project} localhost task.py", 0),
        ("run --nproc-per-node 1 localhost task.py", 2),
        ("check --chdir . localhost", 2),
        ("exec localhost -- true", 0),
        ("report --html page.html", 2),
    ],
)
def test_a_deleted_working_directory_is_reported(project: Path, words: str, status: int) -> None:
    (project / "go").touch()
    done = run_bash(f"{IN_NO_DIRECTORY} {FANOUT} {words.format(project=project)}")
    assert done.returncode == status, done
    assert b"Traceback" not in done.stderr
    if status == 2 and "html" not in words:
        assert b"was deleted" in done.stderr
        assert b"--chdir" in done.stderr


@pytest.mark.parametrize("home", [True, False])
def test_a_user_id_without_an_entry_in_passwd(project: Path, home: bool) -> None:
    """Containers may start with an unknown user id; if HOME is not set either, fanout demands a directory."""
    (project / "go").touch()
    without_entry = "unshare --user --map-user=54321 --map-group=54321 env -u USER -u LOGNAME -u LNAME -u USERNAME"
    unset = "-u XDG_STATE_HOME " + ("" if home else "-u HOME")
    done = run_bash(f"{without_entry} {unset} {RUN}")
    assert b"Traceback" not in done.stderr
    assert done.returncode == (0 if home else 2), done
    assert home or b"set HOME, or choose a directory with --log-dir DIR" in done.stderr
    assert run_bash(f"{without_entry} {unset} {FANOUT} hosts localhost").returncode == 0


def test_the_record_of_a_run_contains_no_value_of_the_user(project: Path) -> None:
    """Values come from --env, --env-file and the hostfile; the page and the process list contain none either."""
    (project / "my.env").write_text('S3="of file 8f2a61"\n')
    (project / "hosts.txt").write_text("localhost slots=1 env.DATABASE=of-host-8f2a61\n")
    (project / "train.sh").write_text(
        'echo "${#S3} ${#DATABASE} ${#PLAIN}"; touch up; until [ -e go ]; do sleep 0.02; done; exit 3\n'
    )
    line = f"exec {FANOUT} run --skip-check --output plain --env PLAIN --env-file my.env hosts.txt task.py"
    with start_run(project, line, env={**os.environ, "PLAIN": "of-shell-8f2a61"}) as run:
        listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout
        (project / "go").touch()
        run.communicate(timeout=60)
    assert run.returncode == 3
    assert main(["report", "--html", str(project / "page.html")]) == 0
    kept = [path for path in (project / "record").rglob("*") if path.is_file()]
    assert read_log(project) == "14 14 15\n"
    assert {"plan.json", "order.json", "events.jsonl", "report.txt"} <= {path.name for path in kept}
    for path in (*kept, project / "page.html"):
        assert b"8f2a61" not in path.read_bytes(), path
    assert b"8f2a61" not in listed
