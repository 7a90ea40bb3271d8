"""Regular expressions on every line: their time grows linearly with the line."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import time
from collections.abc import Iterator

import pytest

import fanout.diagnose
import fanout.logs
import fanout.ui
from fanout.diagnose.signatures import LONGEST, load_builtin
from fanout.logs.metric_line import read_metrics

LENGTH = 6_000
BUDGET = (
    4e-6  # seconds of CPU a character: a linear search takes a tenth, a quadratic one of this length ten times as much
)
FILLINGS = (
    "9",
    "a",
    " ",
    ".",
    "1.",
    "a ",
    "[",
    "(",
    ":",
    "-",
    "/",
    "_",
    '"',
    "\t",
    "a.",
    "9 ",
    "=",
    "step 9",
    "9/9 ",
    "[a",
    "é",
)


def list_hot_patterns() -> Iterator[tuple[str, re.Pattern[str], str]]:
    """Return all patterns of the diagnosis and the views, with the ways in which they are used."""
    for package in (fanout.diagnose, fanout.logs, fanout.ui):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            source = inspect.getsource(module)
            for name, value in vars(module).items():
                if (
                    isinstance(value, re.Pattern)
                    and isinstance(value.pattern, str)
                    and f"\n{name} = re.compile" in source
                ):
                    way = "match" if re.search(rf"\b{name}\.(?:full)?match\(", source) else "search"
                    yield f"{info.name.removeprefix('fanout.')}.{name}", value, way


PATTERNS = list(list_hot_patterns())


def measure_seconds(pattern: re.Pattern[str], way: str, text: str) -> float:
    began = time.process_time()
    getattr(pattern, way)(text)
    return time.process_time() - began


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 40


@pytest.mark.parametrize(("name", "pattern", "way"), PATTERNS, ids=[name for name, *_ in PATTERNS])
def test_a_pattern_takes_time_in_proportion_to_the_line(name: str, pattern: re.Pattern[str], way: str) -> None:
    starts = {"", *re.findall(r"[A-Za-z]{3,}", pattern.pattern)[:3]}
    for filling in FILLINGS:
        for start in starts:
            text = (start + filling * LENGTH)[:LENGTH]
            taken = measure_seconds(pattern, way, text)
            if taken >= BUDGET * LENGTH:  # once more: the first use of a pattern may count for something else
                taken = measure_seconds(pattern, way, text)
            assert taken < BUDGET * LENGTH, (name, start, filling)


def test_a_line_of_a_megabyte_costs_the_signatures_only_its_beginning() -> None:
    """They search LONGEST characters; the rest of such a line is no message."""
    book = load_builtin()
    for word in sorted({word for each in book.signatures for word in each.words}):
        text = f"{word} " * (1_000_000 // (len(word) + 1))
        began = time.process_time()
        book.match_line(text)
        assert time.process_time() - began < LONGEST * 2e-5, word


@pytest.mark.parametrize("digits", [100, 4000, 1_000_000])
def test_a_run_of_digits_is_no_step_time(digits: int) -> None:
    began = time.process_time()
    reading = read_metrics(f"step 7/99 {'1' * digits}")
    assert reading is not None
    assert reading.step_time is None
    assert time.process_time() - began < 0.01 + digits * BUDGET


@pytest.mark.parametrize(
    ("text", "seconds_"),
    [("step_time 0.41", 0.41), ("step time: 410 ms", 0.41), ("1.2 s/it", 1.2), ("12.50it/s", 0.08), ("iteration_time_s=2", 2.0),
     ("batch_time 12345678901234567890", None), ("0.0it/s", None)],
)  # fmt: skip
def test_step_times_are_still_read(text: str, seconds_: float | None) -> None:
    reading = read_metrics(f"step 7 loss 2.0 {text}")
    assert reading is not None
    assert reading.step_time == (pytest.approx(seconds_) if seconds_ is not None else None)
