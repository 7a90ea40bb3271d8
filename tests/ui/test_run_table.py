"""Tables of ``fanout ps``: at every width the run id is whole, and the cause of an ended run is on the screen."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator

import pytest

from fanout.record.run_summary import RunSummary
from fanout.text.paint import Painter
from fanout.text.table import count_columns
from fanout.ui.refreshed_output import RefreshedOutput, choose_refreshed_output
from fanout.ui.run_table import render_run_tables
from tests.ui.goldens import Terminal, same_as_golden

NOW = 1_800_000_000.0
GPUS = tuple(f"gpu{number:02d}" for number in range(1, 17))


def build_run(
    run: str,
    state: str,
    *,
    name: str = "",
    attempt: int = 0,
    age: float = 0.0,
    restart_in: float = 0.0,
    ended: float | None = None,
    progress: str = "",
    code: int | None = None,
    cause: str = "",
    hosts: tuple[str, ...] = GPUS,
    title: str = "tasks/train_llada2_bd.py configs/sft.yaml",
) -> RunSummary:
    return RunSummary(
        run=run,
        name=name,
        attempt=attempt,
        max_restarts=3 if attempt else None,
        restarts_used=attempt or None,
        restart_at=NOW + restart_in if restart_in else None,
        state=state,
        active=ended is None,
        launcher="detached (pid 15967 on vm)",
        since=NOW - age,
        ended=None if ended is None else NOW - ended,
        progress=progress,
        step=None,
        total=None,
        exit_code=code,
        cause=cause,
        hosts=hosts,
        title=title,
        dir="/runs/1",
    )


RUNS = (
    build_run("20261129-162745-9c1d2e3f4a5b", "running", name="lr3e-4", age=26, progress="step 55/400"),
    build_run("20261129-150102-0a1b2c3d4e5f", "running", attempt=2, age=8000, progress="epoch 2 step 118/2000"),
    build_run("20261129-155500-1122334455aa", "waiting to restart", attempt=1, age=500, restart_in=8),
    build_run("20261129-161200-77aa11bb22cc", "stopping", age=95, hosts=GPUS[:2]),
    build_run("20261129-101500-aaaaaaaaaaaa", "succeeded", age=22000, ended=9000, progress="step 400/400", code=0),
    build_run(
        "20261129-121500-bbbbbbbbbbbb",
        "failed",
        ended=1900,
        progress="step 14/60",
        code=1,
        cause="rank 5: ran out of GPU memory",
    ),
    build_run(
        "20261129-131500-cccccccccccc",
        "hung",
        ended=600,
        progress="step 77/400",
        code=130,
        cause="rank 4: is in load_batch (dist.py:5)",
    ),
    build_run("20261129-141500-dddddddddddd", "stopped", ended=61, progress="step 2/400", code=130, cause="by Ctrl-C"),
    build_run(
        "20261129-151500-eeeeeeeeeeee",
        "not launched",
        ended=4,
        code=125,
        cause="refused by the check: nothing was started",
    ),
)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_tables_of_runs(width: int) -> None:
    lines = render_run_tables(RUNS, NOW, width=width, paint=Painter(False))
    assert max(map(count_columns, lines)) <= width
    same_as_golden(f"ps-{width}", "\n".join(lines) + "\n")


def test_without_a_width_every_text_is_whole() -> None:
    text = "\n".join(render_run_tables(RUNS, NOW, width=None, paint=Painter(False)))
    assert "…" not in text
    for run in RUNS:
        assert run.run in text
        assert run.cause in text
    assert "detached (pid 15967 on vm)" in text


def test_in_a_narrow_terminal_the_task_is_shown_if_no_run_has_a_cause() -> None:
    head, row = render_run_tables(RUNS[3:4], NOW, width=80, paint=Painter(False))
    assert "CAUSE" not in head
    assert "tasks/train" in row


def read_until(master: int, end: str) -> str:
    """Return what the terminal got, up to this text."""
    text = ""
    while end not in text:
        text += os.read(master, 65536).decode()
    return text


@pytest.fixture(name="slave")
def open_slave() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield master, slave
    os.close(master)
    os.close(slave)


def test_a_terminal_shows_each_refresh_in_place(slave: tuple[int, int]) -> None:
    master, descriptor = slave
    shown = Terminal(80, 24)
    with open(descriptor, "w", closefd=False) as stream:
        screen = choose_refreshed_output(stream, {"TERM": "xterm"})
        for lines in (["first", "long line", "third"], ["new", "short"]):
            screen.show_lines(lines)
            shown.feed_text(read_until(master, "\x1b[J"))
        assert shown.seen == ["new", "short"]
        assert screen.columns == 80
        screen.show_lines([*(f"line {number}" for number in range(40)), "the counts"])
        shown.feed_text(read_until(master, "\x1b[J"))
    assert shown.seen[-2:] == ["… 19 more lines", "the counts"]
    assert shown.seen[0] == "line 0"


@pytest.mark.parametrize("environ", [{}, {"TERM": "dumb"}])
def test_a_terminal_without_cursor_control_gets_plain_lines(slave: tuple[int, int], environ: dict[str, str]) -> None:
    master, descriptor = slave
    with open(descriptor, "w", closefd=False) as stream:
        output = choose_refreshed_output(stream, environ)
        assert type(output) is RefreshedOutput
        output.show_lines(["one"])
        output.show_lines(["two"])
    assert read_until(master, "two\r\n") == "one\r\n\r\ntwo\r\n"
