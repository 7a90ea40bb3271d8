"""Report of a run: the first failure, its last lines, the end of the others, what is left, what to type."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fanout.logs.tail import KEEP_BYTES, LogTails, extract_traceback
from fanout.model import outcome
from fanout.model.events import (
    BackgroundFound,
    CleanedUp,
    HostLost,
    Interrupted,
    Leftover,
    OutsideCalled,
    RanksSeen,
    StreamOpened,
)
from fanout.model.failure_summary import FailureSummary
from fanout.model.run_info import RunInfo
from fanout.model.state import apply_event
from fanout.ui.report_headline import build_closing_line, build_headline
from fanout.ui.report_rows import ReportFacts
from fanout.ui.run_report import build_report
from tests import histories
from tests.histories import TRACEBACK, History
from tests.ui.goldens import build_heading, same_as_golden


def render_report(
    run: History,
    *,
    diagnosis: Sequence[str] = (),
    heading: RunInfo | None = None,
    summary: FailureSummary | None = None,
    **options: Any,
) -> str:
    tails = LogTails()
    state = run.play_events(tails)
    words = {host: tails.get_tail(host) for host in run.hosts}
    ended = outcome.outcome_of(state)
    facts = ReportFacts(
        heading=heading or build_heading(run.hosts),
        state=state,
        outcome=ended,
        log_tails=words,
        diagnosis=diagnosis,
        summary=summary,
    )
    return build_report(facts, **options)


def lost_in_the_middle() -> History:
    run = History("gpu01", "gpu02").connect_hosts().start_hosts().add_output("gpu02", b"working\n").pass_time(1.0)
    run.add_events(HostLost(at=run.at, host="gpu02", why="no sign of life for 300 s")).stop_hosts(
        "gpu02 is lost", "gpu01"
    )
    return run.pass_time(1.0).end_hosts("gpu01", code=None, signal=15).release_hosts("gpu01")


def left_behind() -> History:
    run = (
        History("gpu01")
        .connect_hosts()
        .start_hosts()
        .add_output("gpu01", b"Bus error\n")
        .end_hosts("gpu01", code=None, signal=7)
    )
    stuck = Leftover(pid=4242, state="D", wchan="nfs_wait_bit", command="python tasks/train.py")
    return run.add_events(CleanedUp(at=run.at, host="gpu01", killed=1, left=(stuck,))).pass_time(1.0)


def many_hosts() -> History:
    hosts = tuple(f"gpu{n:02d}" for n in range(1, 65))
    run = (
        History(*hosts)
        .connect_hosts()
        .start_hosts()
        .add_output("gpu07", TRACEBACK)
        .pass_time(0.5)
        .end_hosts("gpu07", code=1)
    )
    others = [host for host in hosts if host != "gpu07"]
    run.pass_time(0.3).stop_hosts("gpu07: exit 1", *others).pass_time(2.0).end_hosts(*others[:-1], code=None, signal=15)
    return run.end_hosts(others[-1], code=None, signal=9).release_hosts(*hosts).pass_time(0.1)


RUNS = {**histories.TYPICAL, "lost": lost_in_the_middle, "left": left_behind, "many": many_hosts}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_reports(name: str) -> None:
    same_as_golden(f"report-{name}", render_report(RUNS[name]()))


def test_a_good_run_needs_no_more_than_three_lines() -> None:
    assert len(render_report(histories.good_run()).splitlines()) <= 3


def test_a_stopped_run_that_ended_well_has_no_holes() -> None:
    """A script that saves and exits 0 on TERM: it was stopped, and nothing is missing from its log."""
    run = History("gpu01").connect_hosts().start_hosts().pass_time(1.0)
    run.add_events(Interrupted(at=run.at, signal=2)).stop_hosts("SIGINT", "gpu01").pass_time(1.0).end_hosts(
        "gpu01"
    ).release_hosts("gpu01")
    assert " STOPPED after " in render_report(run)
    assert "HOLES" not in render_report(run)


def test_report_claims_clean_hosts_only_after_all_were_verified() -> None:
    assert "nothing: verified on all 3 hosts" in render_report(histories.second_host_fails())
    text = render_report(lost_in_the_middle())
    assert "nothing: all" not in text
    assert "unknown: could not verify gpu02" in text


def add_ranks(run: History, host: str, ranks: tuple[str | int, ...]) -> None:
    """Open the streams with these names, or report that the ranks with these numbers were seen."""
    for number, rank in enumerate(ranks, 1):
        if isinstance(rank, str):
            run.add_events(StreamOpened(at=run.at, host=host, stream=number, name=rank))
    run.add_events(RanksSeen(at=run.at, host=host, ranks=tuple(rank for rank in ranks if isinstance(rank, int))))


@pytest.mark.parametrize(
    ("stream", "planned", "flag"),
    [("rank 3 err", 4, " --rank 3"), ("rank 30", 4, ""), ("", None, ""), ("", 4, " --rank 3")],
)
def test_next_command_names_a_rank_only_if_lines_are_shown_for_it(stream: str, planned: int | None, flag: str) -> None:
    """Ranks of mp.spawn print in the stream of their host, which ``--rank`` shows only for the ranks of the plan."""
    run = History("gpu01").connect_hosts().start_hosts()
    if stream:
        run.add_events(StreamOpened(at=run.at, host="gpu01", stream=1, name=stream))
    run.add_output("gpu01", TRACEBACK).pass_time(1.0).end_hosts("gpu01", code=1).release_hosts("gpu01")
    heading = replace(build_heading(run.hosts), ranks={"gpu01": (0, planned)})
    text = render_report(run, heading=heading, summary=FailureSummary(sentence="it failed", host="gpu01", rank=3))
    assert f"--host gpu01{flag}\n" in text


@pytest.mark.parametrize(
    ("second", "is_separate"),
    [
        (("rank 0", "rank 1", "rank 1 err"), True),
        (("rank 2", "rank 3"), False),
        (("rank 0", "rank 2", "rank 3"), False),
        ((), False),
        ((0, 1), True),
        ((2, 3), False),
    ],
)
def test_hosts_that_trained_alone_are_named_although_all_succeeded(
    second: tuple[str | int, ...], is_separate: bool
) -> None:
    """A launcher without the number of hosts gives each host the same ranks; a helper of each host is no group."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    add_ranks(run, "gpu01", ("rank 0", "rank 1"))
    add_ranks(run, "gpu02", second)
    run.pass_time(1.0).end_hosts(*run.hosts).release_hosts(*run.hosts)
    text = render_report(run)
    assert "succeeded" in text
    assert ("gpu[01-02] each had a rank 0: every host trained as a group of its own" in text) is is_separate


