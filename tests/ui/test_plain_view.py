"""The plain view: stdout holds log lines and nothing else, one line in, one line out."""

from __future__ import annotations

import io
import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.logs.line_filters import DisplayFilters, parse_display_filters
from fanout.model.events import ConnectFailed, Connecting, StreamOpened, Tick
from fanout.model.settings import Settings
from fanout.ui.plain_view import PlainView
from tests import histories
from tests.histories import T0, History
from tests.ui.goldens import build_heading, same_as_golden


def show_run(run: History, wished: DisplayFilters | None = None, *, colour: bool = False) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    view = PlainView(
        build_heading(run.hosts),
        stdout=out,
        stderr=err,
        filters=wished or parse_display_filters(Settings(show="all")),
        colour=colour,
    )
    run.play_events(view)
    view.close()
    return out.getvalue(), err.getvalue()


@pytest.mark.parametrize("name", sorted(histories.TYPICAL))
def test_whole_runs(name: str) -> None:
    out, err = show_run(histories.TYPICAL[name]())
    same_as_golden(f"plain-{name}", f"== stdout\n{out}== stderr\n{err}")


def test_every_line_has_its_host_padded_to_the_longest() -> None:
    run = History("a", "longer").connect_hosts().start_hosts().add_output("a", b"x\n\ny\n").add_output("longer", b"z\n")
    assert show_run(run)[0] == "a      | x\na      |\na      | y\nlonger | z\n"


def test_a_line_that_waits_is_shown_and_its_rest_follows() -> None:
    run = (
        History("a")
        .connect_hosts()
        .start_hosts()
        .add_output("a", b"Epoch 1 ...")
        .pass_time(0.6)
        .pass_time(0.6)
        .add_output("a", b" done\nnext\n")
    )
    assert show_run(run)[0] == "a | Epoch 1 ...\na +  done\na | next\n"


def test_a_line_that_ends_in_time_is_one_line() -> None:
    run = (
        History("a")
        .connect_hosts()
        .start_hosts()
        .pass_time(1.0)
        .add_output("a", b"Epoch 1 ...")
        .pass_time(0.2)
        .add_output("a", b" done\n")
    )
    assert show_run(run)[0] == "a | Epoch 1 ... done\n"


def test_a_bar_is_a_line_at_every_tenth_and_at_its_end() -> None:
    run = History("a").connect_hosts().start_hosts()
    for percent in range(101):
        run.add_output("a", f"\r{percent:3d}%|bar".encode()).pass_time(0.5)
    run.add_output("a", b"\ndone\n")
    lines = show_run(run)[0].splitlines()
    assert lines[:9] == [f"a ~ {percent}%|bar" for percent in range(10, 100, 10)]
    assert lines[-2:] == ["a | 100%|bar", "a | done"]
    assert len(lines) <= 12


def test_slow_progress_bar_prints_a_line_every_half_minute() -> None:
    run = History("a").connect_hosts().start_hosts()
    for second in range(70):
        run.add_output("a", f"\r  1%|bar {second}".encode()).pass_time(1.0)
    assert len([line for line in show_run(run)[0].splitlines() if " ~ " in line]) == 2


def test_a_status_line_at_least_every_minute() -> None:
    run = History("a", "b").connect_hosts().start_hosts()
    for _ in range(150):
        run.pass_time(1.0)
    err = show_run(run)[1]
    assert len(re.findall(r"fanout: no output \d+ s · 2/2 running · 0 B of log · after", err)) == 2


