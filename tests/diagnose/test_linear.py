"""Regular expressions on lines: their time grows in proportion to the line, for every content of the line.

The texts are built from the parse tree of each pattern. Two times of one machine are compared, so its speed does not
matter: twice the text takes twice the time, and four times the time if the pattern is quadratic.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import statistics
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import fanout.diagnose
import fanout.hostfile
import fanout.logs
import fanout.text
import fanout.ui
from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.signatures import LONGEST, Signature, load_builtin
from fanout.logs.metric_line import read_metrics
from fanout.text.sanitize import sanitize_line
from tests.diagnose.adversarial import build_texts, find_unbounded

LENGTH = 8192
MEGABYTE = 1 << 20
#: A quadratic search of LENGTH characters takes millions of steps: no machine needs less time for them.
FAST_SECONDS = 0.001
MOST_GROWTH = 3.0  # of the time, for twice the text
MOST_TRIES = 40
ENOUGH = 3  # tries with less growth that show that the time is linear
LONG_SECONDS = 0.2  # another process does not triple so long a time in each of five tries
ALL = load_builtin().signatures


def list_hot_patterns() -> Iterator[tuple[str, re.Pattern[str], str]]:
    """Return all patterns of the diagnosis, the views, the sanitiser and the hostfile readers, with their use."""
    for package in (fanout.diagnose, fanout.logs, fanout.ui, fanout.text, fanout.hostfile):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            yield from list_module_patterns(module, info.name.removeprefix("fanout."))


def list_module_patterns(module: ModuleType, title: str) -> Iterator[tuple[str, re.Pattern[str], str]]:
    source = inspect.getsource(module)
    for name, value in vars(module).items():
        if f"\n{name}" not in source:
            continue  # imported from another module
        searched = re.search(rf"\b{name}\.(?:search|sub|split|finditer|findall)\(", source)
        loops = re.search(rf"for (?:.{{0,60}}, )?pattern\b.{{0,60}} in {name}\b", source)
        used = searched or (loops and not re.search(r"\bpattern\.(?:full)?match\(", source))
        for number, pattern in enumerate(find_patterns(value)):
            if isinstance(pattern.pattern, str):
                yield f"{title}.{name}[{number}]", pattern, "search" if used else "match"


def find_patterns(value: Any) -> Iterator[re.Pattern[Any]]:
    """Yield the patterns in a constant: itself, or the entries of a table."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from find_patterns(entry)
    elif isinstance(value, dict):
        yield from find_patterns(list(value.values()))


PATTERNS = {pattern.pattern + way: (name, pattern, way) for name, pattern, way in list_hot_patterns()}.values()


def measure_seconds(pattern: re.Pattern[str], way: str, text: str) -> float:
    began = time.process_time()
    getattr(pattern, way)(text)
    return time.process_time() - began


def find_growth(pattern: re.Pattern[str], way: str) -> tuple[float, str]:
    """Return the first growth of the time for twice the text that is too large, with the text; (0, "") if none is."""
    for short, long in zip(build_texts(pattern, LENGTH), build_texts(pattern, 2 * LENGTH), strict=True):
        if measure_seconds(pattern, way, short) < FAST_SECONDS:
            continue
        ratios: list[float] = []
        for number in range(MOST_TRIES):  # another process may disturb each of them
            once, twice = measure_seconds(pattern, way, short), measure_seconds(pattern, way, long)
            ratios.append(twice / once)
            if sum(ratio < MOST_GROWTH for ratio in ratios) >= ENOUGH or (number >= 4 and twice > LONG_SECONDS):
                break
        if sum(ratio < MOST_GROWTH for ratio in ratios) < ENOUGH:
            return statistics.median(ratios), long[:60]
    return 0.0, ""


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 150


@pytest.mark.parametrize("quadratic", [r"a*b", r"xa+a+y", r"NCCL.*HINT"])
def test_a_quadratic_pattern_is_noticed(quadratic: str) -> None:
    assert find_growth(re.compile(quadratic), "search")[0] > MOST_GROWTH


@pytest.mark.parametrize(("name", "pattern", "way"), PATTERNS, ids=[name for name, *_ in PATTERNS])
def test_twice_the_line_takes_twice_the_time(name: str, pattern: re.Pattern[str], way: str) -> None:
    growth, text = find_growth(pattern, way)
    assert growth < MOST_GROWTH, (name, text)


@pytest.mark.parametrize("signature", ALL, ids=[each.id for each in ALL])
def test_a_signature_has_no_unbounded_repeat(signature: Signature) -> None:
    """Then its time has a bound for each place of the line, and no line makes it quadratic."""
    assert find_unbounded(signature.regex) == []


def test_an_unbounded_repeat_is_noticed() -> None:
    assert find_unbounded(re.compile(r"a{1,9}(?:b|c\d+)[xy]{3,}")) == ["9", "x"]


def test_a_line_of_a_megabyte_costs_the_signatures_only_its_beginning() -> None:
    """They search LONGEST characters, so a line of a megabyte takes no longer than its beginning."""
    book = load_builtin()
    for signature in ALL:
        for text in list(build_texts(signature.regex, LONGEST))[:3]:
            line = signature.words[0] + text
            begin, whole = line[:LONGEST], line + text * (MEGABYTE // len(text))
            short = min(measure_call(book.match_line, begin) for _ in range(2))
            assert measure_call(book.match_line, whole) < 10 * short + 0.02, (signature.id, text[:60])


def measure_call(function: Any, text: str) -> float:
    began = time.process_time()
    function(text)
    return time.process_time() - began


@pytest.mark.parametrize(
    "filling",
    ["9", "a", "\x1b[", "\x1b]8;;", "[rank", "a: ", "Error: ", '{"log":', "已杀死 ", "\u202e", "]:", "10:11:12 "],
)
def test_a_megabyte_is_read_in_time_in_proportion_to_it(filling: str) -> None:
    """The whole path of a line: prefix, traceback, signatures, and the sanitiser of what is quoted."""

    def read_line(text: str) -> None:
        EvidenceCollector(("gpu01",)).add_bytes("gpu01", text.encode() + b"\n", at=1.0)
        sanitize_line(text)

    short, long = filling * (MEGABYTE // 2 // len(filling)), filling * (MEGABYTE // len(filling))
    once, twice = float("inf"), float("inf")
    for _ in range(8):  # the least of several times: another process may disturb each of them
        once, twice = min(once, measure_call(read_line, short)), min(twice, measure_call(read_line, long))
        if twice < MOST_GROWTH * once + 0.05:
            return
    raise AssertionError(f"{once:.3f} s, and {twice:.3f} s for twice the text")


@pytest.mark.parametrize("digits", [100, 4000, MEGABYTE])
def test_a_run_of_digits_is_no_step_time(digits: int) -> None:
    reading = read_metrics(f"step 7/99 {'1' * digits}")
    assert reading is not None
    assert reading.step_time is None


@pytest.mark.parametrize(
    ("text", "seconds_"),
    [("step_time 0.41", 0.41), ("step time: 410 ms", 0.41), ("1.2 s/it", 1.2), ("12.50it/s", 0.08), ("iteration_time_s=2", 2.0),
     ("batch_time 12345678901234567890", None), ("0.0it/s", None)],
)  # fmt: skip
def test_step_times_are_still_read(text: str, seconds_: float | None) -> None:
    reading = read_metrics(f"step 7 loss 2.0 {text}")
    assert reading is not None
    assert reading.step_time == (pytest.approx(seconds_) if seconds_ is not None else None)
