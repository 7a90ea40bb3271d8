"""Colours of fanout's own text: what is painted, and that the text itself stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.cli.command_table import COMMANDS
from fanout.cli.main import main
from fanout.cli.parser import parse_arguments
from fanout.text.paint import Painter, paint_check_report, paint_run_table
from fanout.text.sanitize import strip_escapes
from tests.record.test_retention import make_runs

GOLDEN = Path(__file__).parents[1] / "checks" / "golden"


@pytest.mark.parametrize("name", ["mixed", "mixed-ascii", "healthy", "port-taken"])
def test_a_painted_report_of_a_check_has_the_same_text(name: str) -> None:
    lines = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    painted = paint_check_report(lines, Painter(True))
    assert list(map(strip_escapes, painted)) == lines
    assert paint_check_report(lines, Painter(False)) == lines


def test_symbols_and_headings_of_a_check_have_the_colour_of_their_level() -> None:
    lines = ["✗  gpu03  –", "ok gpu04", "FAILED", "  ! gpu02  driver", "        try:  ssh gpu01", "SAME ON gpu[01-02]",
             "an ok line", "1 host failed."]  # fmt: skip
    assert paint_check_report(lines, Painter(True)) == [
        "\x1b[31m✗\x1b[0m  gpu03  –",
        "\x1b[32mok\x1b[0m gpu04",
        "\x1b[1;31mFAILED\x1b[0m",
        "  \x1b[33m!\x1b[0m gpu02  driver",
        "        try:  \x1b[1mssh gpu01\x1b[0m",
        "\x1b[1mSAME ON\x1b[0m gpu[01-02]",
        "an ok line",
        "\x1b[1;31m1 host failed.\x1b[0m",
    ]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        *((state, 32) for state in ("running", "running, attempt 1", "succeeded", "ended (exit 0)")),
        *((state, 31) for state in ("failed (137)", "ended (exit 1)", "hung", "died")),
        *((state, 33) for state in ("stopped", "stopping", "launcher lost", "not launched")),
    ],
)
def test_the_state_of_a_run_has_a_colour_and_its_name_has_none(state: str, code: int) -> None:
    head, row = paint_run_table(["RUN   NAME     STATE", f"7f3a  running  {state}  x"], Painter(True))
    assert (head, strip_escapes(row)) == ("\x1b[1mRUN   NAME     STATE\x1b[0m", f"7f3a  running  {state}  x")
    assert row.startswith(f"7f3a  running  \x1b[{code}m{state[:4]}")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])  # a shell reads its output
def test_every_command_has_the_flag_for_colours(name: str) -> None:
    words = {
        "run": ["h1", "t.py"],
        "exec": ["h1", "--", "true"],
        "why": ["x.log"],
        "top": ["h1"],
        "sync": ["h1"],
        "export": ["slurm", "h1", "t.py"],
    }.get(name, [])
    assert parse_arguments([name, "--color", "never", *words]).flags["color"] == "never"


@pytest.mark.parametrize(
    ("flag", "variables", "coloured"),
    [
        ("auto", {}, False), ("always", {}, True), ("always", {"NO_COLOR": "1"}, True), ("never", {"FORCE_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": "1"}, True), ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [["ps", "-a"], ["logs"], ["report"]])
def test_colour_follows_the_flag_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    command: list[str], flag: str, variables: dict[str, str], coloured: bool,
) -> None:  # fmt: skip
    make_runs(tmp_path, 1)
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main([*command, "--color", flag, "--log-dir", str(tmp_path)]) == 0
    assert ("\x1b[" in capsys.readouterr().out) is coloured