def test_leftover_process_is_reported_with_pid_and_wait_channel() -> None:
    assert "gpu01: pid 4242 (D, nfs_wait_bit) python tasks/train.py" in render_report(left_behind())


def test_colour_only_repeats_the_text() -> None:
    plain, coloured = render_report(many_hosts()), render_report(many_hosts(), colour=True)
    assert "\x1b[" in coloured
    assert "\x1b" not in plain


def test_without_unicode_the_report_is_ascii() -> None:
    assert render_report(many_hosts(), unicode=False).isascii()


def test_a_traceback_far_above_the_end_is_still_shown_whole() -> None:
    run = History("gpu01").connect_hosts().start_hosts().add_output("gpu01", TRACEBACK)
    run.add_output("gpu01", b"noise after it\n" * 10_000).end_hosts("gpu01", code=1).release_hosts("gpu01")
    text = render_report(run)
    assert "its traceback" in text
    assert all(line in text for line in TRACEBACK.decode().splitlines())
    assert "noise" not in text


def test_host_output_cannot_break_out_of_the_report() -> None:
    run = (
        History("gpu01")
        .connect_hosts()
        .start_hosts()
        .add_output("gpu01", b"\x1b[2J\x1b]0;x\x07evil\n")
        .end_hosts("gpu01", code=1)
    )
    assert "\x1b" not in render_report(run.release_hosts("gpu01"))


def test_torchruns_own_traceback_does_not_hide_the_programs() -> None:
    tails = LogTails()
    elastic = TRACEBACK.replace(b"RuntimeError: shape", b"torch.distributed.elastic.ChildFailedError: shape")
    for data in (TRACEBACK, b"between\n", elastic):
        tails.add_bytes("h", data)
    assert tails.get_tail("h").traceback[-1].startswith("RuntimeError")


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_a_traceback_is_found_however_it_is_cut(size: int) -> None:
    data = b"before\n" + TRACEBACK + b"after\n"
    tails = LogTails()
    for at in range(0, len(data), size):
        tails.add_bytes("h", data[at : at + size])
    assert tails.get_tail("h").traceback == tuple(TRACEBACK.decode().splitlines())
    assert tails.get_tail("h").lines == tuple(data.decode().splitlines())


def test_a_traceback_with_a_mark_before_every_line_is_one() -> None:
    lines = [f"[rank5]: {line}" for line in TRACEBACK.decode().splitlines()]
    assert extract_traceback([*lines, "[rank5]: more"]) == tuple(lines)


def test_memory_does_not_grow_with_the_log() -> None:
    tails = LogTails()
    for _ in range(400):
        tails.add_bytes("h", b"x" * 999 + b"\n")
    assert sum(len(line) for line in tails.get_tail("h", count=10**6).lines) <= 2 * KEEP_BYTES


