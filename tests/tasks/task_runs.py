"""Starting the task as a person would: hosts on this machine, processes that do not outlive the test, curves read back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.tasks.task_shapes import ROOT, TRAIN, YAML

# Step -> (loss, gradient norm).
Curve = dict[int, tuple[float, float]]


def environment(**variables: str) -> dict[str, str]:
    """This environment without anything of torchrun's, with this interpreter's torchrun first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PET_", "TORCHELASTIC"))}
    kept["PATH"] = f"{os.path.dirname(sys.executable)}:{kept['PATH']}"
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | variables


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(argv: list[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, which does not outlive the test."""
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
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def train(output: Path, *overrides: str) -> list[str]:
    """The task's command with the shipped configuration, a line for every step, and metrics.jsonl."""
    told = ["--train.output_dir", str(output), "--train.log_steps", "1", "--train.metrics_jsonl", "true"]
    return [TRAIN, YAML, *told, *overrides]


def finish(process: subprocess.Popen[str], expected: int = 0) -> str:
    """What the process said until it ended, as ``expected``."""
    out, _ = process.communicate(timeout=100)
    assert process.returncode == expected, out
    return out


def launch(nodes: int, per_node: int, task: list[str], *others: list[str], expected: int = 0) -> str:
    """``nodes`` hosts on this machine, each by train.sh as a person would start it; host 0's output.

    All hosts run ``task``, unless ``others`` say what the hosts after the first one run.
    """
    exports = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NNODES": str(nodes)}
    exports["NPROC_PER_NODE"] = str(per_node)
    with contextlib.ExitStack() as stack:
        tasks = [task, *(others or [task] * (nodes - 1))]
        hosts = [
            stack.enter_context(started(["bash", "train.sh", *words], NODE_RANK=str(rank), **exports))
            for rank, words in enumerate(tasks)
        ]
        said = [finish(process, expected) for process in hosts]
        return said[0]


def alone(task: list[str], expected: int = 0) -> str:
    """One process, without torchrun."""
    with started([sys.executable, *task]) as process:
        return finish(process, expected)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Everything the process says up to and with the first line that holds ``text``."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended without {text!r}:\n{said}")


def curve(output: Path) -> Curve:
    """The run's metrics.jsonl; where a step was done twice, the last time counts."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: (row["loss"], row["grad_norm"]) for row in rows if "loss" in row}
