"""Untrusted text: any output of a host, in any place, may colour the terminal but not control it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.cli.main import main
from fanout.logs.line_filters import DisplayFilters
from fanout.logs.tail import LogTails
from fanout.model import outcome
from fanout.model.events import (
    Answered,
    CleanedUp,
    Connected,
    Disconnected,
    Exited,
    Heartbeat,
    HostLost,
    Leftover,
    LoginOutput,
    Refused,
    StreamOpened,
)
from fanout.model.failure_summary import FailureSummary
from fanout.model.run_info import RunInfo
from fanout.model.subscriber import View
from fanout.record.index import HANDLE_FILE
from fanout.text.sanitize import DENIED
from fanout.ui.grouped_output import GroupedOutput
from fanout.ui.json_lines import JsonLines
from fanout.ui.live_view import LiveView
from fanout.ui.plain_view import PlainView
from fanout.ui.report_rows import ReportFacts
from fanout.ui.run_report import build_report
from fanout.ui.safe_writer import wrap_stream
from fanout.ui.short_report import build_short_report
from tests.histories import History
from tests.record.test_run_writer import write_run

SGR = re.compile(r"\x1b\[[0-9;:]*m")
ACTS = re.compile(rf"(?!\n)[{DENIED}]")
#: What the live view steers: a frame begins by going back to where the block was, and ends by showing the cursor.
FRAMES = re.compile(r"\x1b\[\?2026h\x1b\[\?25l\r(\x1b\[\d+A)?\x1b\[J|\x1b\[\?25h\x1b\[\?2026l")

ATTACKS = (
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "\x1b[9;9H",
    "\x1b[31m",
    "\x1b[8m",
    "\x1b[?1049h",
    "\x1bP1$r\x1b\\",
    "\x1b",
    "\x9b2J",
    "\x1b[1A",
    "\x1bc",
    "\r",
    "\x08",
    "\x07",
    "\x00",
    "\x7f",
    "\x85",
    "\u202e",
    "\u2028",
    "\n",
    "\t",
    "[2J",
    "é",
    "word",
    " ",
    "Error:",
    "step 3/9 loss 2.5",
    "50%|",
    "\x1b[",
)
stranger = st.lists(st.sampled_from(ATTACKS) | st.text(max_size=3), min_size=1, max_size=6).map("".join)
name = stranger.map(lambda text: text.replace("/", "|").replace("\0", "") or "x")


def assert_harmless(text: str) -> None:
    acting = ACTS.search(SGR.sub("", text))
    assert acting is None, f"{acting[0]!r} in {text[max(0, acting.start() - 60) : acting.end() + 60]!r}"


def run_with_text(bad: str, host: str) -> History:
    """Return a run in which every text that a host can send is hostile."""
    run = History("h1", host, "h3", "h4", "h5").connect_hosts().start_hosts("h1", host)
    run.add_events(LoginOutput(at=run.at, host="h1", data=bad.encode("utf-8", "replace")))
    run.add_events(Answered(at=run.at, host="h1", ask=1, value={bad: bad}, error=bad))
    run.add_events(Heartbeat(at=run.at, host=host, load={"gpu_error": bad, "gpus": [{"util": 3, "name": bad}]}))
    for stream, speaker in ((1, f"rank 0 {bad}"), (2, bad)):
        run.add_events(StreamOpened(at=run.at, host=host, stream=stream, name=speaker))
        run.add_output(host, f"{bad}\nValueError: {bad}\n{bad}".encode("utf-8", "replace"), stream=stream).pass_time(
            0.6
        )
    run.add_events(Disconnected(at=run.at, host="h1", why=bad)).pass_time(0.4)
    run.add_events(
        Connected(at=run.at, host="h1", attempt=2, took=0.1, hello={"hostname": bad, "python": bad, "stale": [bad]})
    )
    run.add_events(Refused(at=run.at, host="h3", kind="busy", message=bad, hint=bad))
    run.add_events(HostLost(at=run.at, host="h4", why=bad), HostLost(at=run.at, host="h5", why=f"{bad} too")).pass_time(
        0.4
    )
    run.add_events(
        Exited(at=run.at, host=host, code=3, signal=None, why=bad), Exited(at=run.at, host="h1", code=1, signal=None)
    )
    left = (Leftover(pid=7, state=bad, wchan=bad, command=bad),)
    run.add_events(CleanedUp(at=run.at, host=host, killed=1, left=left)).release_hosts("h1")
    return run.pass_time(1)


def add_heading(run: History, bad: str) -> RunInfo:
    ranks = {host: (node, 1) for node, host in enumerate(run.hosts)}
    return RunInfo(run_id=bad, title=bad, hosts=run.hosts, log_dir=f"/runs/{bad}", ranks=ranks)


@given(stranger, name, st.booleans(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_views_steer_the_terminal_only_by_themselves(bad: str, host: str, colour: bool, unicode: bool) -> None:
    run = run_with_text(bad, host)
    heading = add_heading(run, bad)
    plain, errors, live, folded, lines = (io.StringIO() for _ in range(5))
    clock = iter(range(1_000_000))
    views: list[View] = [
        PlainView(
            heading, stdout=plain, stderr=errors, filters=DisplayFilters(show="all"), colour=colour, status_seconds=0.5
        ),
        GroupedOutput(heading, stdout=folded, stderr=errors),
        JsonLines(heading, stdout=lines),
        *(
            LiveView(
                heading,
                stdout=live,
                colour=colour,
                unicode=unicode,
                filters=DisplayFilters(show="all"),
                size=size,
                clock=lambda: float(next(clock)),
            )
            for size in (lambda: (200, 60), lambda: (40, 60))
        ),
    ]
    run.play_events(*views)
    for view in views:
        view.note(bad)
        view.close()
    for text in (plain, errors, folded, lines):
        assert_harmless(text.getvalue())
    assert_harmless(FRAMES.sub("", live.getvalue()))
    assert colour or not SGR.search(plain.getvalue() + live.getvalue())


@given(stranger, name, st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_report_prints_everything_and_controls_nothing(bad: str, host: str, colour: bool) -> None:
    run = run_with_text(bad, host)
    heading, tails = add_heading(run, bad), LogTails()
    state = run.play_events(tails)
    end = outcome.outcome_of(state)
    summary = FailureSummary(
        sentence=bad,
        step=bad,
        host=bad,
        rank=1,
        quote=(bad,),
        error=bad,
        confidence=bad,
        stands=(bad,),
        hosts=(bad,),
        advice=(bad,),
    )
    facts = ReportFacts(
        heading=heading,
        state=state,
        outcome=end,
        log_tails={name: tails.get_tail(name) for name in run.hosts},
        diagnosis=[bad],
        slow=[bad],
        missing=[bad],
    )
    assert_harmless(build_report(facts, colour=colour))
    assert_harmless(build_short_report(facts, colour=colour, width=80))
    assert_harmless(build_short_report(replace(facts, summary=summary), colour=colour, width=80))


@given(stranger, name)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_commands_on_an_untrusted_record_control_no_terminal(bad: str, host: str) -> None:
    """A record is a few files that may come from another user: its names and texts are untrusted too."""
    place = Path(tempfile.mkdtemp())
    try:
        run = run_with_text(bad, host)
        write_run(place / "runs" / "r1", run)
        result = json.loads((place / "runs/r1/result.json").read_text())
        (place / "runs/r1/result.json").write_text(json.dumps(result | {"headline": bad, "title": bad}))
        (place / "runs/r1" / HANDLE_FILE).write_text(bad, errors="replace")
        (place / "some.log").write_bytes(
            f"Traceback (most recent call last):\n{bad}\nValueError: {bad}\n".encode("utf-8", "replace")
        )
        logs = ["--log-dir", str(place / "runs")]
        for argv in (
            ["logs", *logs],
            ["logs", *logs, "--host", bad],
            ["report", *logs],
            ["replay", *logs, "--output", "plain"],
            ["ps", *logs, "--all"],
            ["attach", *logs, "r1"],
            ["stop", *logs, "r1"],
            ["why", str(place / "runs/r1")],
            ["why", str(place / "some.log")],
            ["report", *logs, bad],
            ["hosts", bad],
            ["run", "--show", bad, "h", "t"],
        ):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
                main([word.replace("\0", "") for word in argv])
            assert_harmless(out.getvalue())
            assert_harmless(err.getvalue())
    finally:
        shutil.rmtree(place)


@given(st.lists(st.text() | stranger))
def test_words_let_text_lines_and_colours_through_and_nothing_else(texts: list[str]) -> None:
    """The one edge of all verbs: what is harmless comes out as it went in."""
    stream = io.StringIO()
    for text in texts:
        wrap_stream(stream).write(text)
    assert_harmless(stream.getvalue())
    tame = [text for text in texts if not ACTS.search(text)]
    stream = io.StringIO()
    for text in tame:
        wrap_stream(stream).write(text)
    assert stream.getvalue() == "".join(tame)


@given(st.text(), st.sampled_from(["ascii", "latin-1", "utf-8"]))
def test_words_for_a_terminal_that_cannot_show_them_are_no_traceback(text: str, encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    wrap_stream(stream).write(text)
    stream.flush()
    assert_harmless(raw.getvalue().decode(encoding))
