"""Stack hook: the sitecustomize that dumps a rank's stack changes nothing else that a program can see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fanout.agent import processes, stack_hook
from fanout.agent.probes import stacks
from tests.processes import hold_process

pytestmark = pytest.mark.process
WAITS = """
import sys, threading
def inner():
    print('ready', flush=True)
    sys.stdin.read()
def outer():
    inner()
threading.Thread(target=threading.Event().wait, daemon=True).start()
outer()
"""


def run_python(directory: Path, *words: str, **more: str) -> str:
    env = {"PATH": os.environ["PATH"], **more}
    stack_hook.install_hook(env, str(directory))
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr
    return done.stdout


@contextmanager
def start_waiting(directory: Path, *words: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    env = {"PATH": os.environ["PATH"], **more}
    stack_hook.install_hook(env, str(directory))
    child = subprocess.Popen(
        [sys.executable, *words, "-c", WAITS], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with hold_process(child):
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child


def test_the_hook_removes_its_own_traces(tmp_path: Path) -> None:
    """If the user has no sitecustomize, neither sys.path nor sys.modules contains ours."""
    there = str(tmp_path / "python")
    out = run_python(tmp_path, "-S", "-c", "import sys; print(sys.path)")
    assert there in out, "without site it is not removed, and nothing was registered"
    out = run_python(tmp_path, "-c", "import sys; print(sys.path, sys.modules.get('sitecustomize'))")
    assert there not in out


def test_the_users_own_sitecustomize_is_loaded_as_usual(tmp_path: Path) -> None:
    """The user's module is loaded once, is in sys.modules, and its errors are shown as its own."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("MARK = 77\n")
    out = run_python(tmp_path, "-c", "import sitecustomize as s; print(s.MARK, s.__file__)", PYTHONPATH=str(own))
    assert out == f"77 {own}/sitecustomize.py\n"


@pytest.mark.parametrize("words", [[], ["-I"], ["-S"], ["-E"]])
def test_a_process_without_the_hook_is_never_signalled(tmp_path: Path, words: list[str]) -> None:
    """With -I, -E and -S there is no handler, and the signal would end the process."""
    with start_waiting(tmp_path, *words) as child:
        path = str(tmp_path / "stacks" / str(child.pid))
        assert stacks._accepts_signal(child.pid, path) is (not words)
        assert child.poll() is None


def test_a_closed_descriptor_is_detected(tmp_path: Path) -> None:
    """A program may close descriptors that it did not open: the new owner of the number must not get our text."""
    closing = "import os; os.closerange(3, 400); open('/dev/null')\n" + WAITS
    env = {"PATH": os.environ["PATH"]}
    stack_hook.install_hook(env, str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", closing], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with hold_process(child):
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert not stacks._accepts_signal(child.pid, str(tmp_path / "stacks" / str(child.pid)))


def test_a_rank_dumps_its_stack_and_continues(tmp_path: Path) -> None:
    """The dump has the main thread's frames, innermost first; afterwards the process exits 0 as usual."""
    with start_waiting(tmp_path, RANK="5", LOCAL_RANK="1") as child:
        path = str(tmp_path / "stacks" / str(child.pid))
        for _ in range(2):
            before = stacks._read_size(path)
            processes.send_signal(child.pid, stack_hook.SIGNAL)
            dumps = stacks._collect_dumps({child.pid: (path, before)})
            stack = stacks.parse_main_thread(dumps[child.pid])
            assert [frame[2] for frame in stack[-3:]] == ["inner", "outer", "<module>"]
        child.communicate("", timeout=30)
        assert child.returncode == 0


@pytest.mark.parametrize(("number", "crash"), [(signal.SIGTERM, ""), (signal.SIGSEGV, "Segmentation fault")])
def test_a_rank_that_was_killed_has_left_its_stack(tmp_path: Path, number: int, crash: str) -> None:
    """The process ends by the same signal as without the hook, and its stack can be read afterwards."""
    with start_waiting(tmp_path, RANK="5", LOCAL_RANK="1") as child:
        child.send_signal(number)
        assert child.wait(30) == -number
        (dump,) = stacks.read_last_stacks(str(tmp_path))
        assert (dump["rank"], dump["local_rank"], dump["pid"], dump["crash"]) == (5, 1, child.pid, crash)
        assert [frame[2] for frame in dump["stack"][-3:]] == ["inner", "outer", "<module>"]
