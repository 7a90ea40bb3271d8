"""fanout as a user has it: the real executable of this checkout, started on the launcher of a lab."""

from __future__ import annotations

import codecs
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import ns
from tests.lab.lab import REPOSITORY, Lab
from tests.lab.node import Node
from tests.lab.ns import Process
from tests.lab.specs import UID
from tests.processes import end_process

PATIENCE = 60.0  # seconds; far more than anything here takes on an idle machine

GOLDEN = Path(__file__).with_name("golden")
HERE = "/home/lab/shared/project"
RUNS = ".local/state/fanout/runs"
_SPAN = r"\d+(\.\d+)?( ms| s)"
_NORMAL = (
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{12}"), "RUN"),
    (re.compile(rf"(?<![\w.]){_SPAN}\b"), "N s"),
    (re.compile(r"\bpid \d+"), "pid N"),
)


def normalize_text(text: str) -> str:
    """Return the text without ids, times and pids, which differ from run to run."""
    for pattern, instead in _NORMAL:
        text = pattern.sub(instead, text)
    return text


def same_as_golden(name: str, text: str) -> None:
    """Compare with ``golden/NAME.txt``; FANOUT_GOLDEN=write writes it anew."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("FANOUT_GOLDEN") == "write":
        path.write_text(normalize_text(text), encoding="utf-8")
    assert normalize_text(text) == path.read_text(encoding="utf-8"), (
        f"{path} differs; FANOUT_GOLDEN=write writes it anew"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A fanout that has ended; ``seconds`` is how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def all(self) -> str:
        """Return what a failing assertion should show."""
        return f"exit {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Running:
    """A fanout that may still run: what it prints is an event to wait for."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self.began = time.monotonic()
        self.texts = {"out": "", "err": ""}
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in self.texts}
        self._selector = selectors.DefaultSelector()
        for name, pipe in (("out", child.stdout), ("err", child.stderr)):
            if pipe is not None:
                self._selector.register(pipe, selectors.EVENT_READ, name)

    @property
    def seen(self) -> str:
        return f"--- stdout\n{self.texts['out']}\n--- stderr\n{self.texts['err']}"

    def wait_for_output(self, *patterns: str, timeout: float = PATIENCE) -> float:
        """Wait until each pattern was printed, on either stream; seconds since the start."""
        deadline = time.monotonic() + timeout
        for pattern in patterns:
            while not any(re.search(pattern, text, re.MULTILINE) for text in self.texts.values()):
                assert self._read_output(deadline), f"{pattern!r} was not printed:\n{self.seen}"
        return time.monotonic() - self.began

    def wait_for(self, condition: Callable[[], bool], what: str, *, timeout: float = PATIENCE) -> None:
        """Read the output until a condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert self._read_output(deadline), f"not seen: {what}\n{self.seen}"

    def send_signal(self, number: int) -> None:
        self.child.send_signal(number)

    def wait_for_end(self, timeout: float = PATIENCE) -> Done:
        """Wait for the end; killed, and an error, if it does not come."""
        deadline = time.monotonic() + timeout
        while self._selector.get_map():
            if not self._read_output(deadline):
                break
        try:
            code = self.child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"fanout did not end within {timeout:g} s:\n{self.seen}") from None
        finally:
            self.close()
        seconds = time.monotonic() - self.began
        return Done(code=code, out=self.texts["out"], err=self.texts["err"], seconds=seconds)

    def close(self) -> None:
        """Kill it if it still runs."""
        end_process(self.child, kill=True)
        self._selector.close()

    def _read_output(self, deadline: float) -> bool:
        """Take in what comes next; False where nothing does, because of the time or of the end."""
        if not self._selector.get_map():
            return False
        for key, _ in self._selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(key.fd, 65536)
            self.texts[key.data] += self._decoders[key.data].decode(data)
            if not data:
                self._selector.unregister(key.fileobj)
        return time.monotonic() < deadline


class Project:
    """A directory that all machines of a lab share, and fanout started in it."""

    def __init__(self, lab: Lab, *, user: str = "lab", shared: bool = True) -> None:
        self.lab, self.user, self.here = lab, user, HERE
        self._shared = shared
        self._runs: list[Running] = []
        self.write_file("task.py", "")
        self.write_hostfile()

    # -- what is in it

    def write_file(self, name: str, text: str) -> None:
        """Write a file of the project, the same on all machines."""
        for node in [self.lab.launcher] if self._shared else self.lab.nodes:
            node.write_file(f"{self.here}/{name}", text, user="lab")

    def write_train_script(self, script: str) -> None:
        """Write train.sh; ``$NODE_RANK`` and similar variables differ between the hosts."""
        self.write_file("train.sh", script)

    def write_hostfile(self, text: str | None = None) -> None:
        """Write the hostfile, which only the launcher needs."""
        lines = text if text is not None else "".join(f"{name} slots=1\n" for name in self.lab.names)
        self.lab.launcher.write_file(f"{self.here}/hosts.txt", lines, user="lab")

    def copy_real_tasks(self) -> None:
        """Copy the tasks, configs and train.sh of this checkout."""
        there = self.get_path()
        for name in ("tasks", "configs"):
            shutil.copytree(REPOSITORY / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "train.sh", there / "train.sh")
        for path in [there, *there.rglob("*")]:
            os.chown(path, UID, UID)

    def get_path(self, name: str = ".", *, on: Node | None = None) -> Path:
        return (on or self.lab.launcher).get_path(f"{self.here}/{name}")

    # -- fanout in it

    def start_command(
        self, *words: str, env: Mapping[str, str] | None = None, stdout: int | None = subprocess.PIPE
    ) -> Running:
        argv = [sys.executable, "-m", "fanout", *words]
        return self._start_process(argv, env, stdout)

    def start_shell(self, line: str) -> Running:
        """Run a line of bash in the project's directory, with ``fanout`` on PATH."""
        return self._start_process(["bash", "-c", f'fanout() {{ "{sys.executable}" -m fanout "$@"; }}; {line}'], None)

    def _start_process(
        self, argv: Sequence[str], env: Mapping[str, str] | None, stdout: int | None = subprocess.PIPE
    ) -> Running:
        environment = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        child = self.lab.launcher.start_program(
            argv, user=self.user, cwd=self.here, env=environment, stdout=stdout, stderr=subprocess.PIPE
        )
        self._runs.append(Running(child))
        return self._runs[-1]

    def close(self) -> None:
        """Stop what a test that failed half-way left running."""
        for run in self._runs:
            run.close()

    def run_fanout(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = PATIENCE) -> Done:
        """Start it and wait for its end."""
        return self.start_command(*words, env=env).wait_for_end(timeout)

    def run_training(self, *flags: str, timeout: float = PATIENCE) -> Done:
        """``fanout run … hosts.txt task.py`` without a check, which has tests of its own."""
        return self.run_fanout("run", "--skip-check", *flags, "hosts.txt", "task.py", timeout=timeout)

    def begin_training(self, *flags: str, env: Mapping[str, str] | None = None) -> Running:
        return self.start_command("run", "--skip-check", *flags, "hosts.txt", "task.py", env=env)

    # -- the record

    @property
    def home(self) -> str:
        return "/root" if self.user == "root" else f"/home/{self.user}"

    def list_records(self) -> list[Path]:
        """Return the directories of the recorded runs, oldest first."""
        return sorted(path for path in self.lab.launcher.get_path(f"{self.home}/{RUNS}").glob("*") if path.is_dir())

    def read_events(self) -> list[dict[str, Any]]:
        """Return the last run's events.jsonl; every line of it must be whole."""
        text = (self.list_records()[-1] / "events.jsonl").read_text()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def read_result(self) -> dict[str, Any]:
        """Return the last run's result.json."""
        found: dict[str, Any] = json.loads((self.list_records()[-1] / "result.json").read_text())
        return found

    def read_report(self) -> str:
        """Return the last run's recorded report."""
        return (self.list_records()[-1] / "report.txt").read_text()

    def read_log(self, host: str) -> bytes:
        """Return the recorded output of a host."""
        return (self.list_records()[-1] / f"logs/{host}.log").read_bytes()


def list_processes(node: Node, *words: str) -> list[Process]:
    """Return the machine's processes whose command line contains all these words."""
    return [process for process in node.list_processes() if all(word in " ".join(process.argv) for word in words)]


def kill_processes(node: Node, *words: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to the machine's processes with this command line; wait for them, and fail if there are none."""
    # between fork and exec a process still has its parent's command line
    ns.wait_until(lambda: bool(list_processes(node, *words)), 20.0, f"{node.name}: a process with {words}")
    for process in list_processes(node, *words):
        with suppress(ProcessLookupError):  # the end of one process may end the next one
            os.kill(process.pid, number)


def lines_of(text: str, host: str) -> Sequence[str]:
    """Return the lines of one host in plain output, without their prefix."""
    prefix = re.compile(rf"^{re.escape(host)}\s*[|:│]\s?")
    return [prefix.sub("", line, count=1) for line in text.splitlines() if prefix.match(line)]
