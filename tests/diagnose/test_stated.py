"""Errors that a program prints in one line before it exits with its own status: they are the cause, and quoted."""

from __future__ import annotations

import pytest

from fanout.diagnose import verdict_text
from fanout.model.events import StreamOpened
from tests.diagnose.kit import Run, verdict

#: : Output of the usual command line parsers, with their exit status and the text that the verdict must quote.
FORMS = {
    "argparse": (["usage: ap.py [-h] [--lr LR]", "ap.py: error: argument --lr: invalid float value: 'abc'"], 2,
                 "argument --lr: invalid float value: 'abc'"),
    "fanout's own task": (["error (rank {rank}): command line: train.lr must be a number, not 'abc'"], 2,
                          "train.lr must be a number, not 'abc'"),
    "click": (["Usage: ap.py [OPTIONS]", "Try 'ap.py --help' for help.", "",
               "Error: Invalid value for '--lr': 'abc' is not a valid float."], 2, "'abc' is not a valid float"),
    "fire": (["ERROR: Could not consume arg: --lrr", "Usage: ap.py <flags>"], 2, "Could not consume arg: --lrr"),
    "absl": (["FATAL Flags parsing error: flag --lr=abc: could not convert string to float: 'abc'",
              "Pass --helpshort or --helpfull to see help on flags."], 1, "flag --lr=abc"),
    "hydra": (["Could not override 'optimizer.lrr'.", "Key 'lrr' is not in struct", "    full_key: optimizer.lrr", "",
               "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace."], 1, "'optimizer.lrr'"),
    "tyro": (["╭─ Parsing error ───────────────────╮", "│ Argument --lr: invalid choice: abc │",
              "╰────────────────────────────────────╯"], 2, "Parsing error"),
    "no program": (["/opt/venv/bin/python3: can't open file '/home/ann/proj/tran.py': [Errno 2] No such file or directory"],
                   2, "/home/ann/proj/tran.py"),
    "no main module": (["/opt/venv/bin/python3: No module named proj.tran"], 1, "proj.tran"),
}  # fmt: skip


def print_on_all_ranks(lines: list[str], code: int, *, split: bool) -> Run:
    """Let all four ranks print the same and end; torchrun kills one on each host before it exits itself."""
    run = Run()
    for rank in range(4):
        text = "".join(f"{line.format(rank=rank) if '{rank}' in line else line}\n" for line in lines).encode()
        if split:
            run.add_events(StreamOpened(at=run.at, host=run.host(rank), stream=1 + rank % 2, name=f"rank {rank} err"))
        run.add_output(run.host(rank), text, stream=1 + rank % 2 if split else 0)
    return run.torchrun("gpu01", (1, code), (0, -15)).torchrun("gpu02", (2, code), (3, code))


@pytest.mark.parametrize("split", [True, False], ids=["a stream a rank", "one stream"])
@pytest.mark.parametrize("name", FORMS)
def test_the_one_line_is_the_cause(name: str, split: bool) -> None:
    lines, code, quoted = FORMS[name]
    found = verdict(print_on_all_ranks(lines, code, split=split))
    assert found.cause is not None
    assert found.confidence == "high"
    assert quoted in found.cause.says
    assert found.cause.code == code
    if split:
        assert found.cause.ranks == (0, 1, 2, 3)
        assert any("all 4 ranks on gpu[01-02]" in line for line in verdict_text.render_lines(found))


def test_such_a_line_of_a_program_beside_the_task_is_no_cause() -> None:
    """train.sh runs a program that complains; later a rank fails with an error of its own."""
    run = Run()
    run.add_output("gpu01", b"nvidia-smi: error: unrecognized arguments: --foo\n")
    run.pass_time(30.0)
    run.raises(3, "ValueError: bad sample 7").victims(0, 1, 2)
    found = verdict(run.torchrun("gpu02", (3, 1), (2, -15)).torchrun("gpu01", (0, 1), (1, -15)))
    assert found.cause is not None
    assert (found.cause.rank, found.cause.signature) == (3, "python-exception")


def test_such_a_line_of_a_run_that_was_killed_is_no_cause() -> None:
    run = Run().out(2, "[rank2]: prog: error: could not read the cache, going on")
    run.victims(0, 1)
    found = verdict(run.torchrun("gpu02", (2, -9), (3, -15)).torchrun("gpu01", (0, 1), (1, -15)))
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank) == ("signal", 2)


@pytest.mark.parametrize("split", [True, False], ids=["a stream a rank", "one stream"])
def test_for_any_rule_the_last_lines_of_the_blamed_rank_are_quoted(split: bool) -> None:
    run = Run()
    if split:
        run.add_events(StreamOpened(at=run.at, host="gpu01", stream=2, name="rank 1 err"))
    mark = b"" if split else b"[rank1]: "
    run.add_output("gpu01", mark + b"licence server said no\n" + mark + b"giving up\n", stream=2 if split else 0)
    run.victims(0, 2, 3, peer="10.0.0.1")
    found = verdict(run.torchrun("gpu01", (1, 3), (0, -15)).torchrun("gpu02", (2, 1), (3, -15), after=1.0))
    assert found.cause is not None
    assert found.cause.quote[-2:] == ("licence server said no", "giving up")
    assert "    | giving up" in verdict_text.render_lines(found)


def test_a_syntax_error_is_quoted_with_its_file_and_line() -> None:
    run = Run()
    for rank in (2, 3):
        run.out(
            rank, '  File "/shared/proj/bad.py", line 2', "    def f(:", "          ^", "SyntaxError: invalid syntax"
        )
    found = verdict(run.torchrun("gpu02", (2, 1), (3, 1)))
    assert found.cause is not None
    assert found.cause.traceback[0] == '  File "/shared/proj/bad.py", line 2'
    assert found.cause.traceback[-1] == "SyntaxError: invalid syntax"