def test_a_line_can_carry_its_time_of_arrival() -> None:
    out, _ = show_run(
        History("a").connect_hosts().start_hosts().add_output("a", b"x\n"),
        parse_display_filters(Settings(timestamps=True)),
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d a \| x\n", out)


def test_colour_of_the_host_is_kept_only_where_it_is_wanted() -> None:
    run = History("a").connect_hosts().start_hosts().add_output("a", b"\x1b[31mred\n")
    assert show_run(run)[0] == "a | red\n"
    assert show_run(run, colour=True)[0] == "a | \x1b[31mred\x1b[0m\n"


def test_a_reader_that_leaves_is_noticed_and_nothing_is_raised() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = History("a").connect_hosts().start_hosts().add_output("a", b"x\n")
    with open(writing, "w", encoding="utf-8") as out:
        view = PlainView(build_heading(run.hosts), stdout=out, stderr=io.StringIO())
        assert not view.broken
        state = run.play_events(view)
        assert view.broken
        view(Tick(at=T0 + 99), state)
        view.close()


def test_a_stdout_without_utf8_gets_what_it_can_show() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    run = History("a").connect_hosts().start_hosts().add_output("a", "é █\n".encode())
    view = PlainView(build_heading(run.hosts), stdout=out, stderr=io.StringIO())
    run.play_events(view)
    assert raw.getvalue() == b"a | \\xe9 \\u2588\n"


def test_many_hosts_that_end_together_are_one_sentence() -> None:
    hosts = tuple(f"gpu{n:02d}" for n in range(1, 65))
    run = History(*hosts).connect_hosts().start_hosts().end_hosts(*hosts).pass_time(0.5)
    assert "fanout: gpu[01-64] ended: exit 0\n" in show_run(run)[1]


def test_hosts_that_fail_after_the_first_are_one_sentence() -> None:
    """Sixty-three victims are no news; the first failure is."""
    hosts = tuple(f"gpu{n:02d}" for n in range(1, 65))
    run = History(*hosts).connect_hosts().start_hosts().end_hosts("gpu07", code=3)
    err = show_run(run.end_hosts(*(host for host in hosts if host != "gpu07"), code=1).pass_time(0.5))[1]
    assert "fanout: gpu07: train.sh ended: exit 3\n" in err
    assert "fanout: gpu[01-06,08-64] ended: exit 1\n" in err
    assert err.count("ended") == 2


def test_an_exit_that_is_received_again_is_one_message() -> None:
    """A relay that attaches to its keeper again repeats how train.sh ended."""
    run = (
        History("gpu01", "gpu02")
        .connect_hosts()
        .start_hosts()
        .end_hosts("gpu01", code=3)
        .end_hosts("gpu01", code=3)
        .end_hosts("gpu02")
        .end_hosts("gpu02")
    )
    err = show_run(run.pass_time(0.5))[1]
    assert err.count("train.sh ended: exit 3") == 1
    assert err.count("fanout: gpu02 ended: exit 0") == 1


def test_a_message_of_several_lines_stays_readable_and_harmless() -> None:
    run = History("a").add_events(Connecting(at=T0, host="a", attempt=1))
    run.add_events(
        ConnectFailed(
            at=T0, host="a", kind="HostKeyUnknown", message="key unknown:\n  SHA256:x\x1b[2J", hint="ssh a\ntrue"
        )
    )
    lines = show_run(run)[1].splitlines()[1:]
    assert lines == [
        "fanout: a: unreachable: key unknown:",
        "fanout: a:   SHA256:x",
        "fanout: a: try: ssh a",
        "fanout: a: try: true",
    ]


def test_message_is_wrapped_at_words_if_a_terminal_shows_it() -> None:
    heading, err = build_heading(("gpu01", "gpu02"), log_dir="/home/me/.local/state/fanout/runs/7f3a"), io.StringIO()
    PlainView(heading, stdout=io.StringIO(), stderr=err, columns=60).close()
    lines = err.getvalue().splitlines()
    assert max(map(len, lines)) < 60
    assert lines[-1] == "        in /home/me/.local/state/fanout/runs/7f3a"


def test_control_characters_in_a_stream_name_are_escaped() -> None:
    run = (
        History("a")
        .connect_hosts()
        .start_hosts()
        .add_events(StreamOpened(at=T0, host="a", stream=1, name="x\x1b]0;evil\x07\n| y"))
    )
    out, _ = show_run(run.add_output("a", b"z\n", stream=1))
    assert out == "a:x\\x1b]0;evil\\x07\\x0a| y | z\n"


def test_the_status_has_the_last_step_and_loss() -> None:
    run = (
        History("a")
        .connect_hosts()
        .start_hosts()
        .add_output("a", b"step 40/100 loss 2.5\nother\n")
        .pass_time(1.0)
        .pass_time(60.0)
    )
    assert "1/1 running · step 40/100 · loss 2.5000 · 27 B of log · after" in show_run(run)[1]


def test_a_rank_with_a_stream_of_its_own_is_named_and_lines_stay_aligned() -> None:
    run = History("a").connect_hosts().start_hosts().add_events(StreamOpened(at=T0, host="a", stream=1, name="rank 12"))
    assert show_run(run.add_output("a", b"x\n").add_output("a", b"y\n", stream=1))[0] == "a    | x\na:12 | y\n"


LINES = st.lists(
    st.sampled_from(
        [
            "step 1 loss 2.5",
            "",
            "  ",
            "trailing  ",
            "tab\there",
            "caf\u00e9 \u4e16",
            "\x1b[31mred\x1b[0m",
            "bell\x07",
            "\u202eflip",
            "WARNING: low",
            "RuntimeError: no",
            "E0101 10:00:00 glog",
            "[rank3]: E0101 10:00:00 x",
            "Traceback (most recent call last):",
            "  File x, line 1",
            "x" * 9000,
        ]
    ),
    max_size=30,
)


@given(lines=LINES, wished=st.sampled_from([{}, {"grep": "loss|no"}, {"hide": "step"}, {"fold": "exact"}]))
def test_lines_that_come_together_look_as_if_each_had_come_alone(lines: list[str], wished: dict[str, Any]) -> None:
    """A block of plain lines is classified, filtered and printed at once; the output must be the same."""
    data = "".join(f"{line}\n" for line in lines).encode()
    together = History("gpu01").connect_hosts().start_hosts().add_output("gpu01", data)
    alone = History("gpu01").connect_hosts().start_hosts()
    for line in data.splitlines(keepends=True):
        alone.add_output("gpu01", line)
    assert show_run(together, parse_display_filters(Settings(**wished))) == show_run(
        alone, parse_display_filters(Settings(**wished))
    )


@pytest.mark.parametrize("pattern", [r"^it (?P<step>\d+) nll=(?P<loss>[\d.]+)$", r"nll=([\d.]+)$"])
def test_a_pattern_of_the_users_meets_every_line_of_a_block_by_itself(pattern: str) -> None:
    """Where a line begins and ends is not where the piece of the log does in which it came."""
    run = (
        History("a")
        .connect_hosts()
        .start_hosts()
        .add_output("a", b"noise\nit 7 nll=2.25\nmore noise\nand more\n")
        .pass_time(61)
    )
    assert "loss 2.2500" in show_run(run, parse_display_filters(Settings(metric=pattern)))[1]
