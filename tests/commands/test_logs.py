"""``fanout logs``: the recorded lines that it prints, and how long it waits for more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.model.events import StreamOpened
from fanout.record import follow
from fanout.record.run_reader import RunReader
from tests import histories
from tests.histories import History
from tests.record.test_run_writer import write_run


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    """Record a run of two hosts; the first has one stream for each rank, the second one stream for all."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    for rank in (0, 1):
        run.add_events(StreamOpened(at=run.at, host="gpu01", stream=rank + 1, name=f"rank {rank}"))
        run.add_output("gpu01", f"step 1 of {rank}\nnote of {rank}\n".encode(), stream=rank + 1)
    run.add_output("gpu02", b"step 1 of all\n").end_hosts("gpu01").end_hosts("gpu02")
    write_run(tmp_path / "runs" / "r1", run)
    return tmp_path / "runs"


def print_logs(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[list[str], str]:
    assert main(["logs", "--log-dir", str(path), *flags]) == 0
    out, err = capsys.readouterr()
    return out.splitlines(), err


def test_lines_are_selected_by_rank_and_by_content(ranks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host whose ranks share a stream is shown for each of its ranks: nothing there distinguishes them."""
    assert print_logs(ranks, capsys, "--rank", "1")[0] == ["gpu01:1 | step 1 of 1", "gpu01:1 | note of 1"]
    assert print_logs(ranks, capsys, "--show", "8-15")[0] == ["gpu02 | step 1 of all"]
    assert print_logs(ranks, capsys, "--grep", "step", "--hide", "of 0|of all")[0] == ["gpu01:1 | step 1 of 1"]
    assert len(print_logs(ranks, capsys, "--show", "all")[0]) == 5


def test_a_rank_without_output_is_reported(ranks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, words = print_logs(ranks, capsys, "--rank", "1", "--grep", "nothing")
    assert lines == []
    assert "run 7f3a: no such line of rank 1 is recorded" in words


def test_a_rank_that_the_run_does_not_have_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs" / "r1", History("gpu01").connect_hosts().start_hosts().end_hosts("gpu01"))
    assert main(["logs", "--log-dir", str(tmp_path / "runs"), "--rank", "8,99"]) == 2
    assert (
        capsys.readouterr().err
        == "fanout: --rank 8,99: the run has ranks 0-7\n        try:  fanout logs 7f3a --rank 0-7\n"
    )


def test_follow_reports_why_it_ends(
    ranks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has ended, or no process records it any more."""
    lines, words = print_logs(ranks, capsys, "-f")
    assert len(lines) == 5
    assert words == "fanout: run 7f3a has ended:  fanout report 7f3a\n"
    (ranks / "r1" / "result.json").unlink()
    monkeypatch.setattr(follow, "GUARDIAN_SECONDS", 0.1)
    lines, words = print_logs(ranks, capsys, "-f")
    assert len(lines) == 5
    assert (
        words
        == "fanout: run 7f3a: no process writes its record: the launcher died. To resume it:  fanout attach 7f3a\n"
    )


def test_the_time_may_precede_every_line(ranks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = print_logs(ranks, capsys, "-T", "--rank", "0")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d gpu01:0 \| ", line) for line in lines)


@pytest.mark.parametrize("words", [("--rank", "smart"), ("--rank", "8-1"), ("--rank", "0-99999999"), ("--hide", "(")])
def test_invalid_options_are_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "--log-dir", "/nonexistent", *words]) == 2
    capsys.readouterr()


def test_a_record_without_a_writer_may_still_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guardian of a killed launcher needs a moment; then ``fanout logs`` shows what it writes."""
    write_run(tmp_path / "run", histories.good_run())
    events, outcome = tmp_path / "run" / "events.jsonl", tmp_path / "run" / "result.json"
    everything = len(list(RunReader(str(tmp_path / "run")).iter_events()))
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:-4]))
    outcome.rename(tmp_path / "later")
    found = waited = 0
    for event in follow.follow_events(RunReader(str(tmp_path / "run"))):
        found += event is not None
        if event is None and not waited:
            waited += 1
            with open(events, "ab") as file:
                file.write(b"".join(lines[-4:]))
            (tmp_path / "later").rename(outcome)
    assert (found, waited) == (everything, 1)
    outcome.unlink()
    events.write_bytes(b"".join(lines[:-4]))
    monkeypatch.setattr(follow, "GUARDIAN_SECONDS", 0.3)
    assert sum(event is not None for event in follow.follow_events(RunReader(str(tmp_path / "run")))) < everything


def test_equal_lines_of_several_hosts_are_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = History("gpu01", "gpu02", "gpu03").connect_hosts().start_hosts()
    for took, host in enumerate(run.hosts):
        run.add_output(host, f"NCCL version 2.28.3\nbatch took 0.{took + 1} s\n".encode())
    run.pass_time(1.0).add_output("gpu02", b"a line of its own\n")
    write_run(tmp_path / "runs" / "r1", run.end_hosts("gpu01", "gpu02", "gpu03"))

    def print_folded(fold: str) -> list[str]:
        return [re.sub(" +", " ", line) for line in print_logs(tmp_path / "runs", capsys, "--fold", fold)[0]]

    own = "gpu02 | a line of its own"
    assert print_folded("similar") == [
        "gpu[01-03] | NCCL version 2.28.3 ×3",
        "gpu[01-03] | batch took 0.1–0.3 s ×3",
        own,
    ]
    assert print_folded("exact") == [
        *("gpu[01-03] | NCCL version 2.28.3 ×3", "gpu01 | batch took 0.1 s", "gpu02 | batch took 0.2 s"),
        *("gpu03 | batch took 0.3 s", own),
    ]
    assert len(print_folded("off")) == 7
    assert (
        print_logs(tmp_path / "runs", capsys, "--fold", "similar", "-f")[0]
        == print_logs(tmp_path / "runs", capsys, "--fold", "similar")[0]
    )


def test_a_folded_line_has_no_time(ranks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "--log-dir", str(ranks), "--fold", "exact", "-T"]) == 2
    assert "--fold and -T exclude each other" in capsys.readouterr().err
