"""Levels of lines, and tracebacks in one piece."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.logs.demux import LogLine
from fanout.logs.levels import HEAD, LineClassifier, classify_text


def say(text: str, stream: int = 1, kind: str = "line") -> LogLine:
    return LogLine("gpu01", stream, f"gpu01:{stream}", "rest" if kind == "rest" else "line", text, 0, stream)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("ValueError: bad sample 1234", "error"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.", "error"),
        ("[2026-11-22 14:03:05] ERROR could not open shard 3", "error"),
        ("error: no such file", "error"),
        ("E1122 14:06:51.204000 3911 site-packages/torch/elastic: exit", "error"),
        ("[rank5]:[W1122 14:06:51.204 ProcessGroupNCCL.cpp:1496] destroy", "warning"),
        ("[W122 14:06:51.204 socket.cpp:697] no route", "warning"),
        ("[default3]:[E122 14:06:51 store.cpp:12] closed", "error"),
        ("I1122 14:06:51.204000 3911 torch/elastic: started", ""),
        ("During handling of the above exception, another exception occurred:", "error"),
        ("train.sh: line 3: 4711 Killed", "error"),
        ("checkpoint upload failed, retrying", "error"),
        ("/a/b.py:4: UserWarning: The given NumPy array is not writable", "warning"),
        ("WARNING: bf16 is not supported", "warning"),
        ("gpu01:5:5 [0] NCCL WARN Cuda failure", "warning"),
        ("step 100/600 loss 3.24 grad_norm 1.7", ""),
        ("mean_error 0.13 max error: 0.4", ""),
        ("MeanSquaredError: 0.25", ""),
        ("12 passed, 0 failed", ""),
        ("forward pass warmed up", ""),
    ],
)
def test_words_determine_the_level(text: str, level: str) -> None:
    assert classify_text(text) == level


TRACEBACK = [
    f"{HEAD}:",
    '  File "train.py", line 9, in <module>',
    "    main()",
    "RuntimeError: CUDA error: device-side assert triggered",
    "For debugging consider passing CUDA_LAUNCH_BLOCKING=1.",
]


def test_a_traceback_stays_in_one_piece_between_lines_of_others() -> None:
    levels, out = LineClassifier(), []
    for line in TRACEBACK:
        out += levels.classify_lines([say(line), say("step 1", stream=2)], 0.0)
    out += levels.classify_lines([], 1.0)
    assert [each.text for each in out if each.stream == 2] == ["step 1"] * len(TRACEBACK)
    assert [(each.text, each.level) for each in out if each.stream == 1] == [("\n".join(TRACEBACK), "error")]


@pytest.mark.parametrize(("before", "each"), [("\x1b[?25h", ""), ("\x1b[31m", "\x1b[31m"), ("\x1b[0m", "")])
def test_invisible_characters_do_not_split_a_traceback(before: str, each: str) -> None:
    """A bar shows the cursor again when it ends, and loggers use colours: both precede the first word."""
    levels, lines = LineClassifier(), [before + TRACEBACK[0], *(each + line for line in TRACEBACK[1:])]
    out = levels.classify_lines([say(line) for line in lines], 0.0) + levels.take_rest()
    assert [(one.text, one.level) for one in out] == [("\n".join(lines), "error")]


def test_ranks_mixed_in_one_stream_keep_their_tracebacks_apart() -> None:
    """A script's own redirects put all ranks on one pipe; torch marks each line with its rank."""
    levels = LineClassifier()
    mixed = [say(f"[rank{rank}]: {line}") for line in TRACEBACK for rank in (0, 1)]
    out = levels.classify_lines(mixed, 0.0) + levels.take_rest()
    assert [each.text for each in out] == ["\n".join(f"[rank{rank}]: {line}" for line in TRACEBACK) for rank in (0, 1)]


def test_a_line_after_a_traceback_is_separate() -> None:
    levels = LineClassifier()
    out = levels.classify_lines([say(line) for line in (*TRACEBACK[:4], "", "step 2")], 0.0)
    assert [each.text for each in out] == ["\n".join(TRACEBACK[:4]), "", "step 2"]


@pytest.mark.parametrize(
    "logged",
    [
        "2026-11-23 03:54:00,871 INFO trainer: saving",
        "[2026-11-23 03:54] x",
        "I1123 03:54:00 x",
        "INFO:root:saving",
        "[WARNING] x",
    ],
)
def test_a_line_of_a_logger_is_no_part_of_the_message_before_it(logged: str) -> None:
    """The message of an exception may continue for lines, but not with the next line of a log."""
    levels = LineClassifier()
    out = levels.classify_lines([say(line) for line in (*TRACEBACK, logged)], 0.0)
    assert [each.text for each in out] == ["\n".join(TRACEBACK), logged]


LINES = st.sampled_from(
    [*TRACEBACK, "", "  indented", "step 1", "Warning: x", "[rank1]: " + TRACEBACK[0], "[rank1]: Error"]
)


@given(st.lists(st.tuples(LINES, st.integers(1, 2), st.floats(0, 0.6)), max_size=30))
def test_no_line_is_lost_and_the_order_of_each_source_stays(lines: list[tuple[str, int, float]]) -> None:
    levels, now, out = LineClassifier(), 0.0, []
    for text, stream, later in lines:
        now += later
        out += levels.classify_lines([say(text, stream)], now)
    out += levels.take_rest()
    for stream in (1, 2):
        said = [text for text, who, _ in lines if who == stream]
        got = [line for each in out if each.stream == stream for line in each.text.split("\n")]
        for marked in (True, False):  # lines with a rank's mark belong to another source
            assert [line for line in got if (line[:1] == "[") is marked] == [
                line for line in said if (line[:1] == "[") is marked
            ]
