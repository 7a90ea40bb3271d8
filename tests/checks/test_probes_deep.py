"""Processes of the torch test on a host, with a stand-in for torch: steps, hangs, deaths, and cleanup."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.agent.probes import torch_test
from tests.processes import reap_child

pytestmark = pytest.mark.process

# Like torch_worker.py, but it does what the step orders: answer, hang in a stage, or die.
TEXT = """
import json, os, signal, time
def main(channel, words):
    say = lambda message: channel.sendall(json.dumps(message).encode() + b"\\n")
    say({"done": "begin", "pid": os.getpid(), "rank": os.environ["NODE_RANK"], "cwd": os.getcwd()})
    for line in words:
        step = json.loads(line)
        say({"stage": step["stage"]})
        if step["do"] == "die":
            print("no such GPU", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if step["do"] == "answer":
            say({"done": step["id"], "heard": step["own"]})
"""


@contextlib.contextmanager
def open_deep_test(
    tmp_path: Path, count: int = 2, text: str = TEXT, **more: Any
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Open the question in a child, as the relay does; yield (its name, the first answer), and kill it at the end."""
    name = f"fanout-test-{secrets.token_hex(8)}"
    (tmp_path / "bin").mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    env = {"NODE_RANK": "3", "PATH": {"before": [str(tmp_path / "bin")]}}
    args = {
        "name": name,
        "count": count,
        "workdir": str(tmp_path),
        "env": env,
        "setup": [],
        "source": text,
        "begin": 30,
    }
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for answer in torch_test.opened({**args, **more}):
            os.write(writer, repr(answer["workers"]).encode() + b"\n")
        os._exit(0)
    os.close(writer)
    try:
        with open(reader, encoding="utf-8", closefd=False) as file:
            yield name, eval(file.readline())
    finally:
        os.kill(child, 9)
        reap_child(child)
        os.close(reader)


def build_step(name: str, do: str, seconds: float = 20.0) -> list[dict[str, Any]]:
    each = [{"own": "first", "do": "answer"}, {"own": "second", "do": do}]
    about = {"id": "5", "all": {"id": "5", "stage": "group"}, "each": each, "seconds": seconds}
    found: list[dict[str, Any]] = torch_test.stepped({"name": name, "step": about})["workers"]
    return found


def test_each_process_has_the_runs_exports_and_its_own_step(tmp_path: Path) -> None:
    with open_deep_test(tmp_path) as (name, began):
        assert [(one["rank"], one["cwd"]) for one in began] == [("3", str(tmp_path))] * 2
        assert [one["heard"] for one in build_step(name, "answer")] == ["first", "second"]


def test_a_hang_is_reported_with_its_stage_and_the_other_answers_count(tmp_path: Path) -> None:
    with open_deep_test(tmp_path) as (name, _):
        first, second = build_step(name, "hang", seconds=0.5)
    assert first["heard"] == "first"
    assert second == {"error": "it did not finish this within 0.5 s", "stage": "group"}


def test_a_death_is_reported_with_its_signal_and_last_lines(tmp_path: Path) -> None:
    with open_deep_test(tmp_path) as (name, _):
        second = build_step(name, "die")[1]
        again = build_step(name, "answer")[1]
    assert second["error"] == again["error"] == "killed by signal 9: no such GPU"
    assert second["died"]


def test_the_processes_end_with_the_question_however_it_ends(tmp_path: Path) -> None:
    """The question is killed, as by a relay whose connection broke: its processes end with it."""
    with open_deep_test(tmp_path) as (_, began):
        watched = [os.pidfd_open(one["pid"]) for one in began]
    for descriptor in watched:
        assert select.select([descriptor], [], [], 20.0)[0]
        os.close(descriptor)


def test_a_process_that_cannot_start_is_reported(tmp_path: Path) -> None:
    with open_deep_test(tmp_path, workdir=str(tmp_path / "nowhere")) as (_, began):
        assert "No such file or directory" in began[0]["error"]


def test_a_program_that_ends_at_once_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    """This happens if --setup fails, or if there is no python."""
    with open_deep_test(tmp_path, count=1, text="raise SystemExit('no module is called cuda')") as (_, began):
        assert began[0]["error"] == "it exited with status 1: no module is called cuda"
