"""The live view on a terminal in memory: what a person sees, and that the terminal is left as it was found."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest

from fanout.logs.line_filters import parse_display_filters
from fanout.model.events import Disconnected, Exited, StreamOpened, Tick
from fanout.model.settings import Settings
from fanout.ui.host_rows import HOST_COLOURS, get_host_colour
from fanout.ui.live_view import LiveView
from tests import histories
from tests.histories import History
from tests.ui.goldens import Terminal, build_heading, same_as_golden


class Clock:
    """Every look at it is a frame later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.2
        return self.now


def freeze_clock() -> float:
    return 0.0


def show_run(
    run: History,
    columns: int = 100,
    rows: int = 30,
    *,
    close: bool = False,
    colour: bool = True,
    unicode: bool = True,
    clock: Callable[[], float] | None = None,
) -> tuple[Terminal, str]:
    out = io.StringIO()
    live = LiveView(
        build_heading(run.hosts),
        stdout=out,
        size=lambda: (columns, rows),
        clock=clock or Clock(),
        colour=colour,
        unicode=unicode,
    )
    run.play_events(live)
    live.draw_frame(force=True)
    if close:
        live.close()
    terminal = Terminal(columns, rows)
    terminal.feed_text(out.getvalue())
    return terminal, out.getvalue()


def upto_middle(run: History) -> History:
    """Return a good run in its middle, without its end."""
    if all(not isinstance(event, Exited) or event.code == 0 for event in run.events):
        ends = [at for at, event in enumerate(run.events) if isinstance(event, Exited)]
        run.events = run.events[: ends[0]] if ends else run.events
    return run


@pytest.mark.parametrize("columns", [80, 100, 160])
@pytest.mark.parametrize("name", sorted(histories.TYPICAL))
def test_screens(name: str, columns: int) -> None:
    """The whole screen, log above block, is what the golden file shows."""
    terminal, _ = show_run(upto_middle(histories.TYPICAL[name]()), columns)
    assert max(len(line) for line in terminal.seen if line.startswith(" ")) < columns
    same_as_golden(f"live-{name}-{columns}", terminal.text)


