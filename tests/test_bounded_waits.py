"""Every wait has a limit, in the product and in the tests.

pytest-timeout interrupts a test once. What the test waits for after that, in ``finally`` or at the end of ``with``, has no
limit but its own.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.processes import hold_process
from tests.sources import ROOT

#: Files that wait without a limit, with what ends the wait.
UNLIMITED = {
    "fanout/api/active_run.py": "the launcher in the other thread ends, or the user interrupts it",
    "fanout/api/calls.py": "the launcher in the other thread ends, or the user interrupts it",
    "fanout/demo/power_switch.py": "the thread reads the byte that ends it",
    "fanout/run/pager.py": "the user closes the pager",
    "tests/api/test_calls.py": "the launcher ends the run; pytest-timeout ends the test",
    "fanout/agent/prepare.py": "the child exits after its fork",
    "fanout/agent/probes/probe_tools.py": "the child has closed its pipe, and exits",
    "fanout/agent/probes/sandbox.py": "the child has closed its pipe, and exits",
    "fanout/agent/probes/tcp.py": "each connection has a timeout, and the probe has one",
    "fanout/agent/torch_worker.py": "the child has closed its pipe, and exits",
    "fanout/demo/channel_command.py": "the client ends the command, or the end of the demo kills it",
    "fanout/demo/ssh_server.py": "all connections are closed and all commands are killed",
    "fanout/remote/backpressure.py": "the launcher processes a chunk, or calls stop_waiting",
    "fanout/remote/login.py": "each login has a deadline, which frees its place",
    "fanout/run/detach.py": "the launcher of the run ends or detaches",
    "fanout/run/foreground.py": "the launcher of the run ends or detaches",
    "tests/agent/test_py_spy.py": "the kernel has stopped the process",
    "tests/agent/test_stuck.py": "the traced child was killed",
    "tests/lab/__main__.py": "the user leaves the shell",
    "tests/lab/test_lab_faults.py": "the kernel has stopped the process",
    "tests/lab/verdicts/task.py": "the thread raises an exception",
    "tests/processes.py": "reap_child joins this thread within a limit",
    "tests/tasks/rank_forker.py": "the process that uses the forker kills it",
}

#: Only these files are parsed: that of the whole repository takes seconds.
_MAY_WAIT = re.compile(r"Popen|\.(wait|join|acquire)\(\)|\.communicate\(|\.waitp?id\(")


def find_unlimited_waits(text: str) -> list[str]:
    """Return each call and each ``with`` that waits for a process or a thread without a limit."""
    if not _MAY_WAIT.search(text):
        return []
    nodes = list(ast.walk(ast.parse(text)))
    calls = [node for node in nodes if isinstance(node, ast.Call) and _has_no_limit(node)]
    assigned = [node for node in nodes if isinstance(node, ast.Assign) and _is_popen(node.value)]
    named = {ast.unparse(target) for node in assigned for target in node.targets}
    items = [item.context_expr for node in nodes if isinstance(node, ast.With) for item in node.items]
    held = [item for item in items if _is_popen(item) or (named and ast.unparse(item) in named)]
    return [f"{node.lineno}: {ast.unparse(node)[:80]}" for node in (*calls, *held)]


def _has_no_limit(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    name, given = call.func.attr, {word.arg for word in call.keywords}
    if name in ("wait", "join", "acquire"):
        return not call.args and not given
    if name == "communicate":
        return len(call.args) < 2 and "timeout" not in given
    return name in ("waitpid", "waitid") and "WNOHANG" not in ast.unparse(call)


def _is_popen(node: ast.expr) -> bool:
    """Return whether the expression starts a process: ``Popen(…)`` or ``subprocess.Popen(…)``."""
    if not isinstance(node, ast.Call):
        return False
    return (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) == "Popen"


def test_every_wait_for_a_process_or_a_thread_has_a_limit() -> None:
    paths = [path for folder in ("fanout", "tests", "bench") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): find_unlimited_waits(path.read_text(encoding="utf-8")) for path in paths}
    assert {path: lines for path, lines in found.items() if lines and path not in UNLIMITED} == {}
    assert not [path for path in UNLIMITED if not found.get(path)], "these files have a limit now"


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    with Popen(['x']) as child:\n        pass",
        "def f():\n    child = subprocess.Popen(['x'])\n    with child:\n        pass",
        "def f():\n    thread.join()",
        "def f():\n    child.communicate(b'x')",
        "def f():\n    os.waitpid(pid, 0)",
    ],
)
def test_a_wait_without_a_limit_is_found(text: str) -> None:
    assert len(find_unlimited_waits(text)) == 1


@pytest.mark.process
def test_a_held_process_that_ignores_sigterm_ends_with_its_block() -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)

    def fail_in_block() -> None:
        with hold_process(child):
            assert child.stdout is not None
            assert child.stdout.readline() == b"1\n"
            raise KeyError

    with pytest.raises(KeyError):
        fail_in_block()
    assert child.returncode == -9
