"""Line splitter and sanitiser: the size of the chunks never matters, and bytes of programs never control the terminal."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress, TextColumn

from fanout.logs.line_splitter import (
    LineAssembler,
    LineBuffer,
    SplitLine,
    join_chunks,
    split_file_lines,
    split_last_lines,
    split_rewritten,
)
from fanout.text.sanitize import DENIED, escape_invisible, sanitize_line, strip_escapes

PIECES = st.sampled_from(
    [b"a", b"step 1", b"\n", b"\n", b"\r", b"\r\n", b"\x1b[A", b"\x1b[2A", b"\x1b[K", b"\x1b[2K", b"\x1b[31m", b"\x1b[0m",
     b"\x1b", b"\x1b[", "é█".encode(), b"\xff", b"\xe2\x96", b" ", b"\x1b]52;c;x\x07", b"\x1b[1G", b"\x1b[B", b"12345678"]
)  # fmt: skip
STREAMS = st.lists(PIECES, max_size=40).map(b"".join)


def lines_of(*chunks: bytes, limit: int = 8192) -> list[SplitLine]:
    lines = LineAssembler(limit=limit)
    return [line for chunk in chunks for line in lines.add_bytes(chunk)] + lines.take_rest()


def texts(*chunks: bytes) -> list[str]:
    return [line.text for line in lines_of(*chunks)]


@given(STREAMS, st.lists(st.integers(0, 200), max_size=12), st.sampled_from([8, 64, 8192]))
@example(b"\x1b[\n", [1, 2], 8192)
def test_any_chunking_gives_the_same_lines(data: bytes, cuts: list[int], limit: int) -> None:
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(bounds)]
    assert lines_of(*chunks, limit=limit) == lines_of(data, limit=limit)


def file_lines(*chunks: bytes, limit: int) -> list[tuple[int, str]]:
    """Return (number of the line in the file, text) of all texts, read as the evidence collector reads them."""
    buffer, ends, found = LineBuffer(limit=limit), 0, []
    for chunk in chunks:
        block = buffer.add_bytes(chunk)
        found += [(ends + number, text) for number, text in split_file_lines(block, limit=limit)]
        ends += block.count(b"\n")
    return found + [(ends, text) for _, text in split_file_lines(buffer.unfinished, limit=limit)]


@given(STREAMS, st.lists(st.integers(0, 200), max_size=12), st.sampled_from([8, 64, 8192]))
@example(b"a" * 20 + b"\nb", [9, 12], 8)
def test_any_chunking_gives_the_same_file_lines_with_their_numbers(data: bytes, cuts: list[int], limit: int) -> None:
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(bounds)]
    expected = [
        (number, text[:limit].decode("utf-8", "replace"))
        for number, line in enumerate(data.split(b"\n"))
        for text in line.split(b"\r")
        if text
    ]
    assert file_lines(*chunks, limit=limit) == file_lines(data, limit=limit) == expected


def test_the_last_texts_of_a_block_are_whole() -> None:
    block = b"step 1\nstep 20\rstep 3\n\nstep 4\n"
    assert split_last_lines(block, 2, most=100) == ["step 3", "step 4"]
    assert split_last_lines(block, 9, most=17) == ["step 3", "step 4"]  # the cut text "20" is left out
    assert split_last_lines(b"x" * 50, 2, most=17) == []


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x1b")), st.sets(st.integers(0, 300)))
def test_a_line_taken_early_is_continued_and_never_repeated(text: str, at: set[int]) -> None:
    data, lines = text.encode(), LineAssembler()
    got: list[SplitLine] = []
    for index in range(len(data)):
        got += lines.add_bytes(data[index : index + 1])
        if index in at:
            got += lines.take_partial()
    got += lines.take_rest()
    whole = "".join(("" if line.continues else "\n") + line.text for line in got)
    expected = text[:-1] if text.endswith("\n") else text
    assert whole == ("\n" + expected if text else "")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\n\na", ["", "", "a"]),
        (b"no end", ["no end"]),
        (b"\r 10%\r 20%\r100%\ndone\n", ["100%", "done"]),
        (b"\xff\n", ["\ufffd"]),
        (b"long bar 10%\rshort\n", ["short"]),
        (b"\r bar\r      \r\nnext\n", ["next"]),
    ],
)
def test_a_rewritten_line_is_one_line_with_its_last_state(data: bytes, expected: list[str]) -> None:
    assert texts(data) == expected


def test_nested_bars_are_two_lines_however_often_they_move() -> None:
    """tqdm draws an inner bar as: down a line, the bar, up again."""
    out = b"\router 0%"
    for step in range(50):
        out += f"\n\rinner {step}%\x1b[A".encode()
        out += f"\router {step}%".encode()
    lines = LineAssembler()
    assert lines.add_bytes(out) == []
    assert lines.take_partial() == []
    assert lines.bar_text == "outer 49%  inner 49%"
    assert lines.add_bytes(b"\n\n") + lines.add_bytes(b"done\n") == [
        SplitLine("outer 49%"),
        SplitLine("inner 49%"),
        SplitLine("done"),
    ]


def rich_bars(count: int, turns: int) -> list[bytes]:
    """Return the output of rich's Progress for so many bars, one drawing after the other."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=60, color_system=None, legacy_windows=False, _environ={})
    drawn: list[bytes] = []
    progress = Progress(TextColumn("{task.description} {task.completed:.0f}"), console=console, auto_refresh=False)
    progress.start()
    tasks = [progress.add_task(f"bar{number}", total=turns) for number in range(count)]
    for _ in range(turns):
        for task in tasks:
            progress.advance(task)
        progress.refresh()
        drawn.append(out.getvalue().encode())
        out.seek(0)
        out.truncate()
    progress.stop()
    return [*drawn, out.getvalue().encode() + b"done\n"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_bars_of_rich_move_and_each_is_a_line_once_they_are_done(count: int) -> None:
    """Rich writes no carriage return in its lower rows: the cursor that moves up shows that they are bars."""
    drawn = rich_bars(count, 20)
    lines = LineAssembler()
    lines.add_bytes(drawn[0])
    early = lines.add_bytes(drawn[1])
    for number, data in enumerate(drawn[2:-1], start=3):
        assert lines.add_bytes(data) == []
        assert sanitize_line(lines.bar_text) == "  ".join(f"bar{bar} {number}" for bar in range(count))
        assert lines.take_partial() == []
    last = [sanitize_line(line.text) for line in lines.add_bytes(drawn[-1]) + lines.take_rest()]
    assert last == [*(f"bar{bar} 20" for bar in range(count)), "done"]
    assert early == []


def test_a_finished_bar_becomes_a_line_while_the_next_one_moves() -> None:
    lines = LineAssembler()
    assert lines.add_bytes(b"\r100% one\n\r  5% two") == []
    assert lines.take_partial() == []  # the cursor was on the first row since the last look
    lines.add_bytes(b"\r 10% two")
    assert lines.take_partial() == [SplitLine("100% one")]
    assert lines.bar_text == "10% two"


def test_a_huge_line_costs_its_limit_and_reports_how_much_is_missing() -> None:
    data = b"x" * 20_000 + b"\nnext\n"
    assert lines_of(data) == [SplitLine("x" * 8192, more=20_000 - 8192), SplitLine("next")]


def test_a_cut_never_falls_into_a_character() -> None:
    (line,) = lines_of("é".encode() * 10, limit=5)
    assert (line.text, line.more) == ("éé", 16)


@given(st.binary(max_size=400) | STREAMS)
def test_no_control_sequence_survives(data: bytes) -> None:
    """Except for colours, which end with their line, no byte of the deny set is left."""
    for line in lines_of(data):
        shown = sanitize_line(line.text)
        assert not re.search(f"[{DENIED}]", strip_escapes(shown))
        if "\x1b" in shown:
            assert shown.startswith(("\x1b[0m", "\x1b[m"), shown.rfind("\x1b["))
        assert not re.search(f"[{DENIED}]", sanitize_line(line.text, colour=False))


@given(st.text())
def test_clean_text_stays_as_it_is(text: str) -> None:
    once = sanitize_line(text)
    assert sanitize_line(once) == once


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é █ ok", "plain é █ ok"),
        ("tab\tstays", "tab\tstays"),
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x1b[38;5;9mred\x1b[0m", "\x1b[38;5;9mred\x1b[0m"),
        ("\x1b[2Kbar\x1b[?25l", "bar"),
        ("\x1b]8;id=1;https://a.b/c\x1b\\a link\x1b]8;;\x1b\\ and\x1b]8;;x\x07 text", "a link and text"),
        ("\x1b]8;;cut", "\\x1b]8;;cut"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b]52;c;aGk=\x1b\\", "\\x1b]52;c;aGk=\\x1b\\"),
        ("\x1b[6n", "\\x1b[6n"),
        ("\x1bPq\x9c", "\\x1bPq\\x9c"),
        ("a\u202eb", "a\\u202eb"),
    ],
)
def test_colours_stay_and_other_sequences_become_visible(text: str, shown: str) -> None:
    assert sanitize_line(text) == shown


@given(data=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_lines_of_a_file_do_not_depend_on_its_chunks(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[first:last] for first, last in pairwise(places)]
    assert list(join_chunks(chunks, limit=1000)) == data.splitlines(keepends=True) or b"\r" in data
    assert b"".join(join_chunks(chunks, limit=1000)) == data
    assert [len(line.rstrip(b"\n")) <= 3 for line in join_chunks(chunks, limit=3)].count(False) == 0


@given(line=st.text(alphabet="ab\r", max_size=12))
def test_the_texts_of_a_rewritten_line_are_those_of_the_log_file(line: str) -> None:
    assert split_rewritten(line) == [text for _, text in split_file_lines(line.encode())]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpu01\tslots=8", "gpu01 slots=8"),
        ("a\u00a0b", "a\\xa0b"),
        ("a\u200bb\x1b", "a\\u200bb\\x1b"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_invisible_characters_of_a_file_become_visible(text: str, shown: str) -> None:
    assert escape_invisible(text) == shown
