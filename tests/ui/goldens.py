"""Screens and reports as files: a test compares with ``golden/NAME.txt``; FANOUT_GOLDEN=write writes them anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pyte

from fanout.model.run_info import AttemptInfo, RunInfo

FOLDER = Path(__file__).parent / "golden"


def same_as_golden(name: str, text: str, folder: Path = FOLDER) -> None:
    path = folder / f"{name}.txt"
    if os.environ.get("FANOUT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; FANOUT_GOLDEN=write writes it anew"


def build_heading(hosts: tuple[str, ...], *, log_dir: str | None = "/home/me/runs/7f3a") -> RunInfo:
    ranks = {host: (node, 8) for node, host in enumerate(hosts)}
    return RunInfo(run_id="7f3a", title="tasks/train.py cfg.yaml", hosts=hosts, log_dir=log_dir, ranks=ranks)


def build_next_heading(hosts: tuple[str, ...]) -> RunInfo:
    """Return the heading of attempt 1 of the same run."""
    cause = "attempt 0 failed: rank 1 on gpu02 was killed by SIGKILL"
    attempt = AttemptInfo(number=1, max_restarts=3, used=1, cause=cause)
    heading = build_heading(hosts, log_dir="/home/me/runs/7f3a/attempt-1")
    return replace(heading, run_id="7f3a.1", attempt=attempt)


class Terminal:
    """A terminal in memory: write to it what a program writes to a tty, read what a person sees."""

    def __init__(self, columns: int = 100, rows: int = 30) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self.screen.set_mode(pyte.modes.LNM)  # the kernel's "\n" -> "\r\n"
        self._stream = pyte.Stream(self.screen)

    def feed_text(self, text: str) -> None:
        self._stream.feed(text)

    @property
    def seen(self) -> list[str]:
        """Return every line, scrolled out ones first, without the empty ones at the end."""
        columns = self.screen.columns
        above = ["".join(line[x].data for x in range(columns)).rstrip() for line in self.screen.history.top]
        lines = above + [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def text(self) -> str:
        return "\n".join(self.seen) + "\n"
