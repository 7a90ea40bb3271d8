"""Progress bar of a sync: the line, its width, and silence in a pipe."""

from __future__ import annotations

import io

from fanout.ui.transfer_line import TransferLine, format_transfer


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_grows_and_estimates_the_time_left_after_a_second() -> None:
    assert format_transfer(0, 1000, "0/2 hosts", 0.0) == "░" * 20 + " 0 B of 1.0 kB, 0/2 hosts"
    assert format_transfer(500, 1000, "1/2 hosts", 0.5) == "█" * 10 + "░" * 10 + " 500 B of 1.0 kB, 1/2 hosts"
    assert format_transfer(250, 1000, "0/2 hosts", 4.0).endswith("0/2 hosts, 12 s left")
    assert format_transfer(1000, 1000, "2/2 hosts", 9.0) == "█" * 20 + " 1.0 kB of 1.0 kB, 2/2 hosts"


def test_a_terminal_gets_at_most_ten_lines_a_second_and_the_line_is_removed() -> None:
    now = [0.0]
    stream = Terminal()
    line = TransferLine(stream, 40, clock=lambda: now[0])
    for step in range(100):
        now[0] = 10 + step / 100
        line.show_transfer(step, 1000, "0/1 hosts")
    line.clear()
    shown = stream.getvalue().split("\r\x1b[K")
    assert shown[0] == shown[-1] == ""
    assert 5 <= len(shown) <= 13
    assert max(map(len, shown)) < 40


def test_a_pipe_gets_nothing() -> None:
    stream = io.StringIO()
    line = TransferLine(stream, 80)
    line.show_step("connecting")
    line.show_transfer(1, 2, "0/1 hosts")
    line.clear()
    assert stream.getvalue() == ""
