"""Lines that are shown: rank 0 and errors by default, a script's only output always, and a count of hidden lines."""

from __future__ import annotations

import io

import pytest

from fanout.logs.line_filters import DisplayFilters, parse_display_filters, parse_show
from fanout.model.errors import UsageError
from fanout.model.events import StreamOpened
from fanout.model.settings import Settings
from fanout.ui.plain_view import PlainView
from tests.histories import T0, TRACEBACK, History
from tests.ui.goldens import build_heading


def under_torchrun(*hosts: str, ranks: int = 2) -> History:
    """Return streams for every rank: 1 to ``ranks`` on each host."""
    run = History(*hosts).connect_hosts().start_hosts()
    for node, host in enumerate(hosts):
        for local in range(ranks):
            run.add_events(StreamOpened(at=T0, host=host, stream=local + 1, name=f"rank {node * ranks + local}"))
    return run


def shown(run: History, wished: DisplayFilters | None = None) -> tuple[list[str], str]:
    out, err = io.StringIO(), io.StringIO()
    view = PlainView(build_heading(run.hosts), stdout=out, stderr=err, filters=wished)
    run.play_events(view)
    view.close()
    return out.getvalue().splitlines(), err.getvalue()


def test_the_default_is_rank_0_in_full_and_error_lines_of_all() -> None:
    run = under_torchrun("a", "b")
    for host in run.hosts:
        for stream in (1, 2):
            run.add_output(host, b"step 1\n", stream=stream)
    run.add_output("b", b"UserWarning: not writable\n" + TRACEBACK, stream=2)
    lines, err = shown(run)
    assert lines[:2] == ["a:0 | step 1", "b:3 | UserWarning: not writable"]
    assert lines[2:] == [f"b:3 | {line}" for line in TRACEBACK.decode().splitlines()]
    assert "fanout: 3 lines of the log not shown (--show all shows every rank); all of them are in /home/me/runs" in err


STOP_OF_TORCHRUN = b"""W1130 12:55:48.259000 13525 torch/distributed/elastic/agent/server/api.py:753] Received 15 death signal, shutting down workers
W1130 12:55:48.260000 13525 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 13566 closing signal SIGTERM
Traceback (most recent call last):
  File "/opt/venv/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.api.SignalException: Process 13525 got signal: 15
"""


@pytest.mark.parametrize("fold", ["off", "similar"])
def test_what_torchrun_prints_because_fanout_stops_it_is_not_shown(fold: str) -> None:
    """The program's own error after the signal, and the same lines after a signal of another sender, are shown."""
    run = under_torchrun("a", "b").stop_hosts("interrupted", "a", reason="interrupted").pass_time(0.1)
    run.add_output("a", STOP_OF_TORCHRUN).add_output("a", b"ValueError: cannot save\n", stream=2).pass_time(1.0)
    lines, err = shown(run, DisplayFilters(fold=fold))
    assert lines == ["a:1 | ValueError: cannot save"]
    assert f"fanout: {6 if fold == 'off' else 3} lines of the log not shown" in err
    assert len(shown(run, DisplayFilters(show="all", fold="off"))[0]) == 7
    by_another = under_torchrun("a", "b").add_output("a", STOP_OF_TORCHRUN).pass_time(1.0)
    assert len(shown(by_another, DisplayFilters(fold="off"))[0]) == 6


def test_a_script_without_torchrun_is_shown_in_full_on_every_host() -> None:
    run = History("a", "b").connect_hosts().start_hosts().add_output("a", b"one\n").add_output("b", b"other\n")
    lines, err = shown(run)
    assert lines == ["a | one", "b | other"]
    assert "not shown" not in err


def test_the_rank_that_prints_the_metrics_is_shown_if_rank_0_prints_none() -> None:
    """Megatron prints its losses on the last rank."""
    run = under_torchrun("a")
    for step in range(10):
        run.add_output("a", b"waiting\n", stream=1).add_output(
            "a", f"iteration {step}/ 9 | lm loss: 2.0\n".encode(), stream=2
        ).pass_time(1.0)
    lines, _ = shown(run)
    assert [line for line in lines if "lm loss" in line][-1] == "a:1 | iteration 9/ 9 | lm loss: 2.0"
    run = under_torchrun("a")
    for step in range(10):
        run.add_output("a", b"step 1 loss 2\n", stream=1).add_output(
            "a", f"step {step} loss 2.0\n".encode(), stream=2
        ).pass_time(1.0)
    assert {line[:3] for line in shown(run)[0]} == {"a:0"}


def test_ranks_are_global_and_errors_of_torchrun_stay() -> None:
    run = under_torchrun("a", "b").add_output("b", b"setting up\nE1122 14:06:51.204 failed (exitcode: 1)\n")
    for host in run.hosts:
        for stream in (1, 2):
            run.add_output(host, b"x\n", stream=stream)
    lines, _ = shown(run, parse_display_filters(Settings(show="1-2")))
    assert lines == ["b   | E1122 14:06:51.204 failed (exitcode: 1)", "a:1 | x", "b:2 | x"]


def test_without_streams_of_ranks_a_rank_selects_its_host() -> None:
    run = History("a", "b").connect_hosts().start_hosts().add_output("a", b"x\n").add_output("b", b"y\n")
    assert shown(run, parse_display_filters(Settings(show="9")))[0] == ["b | y"]  # eight ranks a host


def test_grep_searches_all_ranks_and_hide_removes_lines() -> None:
    run = under_torchrun("a")
    for stream in (1, 2):
        run.add_output("a", b"apple 1\npear 2\n", stream=stream)
    assert shown(run, parse_display_filters(Settings(grep="app.e")))[0] == ["a:0 | apple 1", "a:1 | apple 1"]
    assert shown(run, parse_display_filters(Settings(hide=r"\d$", show="all")))[0] == []
    assert shown(run, parse_display_filters(Settings(hide="pear")))[0] == ["a:0 | apple 1"]


def test_stdout_and_stderr_of_a_rank_are_one_source() -> None:
    run = under_torchrun("a", ranks=1).add_events(StreamOpened(at=T0, host="a", stream=9, name="rank 0 err"))
    assert shown(run.add_output("a", b"x\n", stream=9))[0] == ["a:0 | x"]


def test_a_prefix_of_the_users_choice() -> None:
    run = under_torchrun("a").add_output("a", b"x\n", stream=1)
    assert shown(run, parse_display_filters(Settings(prefix="<{host} {rank}> ")))[0] == ["<a 0> x"]
    assert shown(run, parse_display_filters(Settings(prefix="")))[0] == ["x"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"show": "0,x"}, "--show 0,x: 'x' is not a rank"),
        ({"show": "5-2"}, "'5-2' is not a rank"),
        ({"grep": "("}, "--grep (: not a regular expression"),
        ({"prefix": "{who"}, "--prefix {who"),
        ({"prefix": "{pod}"}, "unknown field 'pod'"),
        ({"prefix": "{host.x}"}, "unknown field 'host.x'"),
        ({"metric": r"loss (\d"}, "--metric"),
        ({"metric": r"loss"}, "it has no capture group"),
    ],
)
def test_an_invalid_filter_is_reported_before_anything_starts(flags: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_display_filters(Settings(**flags))  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_ranks_are_lists_and_ranges() -> None:
    assert parse_show("0,8-10") == frozenset({0, 8, 9, 10})
    assert parse_show("all") == "all"
