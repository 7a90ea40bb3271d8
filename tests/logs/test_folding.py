"""Folding of equal lines: shorter output, but no line is lost and the order of each source stays."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.logs.demux import LogLine
from fanout.logs.folding import (
    MAX_WAITING,
    LineFolding,
    describe_group,
    format_speakers,
    label_folded_line,
    merge_texts,
    shorten_label,
)
from fanout.logs.line_filters import parse_display_filters
from fanout.model.events import StreamOpened
from fanout.model.settings import Settings
from fanout.ui.plain_view import PlainView
from tests.histories import T0, History
from tests.ui.goldens import build_heading


def says(*lines: tuple[str, str]) -> list[LogLine]:
    return [LogLine(host, 0, host, "line", text) for host, text in lines]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"), st.floats(0, 0.3)), max_size=40))
def test_unfolded_output_has_every_line_of_each_source_in_order(lines: list[tuple[str, str, float]]) -> None:
    folding, now, shown = LineFolding("xyz", {}), 0.0, []
    for host, text, later in lines:
        now += later
        shown += folding.fold_lines(says((host, text)), now)
    shown += folding.take_rest()
    for host in "xyz":
        mine = [say.text for say in shown if host in say.speaker.replace("[", "").replace("]", "").split(",")]
        assert mine == [text for name, text, _ in lines if name == host]
    assert sum(say.voices for say in shown) == len(lines)


def test_equal_lines_within_the_window_are_one() -> None:
    folding = LineFolding(("h1", "h2", "h3"), {})
    assert folding.fold_lines(says(("h1", "other"), ("h1", "same"), ("h2", "same"), ("h3", "same")), 0.0) == []
    out = folding.fold_lines([], 0.3)
    assert [(say.speaker, say.text, say.voices) for say in out] == [("h1", "other", 1), ("h[1-3]", "same", 3)]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 3), st.floats(0, 0.3)), max_size=40))
def test_similar_lines_fold_in_the_order_of_each_source(lines: list[tuple[str, int, float]]) -> None:
    """Every line counts once, its number is in the printed range, and only n-th lines of the sources are merged."""
    folding, now, shown = LineFolding("xyz", {}, how="similar"), 0.0, []
    for host, number, later in lines:
        now += later
        shown += folding.fold_lines(says((host, f"step {number} of 9")), now)
    shown += folding.take_rest()
    assert sum(say.voices for say in shown) == len(lines)
    for host in "xyz":
        mine = [say for say in shown if host in say.speaker.replace("[", "").replace("]", "").split(",")]
        numbers = [number for name, number, _ in lines if name == host]
        assert len(mine) == len(numbers)
        for say, number in zip(mine, numbers, strict=True):
            found = re.fullmatch(r"step (\d)(?:–(\d))? of 9", say.text)
            assert found is not None
            assert int(found[1]) <= number <= int(found[2] or found[1])


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["took 35.1 s", "took 41.8 s", "took 36 s"], "took 35.1–41.8 s"),
        (["rank 0 of 4", "rank 3 of 4"], "rank 0–3 of 4"),
        (["at 0x7f3a in 9", "at 0x10 in 10"], "at 0x10–0x7f3a in 9–10"),
        (["1e-4", "3e-05"], "3e-05–1e-4"),
        (["same 5", "same 5"], "same 5"),
        (["tps: 12,039 at 1", "tps: 998 at 1"], "tps: 998–12,039 at 1"),
        (["step 7 [1,2,3]", "step 8 [1,2,4]"], "step 7–8 [1,2,3–4]"),
    ],
)
def test_lines_that_differ_in_numbers_show_the_range_of_each_in_its_place(texts: list[str], text: str) -> None:
    assert merge_texts(texts) == text


RANKS = {"a": {"0", "1", "2", "3"}, "b": {"4", "5", "6", "7"}}


@pytest.mark.parametrize(
    ("printed", "group"),
    [
        (range(8), "all 8 ranks"),
        ((0, 1, 2, 3, 4, 6, 7), "7 of 8 ranks (not 5)"),
        ((0, 1, 2, 3, 4), "5 of 8 ranks (not 5-7)"),
        ((0, 1, 2, 6), "ranks 0-2,6"),
    ],
)
def test_a_line_of_most_ranks_names_the_ranks_that_are_missing(printed: Sequence[int], group: str) -> None:
    speakers = [("a" if rank < 4 else "b", str(rank)) for rank in printed]
    assert describe_group(speakers, ("a", "b"), RANKS) == group


def test_a_line_of_most_hosts_names_the_hosts_that_are_missing() -> None:
    hosts = tuple(f"gpu{number:02d}" for number in range(1, 9))
    assert describe_group([(host, "") for host in hosts], hosts, {}) == "all 8 hosts"
    assert describe_group([(host, "") for host in hosts[1:]], hosts, {}) == "7 of 8 hosts (not gpu01)"
    assert describe_group([(host, "setup") for host in hosts], hosts, {}) == ""
    many = tuple(f"gpu{number:02d}" for number in range(1, 65))
    even = describe_group([(host, "") for host in many if host[-1] not in "357"], many, {})
    assert even == "45 of 64 hosts (not gpu[03,05,07,…])"


def test_a_folded_line_of_most_ranks_has_its_ranges_and_its_missing_rank() -> None:
    folding = LineFolding(("a", "b"), RANKS, how="similar")
    for rank in (0, 1, 2, 3, 4, 6, 7):
        host = "a" if rank < 4 else "b"
        text = f"step 77/400 loss {1.84 + rank / 250:.4f} lr 3.00e-04 tok/s {9027 + rank}"
        folding.fold_lines([LogLine(host, rank + 1, f"{host}:{rank}", "line", text, 0, rank)], 0.0)
    (line,) = folding.take_rest()
    labels = [label_folded_line(line, columns) for columns in (20, 11, 4)]
    assert [each.speaker for each in labels] == ["7 of 8 ranks (not 5)", "7/8 (not 5)", "7/8"]
    assert line.text == "step 77/400 loss 1.8400–1.8680 lr 3.00e-04 tok/s 9027–9034"
    assert [each.voices for each in labels] == [1, 1, 1]
    assert label_folded_line(line._replace(level="error"), 20).speaker == "a:*,b:[4,6-7]"


def test_lines_of_different_steps_stay_apart_although_a_host_is_one_step_behind() -> None:
    folding = LineFolding(("h1", "h2", "h3"), {}, how="similar")
    lines = [("h1", 6), ("h3", 6), ("h1", 7), ("h2", 6), ("h3", 7), ("h1", 8), ("h2", 7)]
    shown = folding.fold_lines(says(*((host, f"step {step}/90 loss 0.{step}") for host, step in lines)), 0.0)
    shown += folding.take_rest()
    assert [(line.text, line.voices) for line in shown] == [
        ("step 6/90 loss 0.6", 3),
        ("step 7/90 loss 0.7", 3),
        ("step 8/90 loss 0.8", 1),
    ]


def test_lines_that_differ_in_a_word_stay_apart() -> None:
    folding = LineFolding(("h1", "h2", "h3"), {}, how="similar")
    folding.fold_lines(says(("h1", "seen 5 ok"), ("h2", "seen 7 ok"), ("h3", "seen 7 bad")), 0.0)
    out = [(say.speaker, say.text, say.voices, say.group) for say in folding.take_rest()]
    assert out == [("h[1-2]", "seen 5–7 ok", 2, "2 of 3 hosts (not h3)"), ("h3", "seen 7 bad", 1, "")]


def test_a_flood_of_different_lines_folds_no_longer_but_loses_nothing() -> None:
    folding = LineFolding(("h1", "h2"), {}, how="similar")
    lines = [(host, "word" * n) for n in range(MAX_WAITING - 1) for host in ("h1", "h2")]
    folding.fold_lines(says(*lines), 0.0)
    out = folding.take_rest()
    assert sum(say.voices for say in out) == len(lines)
    assert [say.text for say in out] == ["word" * n for n in range(MAX_WAITING - 1)]
    apart = LineFolding(("h1", "h2"), {})
    apart.fold_lines(says(*((host, f"{host} {n}") for n in range(MAX_WAITING) for host in ("h1", "h2"))), 0.0)
    assert len(apart.take_rest()) == 2 * MAX_WAITING


def test_folding_can_be_turned_off_at_any_time() -> None:
    folding = LineFolding(("h1", "h2"), {})
    assert folding.fold_lines(says(("h1", "a")), 0.0) == []
    folding.mode = "off"
    assert [say.text for say in folding.fold_lines(says(("h2", "b")), 0.0)] == ["a", "b"]
    assert [say.text for say in folding.fold_lines(says(("h1", "c")), 0.0)] == ["c"]


def test_with_one_source_nothing_waits() -> None:
    assert len(LineFolding(("h1",), {}).fold_lines(says(("h1", "a"), ("h1", "a")), 0.0)) == 2


def test_labels_of_many_are_short() -> None:
    parts = {f"gpu{n:02d}": {str(rank) for rank in range(8)} for n in range(1, 5)}
    everyone = [(host, rank) for host in parts for rank in sorted(parts[host])]
    assert format_speakers(everyone, parts) == "gpu[01-04]:*"
    assert format_speakers([("gpu01", "0"), ("gpu01", "1"), ("gpu02", "5")], parts) == "gpu01:[0-1],gpu02:5"
    assert format_speakers([("gpu01", ""), ("gpu02", "")], {}) == "gpu[01-02]"


def test_the_plain_view_folds_on_request() -> None:
    run = History("a1", "a2").connect_hosts().start_hosts()
    for host in run.hosts:
        for rank in (0, 1):
            run.add_events(StreamOpened(at=T0, host=host, stream=rank + 1, name=f"rank {rank}"))
            run.add_output(host, b"NCCL version 2\n", stream=rank + 1)
    out = io.StringIO()
    view = PlainView(
        build_heading(run.hosts),
        stdout=out,
        stderr=io.StringIO(),
        filters=parse_display_filters(Settings(show="all", fold="exact")),
    )
    run.add_output("a2", b"only here\n", stream=2).pass_time(0.1).play_events(view)
    assert out.getvalue() == ""  # the window is not over
    view.close()
    assert out.getvalue() == "a[1-2]:* | NCCL version 2  ×4\na2:1 | only here\n"


def test_a_long_label_is_shortened_at_its_end() -> None:
    """A line of forty hosts that are not neighbours has space left for its text."""
    label = format_speakers([(f"gpu{number:02d}", "") for number in range(1, 41, 2)], {})
    assert len(label) > 60
    assert shorten_label(label, 32) == "gpu[01,03,05,07,09,11,13,15,…]"
    assert shorten_label("gpu[01-64]:*", 32) == "gpu[01-64]:*"
    assert shorten_label("gpu[01-02]:*,gpu03:[0,5]", 16) == "gpu[01-02]:*,…"
    assert shorten_label("onewithoutanyplacetocut", 8) == "onewithoutanyplacetocut"
