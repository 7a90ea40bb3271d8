"""Planned stops on one host: which processes receive the signal, and when their ranks end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.agent import processes, save_signal
from tests.agent.agents import Agent, wait_for
from tests.processes import end_process

pytestmark = pytest.mark.process

PROGRAM = """
import os, signal, sys, time
if "handler" in sys.argv:
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(75))
if "loader" in sys.argv and os.fork() == 0:  # a worker of a data loader: it inherits the handler
    print("loader", flush=True)
    time.sleep(60)
if "helper" in sys.argv:
    import subprocess
    subprocess.Popen([os.environ["HELPER"], __file__, "handler"], env={**os.environ, "PYTHONHOME": sys.base_prefix})
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "task.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a shell that handles SIGUSR1 itself and starts the programs of its stdin."""
    child = subprocess.Popen(
        ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, start_new_session=True
    )
    yield child
    os.killpg(child.pid, signal.SIGKILL)
    end_process(child)
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        pipe.close()


def start_programs(shell: subprocess.Popen[bytes], text: str, ready: int) -> None:
    """Start programs in the background of the shell; return when they have printed ``ready`` lines."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"trap : USR1\n{text}\nwait\n".encode())
    shell.stdin.flush()
    for _ in range(ready):
        assert shell.stdout.readline()


def find_ranks() -> tuple[list[int], list[int]]:
    found, others = save_signal.find_ranks(os.getpid(), signal.SIGUSR1)
    return [each.rank for each in found], others


def test_ranks_with_a_handler_are_found_and_never_a_shell_or_a_launcher(
    shell: subprocess.Popen[bytes], program: Path, tmp_path: Path
) -> None:
    (tmp_path / "torchrun").write_text(PROGRAM)
    python = sys.executable
    start_programs(
        shell,
        f"RANK=0 {python} task.py handler loader & RANK=1 {python} task.py & RANK=2 bash -c '{python} task.py handler' &"
        f"RANK=3 {python} torchrun handler & {python} -u torchrun handler &",
        6,
    )
    assert find_ranks() == ([0, 2], [1])


def test_helper_with_a_handler_does_not_stand_for_its_rank(shell: subprocess.Popen[bytes], program: Path) -> None:
    """Programs in Go, such as the service of wandb, have a handler for every signal."""
    helper = shutil.copy(os.path.realpath(sys.executable), program.parent / "helper")
    start_programs(shell, f"export HELPER={helper}; RANK=0 {sys.executable} task.py helper &", 2)
    assert find_ranks() == ([], [0])


def test_without_ranks_the_topmost_processes_with_a_handler_count(
    shell: subprocess.Popen[bytes], program: Path
) -> None:
    start_programs(shell, f"{sys.executable} task.py handler loader & {sys.executable} task.py handler & sleep 60 &", 3)
    assert find_ranks() == ([save_signal.NO_RANK] * 2, [])


def test_keeper_signals_each_rank_once_and_reports_its_end(state: Path, program: Path, tmp_path: Path) -> None:
    script = f"trap : USR1; for r in 0 1; do RANK=$r {sys.executable} task.py handler & done; wait; wait; exit 9"
    with Agent(state) as agent:
        agent.start_run(script, tmp_path)
        agent.wait_for_output(b"ready\nready\n")
        agent.send_operation("save", signal="USR1", sends=False)
        asked = agent.receive_message("save_handlers")
        assert (asked["ranks"], asked["others"], asked["sent"]) == ([0, 1], [], False)
        for _ in range(2):  # a launcher repeats its orders after a reconnect
            agent.send_operation("save", signal="USR1", sends=True)
        sent = agent.receive_message("save_handlers")
        assert (sent["ranks"], sent["others"], sent["sent"]) == ([0, 1], [], True)
        exited, gone, _ = agent.end_run()
    ended = [message for message in agent.received if message["t"] == "rank_ended"]
    assert sorted(message["rank"] for message in ended) == [0, 1]
    assert [message["t"] for message in agent.received].count("save_handlers") == 2
    assert (exited["code"], gone["left"]) == (9, [])


def test_rank_that_begins_to_handle_the_signal_later_receives_it_then(
    state: Path, program: Path, tmp_path: Path
) -> None:
    script = f"RANK=0 {sys.executable} task.py & p=$!; while [ ! -e go ]; do sleep 0.1; done; kill $p; wait; "
    script += f"RANK=0 {sys.executable} task.py handler"
    with Agent(state) as agent:
        agent.start_run(script, tmp_path)
        agent.wait_for_output(b"ready\n")
        agent.send_operation("save", signal="USR1", sends=True)
        first = agent.receive_message("save_handlers")
        assert (first["ranks"], first["others"], first["sent"]) == ([], [0], False)
        (tmp_path / "go").touch()
        second = agent.receive_message("save_handlers")
        assert (second["ranks"], second["others"], second["sent"]) == ([0], [], True)
        exited, _, _ = agent.end_run()
    assert exited["code"] == 75


def test_end_after_a_stop_is_not_reported_as_an_end_of_its_own(state: Path, tmp_path: Path) -> None:
    saver = "import os, signal, time; signal.signal(10, lambda *_: os.write(1, b'saving')); os.write(1, b'ready')"
    script = f'RANK=0 exec {sys.executable} -c "{saver}\nwhile True: time.sleep(60)"'
    with Agent(state) as agent:
        pid = agent.start_run(script, tmp_path)
        agent.wait_for_output(b"ready")
        wait_for(lambda: save_signal.handles_signal(pid, signal.SIGUSR1), "the handler is installed")
        agent.send_operation("save", signal="USR1", sends=True)
        agent.wait_for_output(b"saving")
        agent.send_operation("stop", grace=5.0, why="the time is over")
        exited, gone, _ = agent.end_run()
    assert (exited["signal"], gone["left"]) == (signal.SIGTERM, [])
    assert "rank_ended" not in [message["t"] for message in agent.received]
    assert not processes.read_stat(pid)
