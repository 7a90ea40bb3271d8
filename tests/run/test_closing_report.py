"""Last screen of a run: the headline is the first and the last line of a short report that loses nothing important."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fanout.diagnose.signatures import load_builtin
from fanout.logs.tail import LogTails
from fanout.model import outcome
from fanout.model.events import CleanedUp, HostLost, Interrupted, Leftover
from fanout.run import closing_report, diagnosis
from fanout.ui.display_mode import DisplayMode
from fanout.ui.key_lines import select_key_lines
from fanout.ui.report_rows import ReportFacts, list_other_hosts
from fanout.ui.short_report import LONGEST
from tests import histories
from tests.diagnose.kit import CLOSED, Run
from tests.diagnose.test_carried import SPAWN
from tests.diagnose.test_hung import build_hanging, interrupt_run
from tests.histories import History
from tests.ui.goldens import Terminal, build_heading, same_as_golden

SIZES = ((80, 24), (100, 30), (140, 40))
PLAIN, COLOURED = (DisplayMode(mode="plain", colour=colour, unicode=True) for colour in (False, True))
OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
    "1.02 GiB is free. Process 4711 has 78.08 GiB memory in use."
)


def judge_run(run: History, *, each: int = 2, attempts: tuple[str, ...] = ()) -> ReportFacts:
    """Return the facts of the report of a run."""
    heading, tails = build_heading(run.hosts), LogTails()
    heading = replace(heading, ranks={host: (node, each) for node, host in enumerate(run.hosts)})
    collector = diagnosis.build_collector(heading, load_builtin())
    state = run.play_events(tails, collector)
    ended, verdict = diagnosis.diagnose_run(collector, state, outcome.outcome_of(state))
    return replace(closing_report.build_facts(heading, state, ended, verdict, tails), attempts=attempts)


def end_run(run: Run) -> Run:
    """End the run: the launcher stops the other hosts, and verifies all."""
    run.pass_time(0.5).release_hosts(*run.hosts)
    run.pass_time(0.5)
    return run


def fail_with(error: str) -> Run:
    run = Run(each=2)
    for step in range(2, 15):
        run.out(0, f"step {step}/60 loss 3.1")
    run.raises(3, error).victims(0, 1, 2)
    return end_run(run.torchrun("gpu02", (3, 1), (2, -15)).torchrun("gpu01", (0, 1), (1, -15)))


def kill_rank() -> Run:
    run = Run().victims(0, 1, 2)
    return end_run(run.torchrun("gpu02", (3, -9), (2, -15)).torchrun("gpu01", (0, 1), (1, -15)))


def lose_host() -> Run:
    run = Run()
    run.pass_time(20.0).add_events(HostLost(at=run.at, host="gpu02", why="no sign of life for 300 s"))
    run.stop_hosts("gpu02 is lost", "gpu01").pass_time(1.0).end_hosts("gpu01", code=None, signal=15)
    run.release_hosts("gpu01")
    return run


def exit_early() -> Run:
    """Let both ranks of gpu02 exit with 0, because they have less data than the others."""
    run = Run(split=True)
    run.end_hosts("gpu02", code=0).pass_time(1.0)
    run.victims(0, 1, text=CLOSED, peer="10.0.0.2").torchrun("gpu01", (0, 1), (1, -15))
    return end_run(run)


def stop_healthy_run(number: int = 2, by: str = "") -> Run:
    run = Run()
    run.add_events(Interrupted(at=run.at, signal=number, by=by)).stop_hosts("interrupted", *run.hosts).pass_time(2.0)
    run.end_hosts(*run.hosts, code=None, signal=15)
    return end_run(run)


ENDS: dict[str, Callable[[], History]] = {
    "exception": lambda: fail_with("ValueError: bad sample 1234"),
    "memory": lambda: fail_with(OUT_OF_MEMORY),
    "signal": kill_rank,
    "hang": lambda: interrupt_run(build_hanging()),
    "lost-host": lose_host,
    "early-exit": exit_early,
    "stop": stop_healthy_run,
    "stop-command": lambda: stop_healthy_run(15, by="ann@pc"),
    "unreachable": histories.build_unreachable_run,
    "no-verdict": histories.second_host_fails,
}


def show_last_screen(text: str, columns: int, rows: int) -> str:
    """Return what a person sees after the end of a run with a long log."""
    terminal = Terminal(columns, rows)
    terminal.feed_text("".join(f"gpu01:0 | step {step}/60 loss 3.1\n" for step in range(60)) + text)
    return "\n".join(line.rstrip() for line in terminal.screen.display).rstrip() + "\n"


@pytest.mark.parametrize(("columns", "rows"), SIZES)
@pytest.mark.parametrize("name", ENDS)
def test_last_screen(name: str, columns: int, rows: int) -> None:
    text = closing_report.render_report(judge_run(ENDS[name]()), PLAIN, columns, full=False)
    same_as_golden(f"end-{name}-{columns}x{rows}", show_last_screen(text, columns, rows))


@pytest.mark.parametrize("name", ENDS)
def test_the_short_report_is_short_and_names_the_full_one(name: str) -> None:
    facts = judge_run(ENDS[name]())
    lines = closing_report.render_report(facts, PLAIN, 80, full=False).splitlines()
    assert len(lines) <= LONGEST
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("fanout report --full 7f3a") for line in lines)
    full = closing_report.render_report(facts, PLAIN, 80, full=True)
    assert len(full.splitlines()) > len(facts.diagnosis)


@pytest.mark.parametrize("name", sorted({*ENDS} - {"stop", "stop-command"}))
def test_the_headline_is_the_last_line_in_red(name: str) -> None:
    for full in (False, True):
        text = closing_report.render_report(judge_run(ENDS[name]()), COLOURED, None, full=full)
        first, *_, last = text.splitlines()
        assert last.startswith("\x1b[1;31m")
        assert full or last.removeprefix("\x1b[1;31m").removesuffix("\x1b[0m") in first


def test_the_cause_is_bold_in_the_full_report() -> None:
    text = closing_report.render_report(judge_run(fail_with("ValueError: bad sample 1234")), COLOURED, 80, full=True)
    bold = [line for line in text.splitlines() if line.startswith("\x1b[1m  ")]
    assert [line[4:].strip().split()[0] for line in bold] == ["first", "ended"]


@pytest.mark.parametrize(
    ("number", "by", "words", "status"),
    [
        (2, "", "by you", "130 (you stopped it)"),
        (15, "ann@pc", "by ann@pc with fanout stop", "143 (stopped by ann@pc with fanout stop)"),
        (15, "", "by SIGTERM from an unknown sender", "143 (stopped by SIGTERM)"),
        (1, "", "because the terminal was closed (SIGHUP)", "129 (stopped by SIGHUP)"),
    ],
)
def test_a_stop_ends_with_who_stopped_the_run_and_what_was_verified(
    number: int, by: str, words: str, status: str
) -> None:
    text = closing_report.render_report(judge_run(stop_healthy_run(number, by)), PLAIN, None, full=False)
    assert text.splitlines()[-1].endswith(f": {words}; nothing is left: verified on both hosts")
    assert f"  exit status  {status}\n" in text


def test_a_stop_that_left_processes_ends_with_them_in_red() -> None:
    run = Run(hosts=1)
    run.add_events(Interrupted(at=run.at, signal=2)).stop_hosts("interrupted", "gpu01").end_hosts(
        "gpu01", code=None, signal=15
    )
    stuck = Leftover(pid=4242, state="D", wchan="nfs_wait_bit", command="python tasks/train.py")
    run.add_events(CleanedUp(at=run.at, host="gpu01", killed=1, left=(stuck,))).pass_time(1.0)
    text = closing_report.render_report(judge_run(run), COLOURED, None, full=False)
    assert "pid 4242 (D, nfs_wait_bit) python tasks/train.py" in text
    assert text.splitlines()[-1].endswith("; 1 process left on gpu01\x1b[0m")
    assert text.splitlines()[-1].startswith("\x1b[1;31m")


def find_other_hosts(run: History) -> list[str]:
    """Return the rows of the report about the hosts that did not fail first."""
    return [row.text for row in list_other_hosts(judge_run(run))]


def test_a_host_that_lost_its_peer_before_the_stop_is_shown_as_a_victim() -> None:
    run = Run()
    run.add_output("gpu02", SPAWN.format(blank="", local=1, error="ValueError: held out").encode())
    run.add_output("gpu01", SPAWN.format(blank="", local=0, error=CLOSED.format(peer="10.0.0.2")).encode())
    run.end_hosts("gpu02", code=1).pass_time(3.0).stop_hosts("gpu02 failed", "gpu01").end_hosts("gpu01", code=1)
    assert find_other_hosts(run) == ["gpu01: victim (lost its peer 10.0.0.2), stopped by fanout 3.0 s later (exit 1)"]


def test_victims_with_equal_ends_are_one_row_and_a_host_with_an_error_of_its_own_is_none() -> None:
    run = Run(hosts=4, each=1).raises(1, "ValueError: bad sample 1234")
    run.victims(0, peer="10.0.0.2").victims(2, peer="10.0.0.1").torchrun("gpu02", (1, 1)).pass_time(1.0)
    run.raises(3, "KeyError: 'lr'").torchrun("gpu04", (3, 1))
    run.end_hosts("gpu01", "gpu03", code=1)
    assert find_other_hosts(run) == [
        "gpu[01,03]: victims (lost a peer or timed out), failed too (exit 1)",
        "gpu04: failed too (exit 1)",
    ]


def test_the_table_of_attempts_stands_before_the_last_line() -> None:
    facts = judge_run(fail_with("ValueError: bad sample 1234"), attempts=("", "ATTEMPT  HOSTS", "0        gpu[01-02]"))
    lines = closing_report.render_report(facts, PLAIN, 80, full=False).splitlines()
    assert lines[-4:-1] == ["", "ATTEMPT  HOSTS", "0        gpu[01-02]"]
    assert lines[-1].startswith("FAILED after")
    assert len(lines) <= LONGEST + 3


def test_a_cause_that_is_not_certain_is_not_stated_as_certain() -> None:
    run = Run().torchrun("gpu01", (0, 3), (1, 3))
    facts = judge_run(end_run(run.torchrun("gpu02", (2, 3), (3, 3))))
    assert facts.summary is not None
    assert facts.summary.confidence
    text = closing_report.render_report(facts, PLAIN, 80, full=False)
    assert facts.summary.confidence.split(";")[0] in text
    assert "confidence" in text


def test_a_line_about_restarts_counts_as_a_line_of_the_report() -> None:
    note = "--max-restarts 3 would have restarted it on the same hosts: user code fails again at the same place, unless data played a part"
    facts = judge_run(fail_with("ValueError: bad sample 1234"), attempts=(note,))
    lines = closing_report.render_report(facts, PLAIN, 80, full=False).splitlines()
    assert len(lines) <= LONGEST
    assert note in " ".join(" ".join(lines).split())


def test_the_error_line_and_the_users_frame_survive_a_long_traceback() -> None:
    frames = [f'  File "/proj/step{n}.py", line {n}, in f{n}' for n in range(30)]
    lines = [
        "Traceback (most recent call last):",
        *frames,
        "  … 90 frames in torch folded",
        "ValueError: no",
        "details",
        "more",
    ]
    assert select_key_lines(lines, "ValueError: no", 3) == (
        frames[-1],
        "  … 90 frames in torch folded",
        "ValueError: no",
    )
    much = [*lines[:2], "    code = 1", *("  … 1 frame in torch folded",) * 20, "ValueError: no"]
    assert select_key_lines(much, "ValueError: no", 5) == (frames[0], "    code = 1", *much[-3:])
