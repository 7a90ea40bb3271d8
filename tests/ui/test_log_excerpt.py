"""Log excerpt: bounded, counted, and with the lines that a user looks for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fanout.logs.demux import LogLine
from fanout.logs.levels import classify_text
from fanout.ui.html.log_excerpt import FANOUT, ExcerptEntry, Gap, LogExcerpt


def build_line(text: str, more: int = 0) -> LogLine:
    return LogLine("h", 0, "h", "line", text, more)


def list_entries(excerpt: LogExcerpt) -> list[ExcerptEntry]:
    return [entry for entry in excerpt.iter_entries() if isinstance(entry, ExcerptEntry)]


def test_a_short_log_is_whole() -> None:
    excerpt = LogExcerpt()
    for number in range(100):
        excerpt.add_line(number % 3, build_line(f"line {number}"), number)
    assert [entry.text for entry in excerpt.iter_entries() if isinstance(entry, ExcerptEntry)] == [
        f"line {n}" for n in range(100)
    ]
    assert not [entry for entry in excerpt.iter_entries() if isinstance(entry, Gap)]


@given(count=st.integers(0, 400), speakers=st.integers(1, 5), every=st.integers(2, 50))
def test_however_long_the_log_is_the_excerpt_is_bounded_and_no_line_goes_uncounted(
    count: int, speakers: int, every: int
) -> None:
    excerpt = LogExcerpt(head=5, tail=7, notable=3, each=2)
    for number in range(count):
        excerpt.add_line(
            number % speakers, build_line(f"{'ERROR' if number % every == 0 else 'step'} {number}"), number
        )
    entries = list(excerpt.iter_entries())
    assert sum(entry.lines if isinstance(entry, Gap) else len(entry.speakers) for entry in entries) == count
    assert len(list_entries(excerpt)) <= 5 + 7 + 2 * 3 + speakers * 2
    assert [entry.number for entry in list_entries(excerpt)] == sorted(entry.number for entry in list_entries(excerpt))


def test_the_excerpt_has_the_beginning_the_end_errors_and_the_last_lines_of_all_ranks() -> None:
    excerpt = LogExcerpt(head=2, tail=2, notable=2, each=1)
    excerpt.add_line(7, build_line("early and then silent"), 0.0)
    for number in range(1, 50):
        excerpt.add_line(0, build_line(f"step {number}"), number)
        if number == 20:
            excerpt.add_line(1, build_line("RuntimeError: boom"), number)
            excerpt.add_message("gpu01: link lost", "warning", number)
            excerpt.add_line(8, build_line("words in the middle"), number)
    texts = [entry.text for entry in list_entries(excerpt)]
    assert texts == [
        "early and then silent",
        "step 1",
        "RuntimeError: boom",
        "gpu01: link lost",
        "words in the middle",
        "step 48",
        "step 49",
    ]
    assert [entry.speakers for entry in list_entries(excerpt)][3] == [FANOUT]


def test_equal_lines_of_many_at_one_moment_are_one_entry_and_later_ones_another() -> None:
    excerpt = LogExcerpt()
    for at in (0.0, 5.0):
        for speaker in range(512):
            excerpt.add_line(speaker, build_line("NCCL version 2.28.3"), at)
    assert [len(entry.speakers) for entry in list_entries(excerpt)] == [512, 512]
    assert excerpt.lines == 1024


def test_the_order_of_each_ranks_lines_is_kept() -> None:
    """A line joins no entry that stands before an earlier line of the same rank."""
    excerpt = LogExcerpt()
    for speaker, text in ((0, "a"), (1, "b"), (1, "a"), (0, "b"), (0, "a")):
        excerpt.add_line(speaker, build_line(text), 0.0)
    own = {who: [entry.text for entry in list_entries(excerpt) if who in entry.speakers] for who in (0, 1)}
    assert own == {0: ["a", "b", "a"], 1: ["b", "a"]}


def test_a_line_is_harmless_and_no_longer_than_the_bound() -> None:
    excerpt = LogExcerpt()
    excerpt.add_line(0, build_line("\x1b]0;x\x07" + "y" * 5000, more=10), 0.0)
    text = list_entries(excerpt)[0].text
    assert len(text) < 2100
    assert "\x1b" not in text
    assert text.endswith(" B)")


def test_levels_come_from_words_and_not_from_numbers() -> None:
    assert classify_text("RuntimeError: shape mismatch") == "error"
    assert classify_text("UserWarning: deprecated") == "warning"
    assert classify_text("step 3 error: 0.25 loss 2.0") == ""
    assert classify_text("[rank3]: W1122 10:00:00 slow") == "warning"
