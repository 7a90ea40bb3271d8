"""torchrun's own traceback in the views: one line, with the rank that failed first; every other traceback stays whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.logs.demux import LogLine
from fanout.logs.levels import LineClassifier
from fanout.logs.line_filters import DisplayFilters, LineFilter, parse_display_filters
from fanout.logs.torchrun_traceback import fold_torchrun_traceback
from fanout.model.settings import Settings

LOGS = Path(__file__).parents[1] / "diagnose" / "logs"
AGENT = """Traceback (most recent call last):
  File "/opt/venv/bin/torchrun", line 8, in <module>
    sys.exit(main())
  File "/opt/venv/lib/python3.11/site-packages/torch/distributed/launcher/api.py", line 383, in launch_agent
    result = agent.run()
"""


def show_lines(text: str) -> list[LogLine]:
    levels = LineClassifier()
    lines = [LogLine("gpu01", 0, "gpu01", "line", line) for line in text.split("\n")]
    return [fold_torchrun_traceback(each) for each in levels.classify_lines(lines, 0.0) + levels.take_rest()]


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        ("exception/gpu01.log", 38, "rank 0, exit code 1"),
        ("sigkill/gpu02.log", 38, "rank 2, SIGKILL"),
    ],
)
def test_torchruns_traceback_and_its_summary_are_one_line(name: str, lines: int, reason: str) -> None:
    text = (LOGS / name).read_text(encoding="utf-8")
    shown = [
        line
        for line in show_lines(text + "done\n")
        if "ChildFailedError" in line.text or line.text.startswith("torchrun")
    ]
    assert [line.text for line in shown] == [
        f"torchrun's own traceback: first failure: {reason} ({lines} lines, see fanout logs)"
    ]
    assert shown[0].level == "error"
    assert "done" in [line.text for line in show_lines(text + "done\n")]


def test_the_end_of_torchrun_by_a_signal_is_one_line() -> None:
    text = AGENT + "torch.distributed.elastic.multiprocessing.api.SignalException: Process 27 got signal: 15\n+ exit 1"
    assert [line.text for line in show_lines(text)] == [
        "torchrun's own traceback: SignalException Process 27 got signal: 15 (6 lines, see fanout logs)",
        "+ exit 1",
    ]


def test_another_exception_of_torchrun_stays_whole() -> None:
    text = AGENT + "torch.distributed.DistNetworkError: The server socket has failed to listen: EADDRINUSE"
    (line,) = show_lines(text)
    assert line.text == text


def test_the_traceback_of_the_program_in_the_summary_stays_whole() -> None:
    """A program with torchrun's record decorator has its traceback in the summary."""
    box = "=" * 60
    own = '  traceback : Traceback (most recent call last):\n    File "train.py", line 3, in main\n  ValueError: bad label'
    text = f"{AGENT}torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n{box}\ntrain.py FAILED\n{own}\n{box}"
    shown = [line.text for line in show_lines(text)]
    assert shown[0].startswith("torchrun's own traceback: ")
    assert shown[0].endswith("(8 lines, see fanout logs)")
    assert "ValueError: bad label" in "\n".join(shown[1:])


@pytest.mark.parametrize(("text", "shown"), [("loss scale 65536.0", True), ("step 5 loss 2.5", False)])
def test_only_a_loss_of_rank_0_ends_the_search_for_the_rank_that_prints_it(text: str, shown: bool) -> None:
    filters: DisplayFilters = parse_display_filters(Settings())
    line_filter = LineFilter(filters, {"a": (0, 4), "b": (1, 4)}, {"a": {"0"}, "b": {"7"}})
    line_filter.accept_line(LogLine("a", 1, "a:0", "line", text, 0, 0), 0.0)
    line_filter.accept_line(LogLine("b", 1, "b:7", "line", "step 1 loss 3.0", 0, 7), 1.0)
    assert line_filter.accept_line(LogLine("b", 1, "b:7", "line", "step 9 loss 2.0", 0, 7), 9.0) == shown
