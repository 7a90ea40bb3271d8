"""The newest lines of a run in bounded memory."""

from __future__ import annotations

from fanout.logs.demux import LogLine
from fanout.logs.recent_lines import BLOCK_CHARACTERS, RecentLines


def build_line(text: str, *, many: int = 1, kind: str = "line") -> LogLine:
    return LogLine("gpu01", 0, "gpu01", kind, text, many=many)  # type: ignore[arg-type]


def test_newest_lines_come_first_and_bars_are_left_out() -> None:
    recent = RecentLines()
    recent.add_lines([build_line("a"), build_line("10%", kind="bar"), build_line("b\nc", many=2)])
    assert [line.text for line in recent.iter_newest()] == ["c", "b", "a"]


def test_memory_is_bounded_and_a_large_block_keeps_its_last_lines() -> None:
    recent = RecentLines(most=20_000)
    block = "\n".join(f"line {number}" for number in range(10_000))
    for _ in range(50):
        recent.add_lines([build_line(block, many=10_000)])
    lines = [line.text for line in recent.iter_newest()]
    assert lines[0] == "line 9999"
    assert sum(map(len, lines)) < 20_000
    assert "line 0" not in lines


def test_block_that_ends_with_a_very_long_line_keeps_its_end() -> None:
    recent = RecentLines()
    recent.add_lines([build_line("short\n" + "x" * 3 * BLOCK_CHARACTERS, many=2)])
    assert [line.text for line in recent.iter_newest()] == ["x" * BLOCK_CHARACTERS]


def test_newest_line_is_kept_although_it_is_longer_than_the_limit() -> None:
    recent = RecentLines(most=10)
    recent.add_lines([build_line("a"), build_line("b" * 100)])
    assert [line.text for line in recent.iter_newest()] == ["b" * 100]