def test_the_report_notes_a_host_without_output() -> None:
    run = History("gpu01").connect_hosts().start_hosts().end_hosts("gpu01", code=9).release_hosts("gpu01")
    assert "gpu01 printed no output." in render_report(run)
    assert io.StringIO(render_report(run)).readline().startswith("━━━ run 7f3a FAILED")


def test_a_diagnosis_stands_under_the_headline() -> None:
    lines = render_report(
        histories.second_host_fails(), diagnosis=["first cause: gpu02, rank 9", "victims: gpu[01,03]"]
    ).splitlines()
    assert lines[1:4] == ["gpu02: exit 3", "first cause: gpu02, rank 9", "victims: gpu[01,03]"]


@pytest.mark.parametrize(
    ("signal", "by"),
    [
        (Interrupted(at=1.0, signal=2), "by you"),
        (Interrupted(at=1.0, signal=15), "by SIGTERM from an unknown sender"),
        (Interrupted(at=1.0, signal=15, by="ann@pc"), "by ann@pc with fanout stop"),
        (None, "by the time limit"),
    ],
)
def test_headline_of_a_run_stopped_between_attempts_names_who_stopped_it(signal: Interrupted | None, by: str) -> None:
    """The cause of the attempt before is below it; it is not why the run ended."""
    run = histories.second_host_fails()
    state = run.play_events(lambda event, state: None)
    ended = outcome.outcome_of(state)
    stopped = outcome.stop_by_time_limit(ended, 1)
    if signal is not None:
        stopped = outcome.stop_between_attempts(ended, apply_event(state, signal), 1)
    facts = ReportFacts(heading=build_heading(run.hosts), state=state, outcome=stopped)
    assert build_headline(facts) == f"STOPPED after 4.9 s: {by} before attempt 1"
    assert build_closing_line(facts)[0].startswith(f"{build_headline(facts)}; nothing is left")


def test_headline_of_a_good_run_states_its_success() -> None:
    """``fanout why`` prints it."""
    run = histories.good_run()
    state = run.play_events()
    facts = ReportFacts(heading=build_heading(run.hosts), state=state, outcome=outcome.outcome_of(state))
    assert build_headline(facts) == "SUCCEEDED after 7.8 s: both hosts succeeded"


def test_good_run_ends_with_lines_that_fit_into_the_terminal() -> None:
    run = histories.good_run()
    heading = replace(build_heading(run.hosts), run_id="20261130-172306-ef61ab23f6d4")
    first, second, _ = render_report(run, heading=heading, width=80).splitlines()
    assert first.endswith("succeeded after 7.8 s;"), first
    assert second == "  nothing is left on them"
    assert "; nothing is left on them\n" in render_report(run, heading=heading)


@pytest.mark.parametrize("code", [0, 3])
def test_report_does_not_claim_that_nothing_is_left_if_train_sh_called_ssh(code: int) -> None:
    run = History("gpu01").connect_hosts().start_hosts()
    text = render_report(
        run.add_events(OutsideCalled(at=run.at, host="gpu01", calls="ssh to gpu02, tmux in line 3 of train.sh"))
        .end_hosts("gpu01", code=code)
        .release_hosts("gpu01")
    )
    assert "train.sh calls ssh to gpu02, tmux in line 3 of train.sh: what that starts is not verified" in " ".join(
        text.split()
    )
    assert "nothing" not in text


def test_report_names_kept_processes_and_the_command_that_stops_them() -> None:
    run = History("gpu01").connect_hosts().start_hosts().end_hosts("gpu01", code=0)
    run.add_events(BackgroundFound(at=run.at, host="gpu01", how="kept", processes="pid 7 torchrun a.py", keeper=5))
    kept = Leftover(pid=7, state="S", wchan="", command="torchrun a.py")
    text = render_report(run.add_events(CleanedUp(at=run.at, host="gpu01", killed=0, left=(kept,))).pass_time(1.0))
    assert "they still run:\n  gpu01: pid 7 torchrun a.py\nto stop them on gpu01, type there: kill 5\n" in text
    assert "nothing" not in text
    assert "succeeded" not in text


def test_report_names_the_processes_that_the_keeper_ended() -> None:
    run = History("gpu01").connect_hosts().start_hosts().end_hosts("gpu01", code=0)
    run.add_events(
        BackgroundFound(at=run.at, host="gpu01", how="ended", processes="pid 7 sleep 9\npid 8 top", keeper=5)
    )
    text = render_report(run.release_hosts("gpu01"))
    assert "the keeper ended:\n  gpu01: pid 7 sleep 9\n  gpu01: pid 8 top\n" in text
