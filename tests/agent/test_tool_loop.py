"""Tools that print again and again: loops, restarts, tools that hang or fail, and that no process is left."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fanout.agent.probes import tool_loop
from fanout.agent.probes.tool_loop import ToolLoop

LIMIT_SECONDS = 30.0
pytestmark = pytest.mark.process


def write_tool(path: Path, body: str) -> str:
    """Write a Python program without site packages, so that it starts fast."""
    path.write_text(f"#!{sys.executable} -IS\nimport os, sys, time\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def wait_until(loop: ToolLoop, is_done: Callable[[list[str]], bool]) -> list[str]:
    """Read lines until the condition holds."""
    lines: list[str] = []
    until = time.monotonic() + LIMIT_SECONDS
    while not is_done(lines):
        assert time.monotonic() < until, (lines, loop.problem)
        select.select(loop.get_descriptors(), [], [], 0.05)
        lines += loop.read_lines()
    return lines


def test_lines_of_a_program_that_does_not_flush_arrive_at_once(tmp_path: Path) -> None:
    """On a terminal, the C library and Python send each line; a pipe would get nothing before 4 KB are full."""
    tool = write_tool(tmp_path / "tool", "while True:\n print('0, busy')\n time.sleep(600)")
    loop = ToolLoop([[tool]], dict(os.environ), lambda line: line.startswith("0"))
    assert wait_until(loop, bool) == ["0, busy"]
    assert loop.is_settled
    loop._end_program()


def test_next_command_is_tried_if_the_first_is_not_known(tmp_path: Path) -> None:
    body = "if sys.argv[1] == 'new': print('Field \"new\" is not a valid field to query.'); sys.exit(2)\n"
    tool = write_tool(tmp_path / "tool", body + "print('0, old', flush=True)\ntime.sleep(600)")
    loop = ToolLoop([[tool, "new"], [tool, "old"]], dict(os.environ), lambda line: line.startswith("0"))
    assert wait_until(loop, bool) == ["0, old"]
    loop._end_program()


def test_program_that_hangs_is_killed_and_the_reason_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_loop, "SILENT_SECONDS", 0.2)
    tool = write_tool(
        tmp_path / "tool", f"open({str(tmp_path / 'pid')!r}, 'a').write(f'{{os.getpid()}} ')\ntime.sleep(600)"
    )
    loop = ToolLoop([[tool]], dict(os.environ), bool)
    wait_until(loop, lambda lines: bool(loop.problem))
    assert loop.problem == "tool has not answered for 0 s"
    assert loop.is_hung
    assert loop.get_descriptors() == []
    loop.read_lines()
    for pid in (tmp_path / "pid").read_text().split() if (tmp_path / "pid").exists() else ():
        assert not os.path.exists(f"/proc/{pid}")


def test_program_that_fails_is_not_started_again_at_once(tmp_path: Path) -> None:
    tool = write_tool(
        tmp_path / "tool", f"open({str(tmp_path / 'n')!r}, 'a').write('x')\nprint('no driver')\nsys.exit(9)"
    )
    loop = ToolLoop([[tool]], dict(os.environ), lambda line: line.startswith("0"))
    wait_until(loop, lambda lines: bool(loop.problem))
    assert loop.problem == "no driver"
    for _ in range(20):
        loop.read_lines()
    assert (tmp_path / "n").read_text() == "x"


def test_tool_without_a_loop_pauses_according_to_its_processor_time(tmp_path: Path) -> None:
    tool = write_tool(
        tmp_path / "tool", "end = time.process_time() + 0.1\nwhile time.process_time() < end: pass\nprint('0, x')"
    )
    loop = ToolLoop([[tool]], dict(os.environ), bool, repeats=2.0)
    wait_until(loop, lambda lines: bool(loop.get_text()))
    assert loop.get_text() == "0, x\n"
    assert loop._next - time.monotonic() > 5.0, "0.1 s of processor time need more than 10 s of pause"
