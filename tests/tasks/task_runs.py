"""Starting the task: by train.sh as a person would, or as forked ranks; nothing outlives the test."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.processes import end_process, hold_process
from tests.tasks.task_places import ROOT, TASKS, TRAIN, YAML

# Step -> (loss, gradient norm).
Curve = dict[int, tuple[float, float]]


def environment(**variables: str) -> dict[str, str]:
    """Return this environment without torchrun's variables, with this interpreter's torchrun first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PET_", "TORCHELASTIC"))}
    kept["PATH"] = f"{os.path.dirname(sys.executable)}:{kept['PATH']}"
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | variables


def free_port() -> int:
    """Return a port without a listener, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def train(output: Path, *overrides: str) -> list[str]:
    """Return the command of the task with the shipped configuration, a line for every step, and metrics.jsonl."""
    options = ["--train.output_dir", str(output), "--train.log_steps", "1", "--train.metrics_jsonl", "true"]
    return [TRAIN, YAML, *options, *overrides]


def read_until(stream: IO[str] | None, text: str) -> str:
    """Read up to and with the first line that holds ``text``."""
    output = ""
    assert stream is not None
    for line in stream:
        output += line
        if text in line:
            return output
    raise AssertionError(f"it ended without {text!r}:\n{output}")


def curve(output: Path) -> Curve:
    """Return the run's metrics.jsonl; where a step was done twice, the last time counts."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: (row["loss"], row["grad_norm"]) for row in rows if "loss" in row}


# By train.sh and torchrun, with everything imported anew.


@contextlib.contextmanager
def started(argv: list[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process in its own session, which does not outlive the test."""
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its ranks, which have sessions of their own
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            end_process(process, kill=True)
        if process.stdout is not None:
            process.stdout.close()


def launch(nodes: int, per_node: int, task: list[str], patience: float = 100) -> str:
    """``nodes`` hosts on this machine, each by train.sh as a person would start it; host 0's output."""
    exports = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NNODES": str(nodes)}
    exports["NPROC_PER_NODE"] = str(per_node)
    with contextlib.ExitStack() as stack:
        hosts = [
            stack.enter_context(started(["bash", "train.sh", *task], NODE_RANK=str(rank), **exports))
            for rank in range(nodes)
        ]
        outputs = [process.communicate(timeout=patience)[0] for process in hosts]
        assert [process.returncode for process in hosts] == [0] * nodes, outputs
        return outputs[0]


# Forked from a process that has imported everything, with what torchrun would have exported.


class Rank:
    """One process that the forker forked."""

    def __init__(self, forker: RankForker, pid: int, stdout: IO[str]) -> None:
        self.forker, self.pid, self.stdout = forker, pid, stdout

    def finish(self, expected: int = 0) -> str:
        """Return the rest of its output, once it has ended as ``expected``."""
        with self.stdout:
            out = self.stdout.read()
        code = self.forker.ask({"wait": self.pid})
        assert code == expected, out
        return out


class RankForker:
    """The other end of rank_forker.py."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "tests.tasks.rank_forker"]
            self._process = subprocess.Popen(argv, cwd=ROOT, env=environment(PYTHONPATH=TASKS), stdin=theirs.fileno())

    def ask(self, request: dict[str, object], *descriptors: int) -> int:
        """Return the answer to one request."""
        socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], descriptors)
        answer = b""
        while not answer.endswith(b"\n"):
            part = self._socket.recv(1 << 12)
            assert part, "the forker ended"
            answer += part
        return int(answer)

    def start(self, task: list[str], **exports: str) -> Rank:
        """Start one rank of ``task``, a script and its arguments."""
        reader, writer = os.pipe()
        pid = self.ask({"start": task, "environment": exports}, writer)
        os.close(writer)
        return Rank(self, pid, os.fdopen(reader, encoding="utf-8"))

    def alone(self, task: list[str], expected: int = 0) -> str:
        """Return the output of one process without torchrun."""
        return self.start(task).finish(expected)

    def launch(
        self, nodes: int, per_node: int, task: list[str], *others: list[str], expected: int = 0, **last: str
    ) -> str:
        """Return the output of the ranks, one after the other.

        All hosts run ``task``, unless ``others`` say what the hosts after the first one run; ``last`` is in the
        environment of the last rank alone.
        """
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        tasks = [task, *(others or [task] * (nodes - 1))]
        size = nodes * per_node
        ranks = [
            self.start(
                tasks[rank // per_node],
                RANK=str(rank),
                LOCAL_RANK=str(rank % per_node),
                WORLD_SIZE=str(size),
                LOCAL_WORLD_SIZE=str(per_node),
                **meeting | (last if rank == size - 1 else {}),
            )
            for rank in range(size)
        ]
        return "".join([rank.finish(expected) for rank in ranks])

    def close(self) -> None:
        """Ends it, and with it every rank that still lives."""
        self._socket.close()
        with hold_process(self._process):
            self._process.wait(30)