def eight_ranks() -> History:
    """Return a run of two hosts with four ranks each: rank 5 prints less, and one line is of two ranks only."""
    run = History("10.77.0.10", "10.77.0.11").connect_hosts().start_hosts()
    for rank in range(8):
        run.add_events(StreamOpened(at=run.at, host=run.hosts[rank // 4], stream=rank % 4 + 1, name=f"rank {rank}"))
    for step in (76, 77):
        for rank in range(8):
            if rank != 5 or step == 76:
                text = f"step {step}/400 loss {1.84 + rank / 250:.4f} lr 3.00e-04 tok/s {9027 + 115 * rank}\n"
                run.add_output(run.hosts[rank // 4], text.encode(), stream=rank % 4 + 1)
        run.pass_time(0.5)
    for rank in (1, 6):
        run.add_output(run.hosts[rank // 4], f"rank {rank}: grad norm is 12.5\n".encode(), stream=rank % 4 + 1)
    run.add_output("10.77.0.10", b"saved a checkpoint\n", stream=1)
    return run.pass_time(1.0)


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_folded_lines_show_ranges_in_place_and_the_missing_rank(columns: int) -> None:
    """The label column has one width, and the range of a number stands where the number stands."""
    run = eight_ranks()
    out = io.StringIO()
    filters = parse_display_filters(Settings(show="all"))
    live = LiveView(build_heading(run.hosts), stdout=out, size=lambda: (columns, 30), clock=Clock(), filters=filters)
    run.play_events(live)
    live.draw_frame(force=True)
    terminal = Terminal(columns, 30)
    terminal.feed_text(out.getvalue())
    same_as_golden(f"live-folded-{columns}", terminal.text)
    assert len({line.index(" | ") for line in terminal.seen if " | " in line}) == 1


def many_hosts() -> History:
    hosts = tuple(f"gpu{number:02d}" for number in range(1, 65))
    run = History(*hosts).connect_hosts().start_hosts()
    for host in hosts:
        run.add_output(host, b"step 1200/10000 loss 2.3300 tok/s 38200\n")
    run.pass_time(1.0).add_events(Disconnected(at=run.at, host="gpu52", why="no heartbeat for 15 s")).pass_time(21.0)
    return run


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_many_hosts_are_a_grid_and_the_odd_ones_have_rows(columns: int) -> None:
    terminal, _ = show_run(many_hosts(), columns, clock=freeze_clock)
    block = terminal.seen[next(at for at, line in enumerate(terminal.seen) if line.startswith(" fanout  run")) :]
    assert len(block) <= 10
    assert any("gpu52" in line and "link lost 21 s" in line for line in block)
    same_as_golden(f"live-grid-{columns}", "\n".join(block) + "\n")


NESTED = b"\rEpochs:  33%%|###   | 1/3\n\r  batch: %3d%%|####  | %d/40 [loss=%.2f]\x1b[A"


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_a_progress_bar_is_one_line_that_moves_in_the_block_and_none_in_the_log(columns: int) -> None:
    """Also nested ones; where there is no row to spare their figures must do."""
    run = histories.History("gpu01", "gpu02").connect_hosts().start_hosts()
    for step in range(40):
        run.add_output("gpu02", NESTED % (step * 100 // 40, step, 3 - step / 40)).pass_time(0.2)
    terminal, _ = show_run(run, columns)
    (bar,) = [line for line in terminal.seen if "batch:" in line]
    assert bar.startswith(" gpu02 ~ Epochs:  33%|###   | 1/3  batch:  97%|####  | 39/40")
    assert "batch:" not in show_run(run, columns, rows=12)[0].text


def test_closing_leaves_the_log_and_nothing_else() -> None:
    """No row of the block, the cursor visible, every line of the log once."""
    run = histories.good_run()
    terminal, raw = show_run(run, close=True)
    assert not any("fanout  run" in line for line in terminal.seen)
    assert sum("step" in line for line in terminal.seen) == 6
    assert not terminal.screen.cursor.hidden
    assert raw.rfind("\x1b[?25h") > raw.rfind("\x1b[?25l")


def test_every_frame_leaves_the_cursor_visible() -> None:
    """A launcher that is killed between frames leaves a terminal that can be used."""
    _, raw = show_run(histories.good_run())
    frames = raw.split("\x1b[?2026h")[1:]
    assert frames
    assert all(frame.endswith("\x1b[?25h\x1b[?2026l") for frame in frames)


def test_without_colour_no_colour_is_written() -> None:
    run = History("gpu01").connect_hosts().start_hosts().add_output("gpu01", b"\x1b[31mred\x1b[0m\n").pass_time(1.0)
    _, raw = show_run(run, colour=False)
    assert "gpu01 | red" in raw
    assert not re.search(r"\x1b\[[0-9;]*m", raw)


def test_traceback_head_and_error_are_highlighted() -> None:
    """In the colour of an error; where it came from stays plain, to be read."""
    traceback = b"Traceback (most recent call last):\n  File 'a.py', line 3\n    boom()\nValueError: no\n"
    _, raw = show_run(History("gpu01").connect_hosts().start_hosts().add_output("gpu01", traceback).pass_time(1.0))
    assert re.search(r"\x1b\[1;31mTraceback [^\x1b]*\x1b\[0m\n", raw)
    assert re.search(r"\x1b\[1;31mValueError: no\x1b\[0m\n", raw)
    assert re.search(r"\x1b\[0m     boom\(\)\n", raw)


def test_many_talking_hosts_fit_and_all_failing_hosts_are_named() -> None:
    run = History(*(f"gpu{number:02d}" for number in range(1, 41))).connect_hosts().start_hosts()
    for host in run.hosts[::2]:
        run.add_output(host, b"loading\nUserWarning: old\n")
    terminal, _ = show_run(run.pass_time(1.0))
    assert any(line.startswith("gpu[01,03,05,07,…]   | loading  ×20") for line in terminal.seen)
    assert any(",37,39] | UserWarning: old  ×20" in line for line in terminal.seen)


def test_without_unicode_only_ascii_is_written() -> None:
    _, raw = show_run(many_hosts(), unicode=False, clock=freeze_clock)
    assert raw.isascii()


def test_a_block_is_drawn_once_however_the_log_grows() -> None:
    """Scrolling never leaves a copy of the block in the scrollback."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    for number in range(200):
        run.add_output("gpu01", f"line {number}\n".encode()).pass_time(0.1)
    terminal, _ = show_run(run.pass_time(0.5))
    assert sum("fanout  run" in line for line in terminal.seen) == 1
    lines = [line for line in terminal.seen if "| line" in line]
    assert lines == [f"{'gpu01':<20} | line {number}" for number in range(200)]


def test_a_slow_terminal_skips_lines_and_prints_their_count() -> None:
    """Nothing waits for the terminal: with every frame advance_clock, lines are left out, counted."""
    out, now = io.StringIO(), [0.0]

    def advance_clock() -> float:
        now[0] += 1.0
        return now[0]

    run = History("gpu01").connect_hosts().start_hosts()
    for number in range(40):
        run.add_output("gpu01", b"".join(b"%d.%d\n" % (number, line) for line in range(500)))
    live = LiveView(build_heading(run.hosts), stdout=out, size=lambda: (100, 30), clock=advance_clock)
    run.play_events(live)
    live.close()
    skipped = sum(int(count) for count in re.findall(r"··· (\d+) lines not shown", out.getvalue()))
    shown = len(re.findall(r"\x1b\[0m \d+\.\d+\n", out.getvalue()))
    assert skipped > 0
    assert shown + skipped >= 20_000
    assert "kept in /home/me/runs/7f3a" in out.getvalue()


def test_a_fast_terminal_misses_nothing() -> None:
    run = History("gpu01").connect_hosts().start_hosts().add_output("gpu01", b"x\n" * 30_000).pass_time(1.0)
    out = io.StringIO()
    live = LiveView(build_heading(run.hosts), stdout=out, size=lambda: (100, 30), clock=freeze_clock)
    run.play_events(live)
    live.close()
    assert out.getvalue().count(" x\n") == 30_000
    assert "not shown" not in out.getvalue()


def test_a_narrower_terminal_is_redrawn_without_leftovers() -> None:
    """A terminal that reflows has wrapped the block's rows: all of them are taken away before the next frame."""
    width, out = [100], io.StringIO()
    run = histories.good_run()
    live = LiveView(build_heading(run.hosts), stdout=out, size=lambda: (width[0], 30), clock=Clock())
    run.play_events(live)
    out.seek(0)
    out.truncate()
    width[0] = 50
    state = run.play_events()
    live(Tick(at=run.at + 1), state)
    up = re.search(r"\r\x1b\[(\d+)A\x1b\[J", out.getvalue())
    assert up is not None
    assert int(up[1]) > 3  # four rows, most of them wrapped into two


def test_the_last_line_without_an_end_is_shown() -> None:
    run = (
        History("gpu01")
        .connect_hosts()
        .start_hosts()
        .add_output("gpu01", b"no newline")
        .end_hosts("gpu01")
        .pass_time(0.5)
    )
    terminal, _ = show_run(run, close=True)
    assert "gpu01 | no newline" in terminal.seen


def test_a_bar_is_seen_in_the_block_and_not_in_the_log() -> None:
    bar = "\rEpoch 1/1:  30%|███       | 6/20 [00:10<00:24, 1.36s/it, loss: 10.24, grad_norm: 3.31]"
    run = History("gpu01").connect_hosts().start_hosts().add_output("gpu01", bar.encode()).pass_time(1.0)
    terminal, _ = show_run(run)
    assert not any("| Epoch" in line for line in terminal.seen)
    assert any("gpu01" in line and "step 6" in line and "loss 10.2400" in line for line in terminal.seen)


def test_hosts_keep_their_colour_and_red_means_an_error() -> None:
    assert get_host_colour("gpu01") == get_host_colour("gpu01")
    assert len({get_host_colour(f"gpu{n:02d}") for n in range(64)}) == len(HOST_COLOURS)
    assert not any("red" in colour for colour in HOST_COLOURS)


def test_a_hostile_line_cannot_leave_its_line() -> None:
    """Cursor movement, titles and clipboard writes of a host do nothing to the rest of the screen."""
    evil = b"\x1b[2J\x1b[H\x1b]0;owned\x07\x1b]52;c;eA==\x07\x1b[5Afake\x1bc\n"
    run = (
        History("gpu01")
        .connect_hosts()
        .start_hosts()
        .add_output("gpu01", b"first\n" + evil + b"last\n")
        .pass_time(1.0)
        .pass_time(1.0)
    )
    terminal, raw = show_run(run)
    assert "gpu01 | first" in terminal.seen
    assert "gpu01 | last" in terminal.seen
    assert "\x1b]" not in raw
    assert "\x1bc" not in raw
