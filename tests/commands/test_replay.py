"""``fanout replay``: the run's own views over its record, from any moment, at any pace."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.commands import replay
from fanout.model.errors import UsageError
from fanout.ui.plain_view import PlainView
from tests import histories
from tests.histories import History
from tests.record.test_run_writer import write_run
from tests.ui.goldens import build_heading


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5", 1.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("1:02:03", 3723),
        ("2:05", 125),
        ("-30s", -30),
        ("1 h 14 min", 4440),
        ("2d", 172800),
    ],
)
def test_a_moment_has_the_usual_notations(text: str, seconds: float) -> None:
    assert replay.parse_offset(text) == seconds


@pytest.mark.parametrize("text", ["", "-", "noon", "5x", "1:2:3:4", "1:xx"])
def test_an_invalid_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--from"):
        replay.parse_offset(text)


def test_a_pipe_waits_for_nothing_and_a_terminal_has_the_pace_of_the_run() -> None:
    assert replay.parse_speed("", tty=True) == 1.0
    assert replay.parse_speed("", tty=False) == replay.parse_speed("max", tty=True) == float("inf")
    assert replay.parse_speed("10x", tty=True) == 10.0
    for text in ("0", "-1", "fast", "nan"):
        with pytest.raises(UsageError, match="--speed"):
            replay.parse_speed(text, tty=True)


def replay_run(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[str, str]:
    assert main(["replay", "--log-dir", str(path), *flags]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_a_replay_prints_what_the_run_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = histories.second_host_fails()
    out, err = io.StringIO(), io.StringIO()
    view = PlainView(build_heading(run.hosts, log_dir=str(tmp_path / "run")), stdout=out, stderr=err)
    run.play_events(view)
    view.close()
    write_run(tmp_path / "run", run)
    again, printed = replay_run(tmp_path, capsys)
    assert again == out.getvalue()
    assert printed.startswith(err.getvalue())
    assert "FAILED" in printed


def test_json_equals_that_of_the_run_and_ends_with_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", histories.good_run())
    records = [json.loads(line) for line in replay_run(tmp_path, capsys, "--json")[0].splitlines()]
    assert [records[0]["type"], records[1]["type"], records[-1]["type"]] == ["run", "connecting", "end"]
    assert sum(record["type"] == "line" for record in records) == 12


def test_a_replay_from_a_moment_shows_only_later_events_and_whole_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (
        History("h1", "h2")
        .connect_hosts()
        .start_hosts()
        .add_output("h1", b"old\nbegun ")
        .pass_time(10)
        .add_output("h1", b"and ended\n")
    )
    run.end_hosts(*run.hosts).release_hosts(*run.hosts)
    write_run(tmp_path / "run", run)
    out, err = replay_run(tmp_path, capsys, "--from", "5")
    assert out == "h1 | begun\nh1 + and ended\n"  # as the run itself showed a line that took ten seconds
    assert "connected" not in err
    assert replay_run(tmp_path, capsys, "--from=-1s")[0] == out
    assert replay_run(tmp_path, capsys, "--from", "1h")[0] == ""


def test_start_is_a_time_or_a_step() -> None:
    assert replay.parse_start("", "") == (0.0, None)
    assert replay.parse_start("1h", "") == (3600.0, None)
    assert replay.parse_start("", "500") == (0.0, 500)
    for begin, at, message in (("5m", "3", "give one start"), ("", "1h30m", "not a step"), ("", "-3", "not a step")):
        with pytest.raises(UsageError, match=message):
            replay.parse_start(begin, at)


def test_replay_starts_when_the_run_reaches_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", histories.good_run())
    out, _ = replay_run(tmp_path, capsys, "--at", "400")
    assert [line.split()[3] for line in out.splitlines()[::2]] == ["400/600", "500/600", "600/600"]
    assert main(["replay", "--log-dir", str(tmp_path), "--at", "601"]) == 2
    assert "--at 601: the highest recorded step is 600" in capsys.readouterr().err


def test_a_run_without_an_end_is_shown_as_far_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", histories.good_run())
    (tmp_path / "run/result.json").unlink()
    assert "the record has no end" in replay_run(tmp_path, capsys)[1]
