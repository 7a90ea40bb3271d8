"""Screen of the check, whole: what a user sees, kept as files in golden/ (FANOUT_GOLDEN=write renews them)."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanout.checks.engine import explanations
from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.cause_folding import fold_consequences
from fanout.checks.engine.check_json import build_check_record
from fanout.checks.engine.check_report import MOST_ROWS, ReportStyle, merge_findings, merge_rows, render_check_report
from fanout.checks.engine.definition import CheckContext, CheckFinding
from fanout.checks.engine.evaluation import judge_all_checks
from fanout.checks.engine.host_table import build_rows
from fanout.model.errors import UsageError
from fanout.text import wrap
from tests.checks.changes import (
    Fault,
    build_process,
    lose_host,
    set_dial,
    set_fact,
    set_mesh,
    silence_host,
    take_port,
)
from tests.checks.faults import FAULTS
from tests.checks.kit import build_healthy_case, build_hosts, build_missing_file, change_fact
from tests.ui.goldens import Terminal, same_as_golden

GOLDEN = Path(__file__).parent / "golden"
WIDE, NARROW, OLD, PIPE = ReportStyle(), ReportStyle(width=80), ReportStyle(ascii=True), ReportStyle(width=None)


def break_four_hosts(case: CheckContext) -> CheckContext:
    """Return an unreachable host, one with another driver, a busy GPU and a clock that is off."""
    case = lose_host(case)
    trouble = case.request.unreached["gpu03"]
    case = replace(case, request=replace(case.request, unreached={"gpu03": trouble}))
    case = change_fact(case, "gpu02", "gpu/driver", "535.183.01")
    case = change_fact(case, "gpu02", "gpu/module", "535.183.01")
    case = change_fact(case, "gpu02", "gpu/processes", [build_process(age=2.7e5, gpu="GPU-5-of-gpu02")])
    return replace(case, offsets={**case.offsets, "gpu02": (0.912, 0.001)})


def break_forty_hosts(case: CheckContext) -> CheckContext:
    """Return forty hosts: four without torchrun, one loaded, one with an old torch."""
    case = build_healthy_case(40)
    case = change_fact(case, "gpu07", "software/torch/version", "2.8.0")
    case = change_fact(case, "gpu09", "cpu/load", 900.0)
    for number in range(11, 15):
        case = change_fact(case, f"gpu{number}", "rehearsal/calls/0/real", "")
    return case


def drop_slots(case: CheckContext) -> CheckContext:
    return build_healthy_case(2, gpu=False, hosts=build_hosts(2))


SCREENS: list[tuple[str, Callable[[CheckContext], CheckContext], ReportStyle]] = [
    ("healthy", lambda case: case, WIDE),
    ("healthy-cpu", lambda case: build_healthy_case(2, gpu=False), WIDE),
    ("one-host", lambda case: build_healthy_case(1), NARROW),
    ("mixed", break_four_hosts, WIDE),
    ("mixed-ascii", break_four_hosts, OLD),
    ("silent", silence_host, WIDE),
    ("forty-hosts", break_forty_hosts, WIDE),
    ("port-taken", take_port, WIDE),
    ("port-dropped", set_dial("dropped", seconds=3.0), NARROW),
    ("mesh-inward", set_mesh("rejected", lambda start, end: end == "gpu02"), WIDE),
    ("no-slots", drop_slots, WIDE),
]


@pytest.mark.parametrize(("name", "change", "style"), SCREENS, ids=[name for name, _, _ in SCREENS])
def test_the_screen_equals_the_recorded_one(
    name: str, change: Callable[[CheckContext], CheckContext], style: ReportStyle
) -> None:
    """A change here is a change that users see."""
    case = change(build_healthy_case())
    lines = render_check_report("fanout check hosts.txt", case, judge_all_checks(CATALOGUE, case), 2.3, style)
    text = "\n".join(lines) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("FANOUT_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 30), (140, 40)])
@pytest.mark.parametrize(("name", "change"), [("good", lambda case: case), ("failing", break_four_hosts)])
def test_the_last_screen_of_a_check(
    name: str, change: Callable[[CheckContext], CheckContext], columns: int, rows: int
) -> None:
    """The failures and what to type are on the screen, however low it is."""
    case, terminal = change(build_healthy_case()), Terminal(columns, rows)
    style, findings = ReportStyle(width=columns), judge_all_checks(CATALOGUE, case)
    command = "fanout run hosts.txt train.py cfg.yaml"
    lines = render_check_report("fanout check hosts.txt", case, findings, 2.3, style, command)
    terminal.feed_text("\n".join(lines) + "\n")
    screen = "\n".join(line.rstrip() for line in terminal.screen.display).rstrip() + "\n"
    same_as_golden(f"end-{name}-{columns}x{rows}", screen, GOLDEN)


def test_failures_are_last_and_equal_facts_are_hidden_after_a_failure() -> None:
    case = break_four_hosts(build_healthy_case())
    findings = judge_all_checks(CATALOGUE, case)
    headings = [line for line in render_check_report("check", case, findings, 2.3, WIDE) if line.isupper()]
    assert headings == ["WARNINGS", "FAILED"]
    shown = render_check_report("check", case, findings, 2.3, ReportStyle(verbose=True))
    order = [shown.index(line) for line in ("SAME ON gpu[01-02,04]", "NOT CHECKED", "WARNINGS", "FAILED")]
    assert order == sorted(order)
    assert any("-v shows" in line for line in render_check_report("check", case, findings, 2.3, WIDE))
    healthy = build_healthy_case()
    lines = render_check_report("check", healthy, judge_all_checks(CATALOGUE, healthy), 2.3, WIDE)
    assert any(line.startswith("SAME ON") for line in lines)


def mount_other_directory(case: CheckContext) -> CheckContext:
    """Return gpu03 with another directory of the file server at the work directory: none of the run's files is there."""
    mount = {"type": "nfs4", "source": "nas:/old", "point": "/home/ann/proj", "options": "rw", "of": "rw,hard"}
    for what, name in (("script", "train.sh"), ("task", "task.py"), ("config", "cfg.yaml")):
        case = set_fact(f"files/{what}", build_missing_file(f"/home/ann/proj/{name}"))(case)
    return set_fact("files/workdir/mount", mount)(case)


def mount_nothing(case: CheckContext) -> CheckContext:
    """Return gpu03 with an empty work directory."""
    return next(fault for fault in FAULTS if (fault.check, fault.label) == ("workdir", "empty")).change(case)


@pytest.mark.parametrize(("change", "saw"), [(mount_nothing, "is empty"), (mount_other_directory, "has other files")])
def test_a_wrong_mount_at_the_work_directory_is_one_failure(
    change: Callable[[CheckContext], CheckContext], saw: str
) -> None:
    case = change(build_healthy_case())
    case = set_fact("software/absent", ["llada2"])(
        replace(case, request=replace(case.request, own={"llada2": "llada2"}))
    )
    found = fold_consequences(judge_all_checks(CATALOGUE, case))
    (failure,) = (finding for finding in found if finding.level == "fail")
    assert (failure.check, failure.hosts) == ("workdir", ("gpu03",))
    assert saw in failure.saw
    assert "findmnt -T /home/ann/proj" in failure.advice
    assert [finding.check for finding in found if finding.level == "warn"] == []
    assert not any("pip" in finding.advice for finding in found)


def test_one_finding_of_several_hosts_is_one_row_although_their_logins_differ() -> None:
    findings = [
        CheckFinding(
            check="reached",
            group="ssh",
            level="fail",
            hosts=(name,),
            saw=f"ann@10.0.0.{at}:22  Permission denied",
            advice=f"try:  ssh-copy-id ann@10.0.0.{at}",
        )
        for at, name in enumerate(("gpu03", "gpu04"), 3)
    ]
    killed = [
        replace(findings[0], saw="port 1 is held", advice=f"stop it:  ssh -p 22 gpu03 kill {pid}") for pid in (1, 2)
    ]
    (merged,) = merge_findings(findings)
    assert merged.hosts == ("gpu03", "gpu04")
    assert merged.advice.endswith("(likewise on the others)")
    assert len(merge_findings(killed)) == 2


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_every_failure_and_warning_has_a_next_step_on_the_screen(fault: Fault) -> None:
    """Each finding has an advice (another kind of processor is the one exception, because there is no cure)."""
    case = fault.change(build_healthy_case())
    for finding in judge_all_checks(CATALOGUE, case):
        if finding.level in ("fail", "warn"):
            assert finding.advice or finding.check == "kernel"


@pytest.mark.parametrize("style", [WIDE, NARROW, OLD])
@pytest.mark.parametrize("count", [1, 4, 24, 40, 512])
def test_the_table_fits_the_terminal(style: ReportStyle, count: int) -> None:
    """No line of the table is wider than the terminal, and it has at most 24 rows."""
    case = build_healthy_case(count)
    lines = render_check_report("fanout check hosts.txt", case, judge_all_checks(CATALOGUE, case), 2.3, style)
    table = lines[2 : lines.index("", 2)]
    assert style.width is not None
    assert max(map(len, table)) <= style.width
    assert len(table) <= MOST_ROWS + 2


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_no_line_exceeds_80_columns_and_no_command_is_broken(fault: Fault) -> None:
    """A line is longer only if one word is. A command stays in one piece, or continues after a backslash."""
    case = fault.change(build_healthy_case())
    findings = judge_all_checks(CATALOGUE, case)
    lines = render_check_report("fanout check hosts.txt", case, findings, 2.3, NARROW)
    assert all(len(line) <= 80 or len(line.split()[-1]) > 50 for line in lines), max(lines, key=len)
    screen = re.sub(r" \\\n +", " ", "\n".join(lines))
    for finding in findings:
        if finding.level in ("fail", "warn"):
            for piece in re.split(r" {2,}", finding.advice):
                assert piece in screen or not piece.startswith(("ssh", "sudo", "scp", "tar", "-"))


def test_output_to_a_pipe_is_not_wrapped() -> None:
    """The observation and the advice have one line each, and the table has all columns: for grep and for files."""
    case = set_dial("dropped", seconds=3.0)(build_healthy_case())
    findings = judge_all_checks(CATALOGUE, case)
    lines = [line.strip() for line in render_check_report("fanout check hosts.txt", case, findings, 2.3, PIPE)]
    bad = next(finding for finding in findings if finding.level == "fail")
    assert bad.advice in lines
    assert any(line.endswith(bad.saw) for line in lines)


def test_a_long_command_continues_as_a_shell_accepts_it() -> None:
    """It never breaks inside quotes, and the shell reads the same arguments."""
    command = "ssh h1 tar -C /home/ann/proj -c . | ssh h3 'mkdir -p /home/ann/proj && tar -C /home/ann/proj -x'"
    lines = wrap.wrap_text(f"copy it there:  {command}   or name another", "", "    ", 60, typed=True)
    assert max(map(len, lines)) <= 60
    typed = "\n".join(lines).partition("copy it there:")[2].partition("   or name")[0]
    assert shlex.split(typed.replace("\\\n", "")) == shlex.split(command)


def test_a_set_of_many_hosts_is_broken_after_commas() -> None:
    """In a file of 200 hosts the odd ones have lines of their own, and no line is too long."""
    case = build_healthy_case(200)
    for number in range(1, 200, 3):
        found: Any = case.facts[f"gpu{number:02}"]["programs"]
        found["found"]["bash"] = ""
    lines = render_check_report("fanout check hosts.txt", case, judge_all_checks(CATALOGUE, case), 2.3, NARROW)
    assert max(map(len, lines)) <= 80


def test_an_ascii_terminal_gets_only_ascii() -> None:
    """A terminal without UTF-8 gets no other character."""
    case = break_four_hosts(build_healthy_case())
    assert all(
        line.isascii()
        for line in render_check_report("fanout check h", case, judge_all_checks(CATALOGUE, case), 1.0, OLD)
    )


def test_folding_loses_no_host() -> None:
    """Every host of the file is in exactly one row, and the bad rows come first."""
    case = break_forty_hosts(build_healthy_case())
    rows = merge_rows(build_rows(case, judge_all_checks(CATALOGUE, case)))
    names = [host for row in rows for host in row.hosts]
    assert sorted(names) == [host.name for host in case.request.hosts]
    assert [row.level for row in rows] == ["fail", "fail", "warn", "ok"]


def test_the_record_is_json_with_every_host_and_finding() -> None:
    """`--json` can be parsed, and contains the level, the facts and the connections between hosts."""
    case = break_four_hosts(build_healthy_case())
    findings = judge_all_checks(CATALOGUE, case)
    again = json.loads(json.dumps(build_check_record(case, findings, 2.3)))
    assert [(row["host"], row["level"]) for row in again["hosts"]] == [
        ("gpu01", "ok"), ("gpu02", "warn"), ("gpu03", "fail"), ("gpu04", "ok"),
    ]  # fmt: skip
    assert len(again["findings"]) == len(findings)
    assert again["unreached"]["gpu03"]["hint"] == "try:  ssh-copy-id ann@10.0.0.3"
    assert {(row["from"], row["to"]) for row in again["master"]["dials"]} == {
        ("gpu02", "10.0.0.1"),
        ("gpu04", "10.0.0.1"),
    }


# -- the catalogue as text


def test_the_manual_is_current() -> None:
    """docs/checks.md is generated from the catalogue (FANOUT_GOLDEN=write renews it)."""
    manual = Path(__file__).parents[2] / "docs" / "checks.md"
    if os.environ.get("FANOUT_GOLDEN") == "write":
        manual.write_text(explanations.render_manual(CATALOGUE), encoding="utf-8")
    assert manual.read_text(encoding="utf-8") == explanations.render_manual(CATALOGUE)


def test_every_check_has_its_explanation() -> None:
    """Names are unique and differ from those of the groups; verifies, why and fix are whole sentences."""
    names = [check.name for check in CATALOGUE]
    assert len(names) == len(set(names))
    for check in CATALOGUE:
        assert all(text.endswith((".", ")")) for text in (check.verifies, check.why, check.fix)), check.name
        assert check.name in "\n".join(explanations.render_check_list(CATALOGUE))


def test_explain_prints_the_three_parts() -> None:
    """The parts are what it verifies, why, and the fix."""
    lines = explanations.render_check(explanations.find_check(CATALOGUE, "master-addr"))
    assert lines[0] == "master-addr   (network, at worst: fail)"
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == ["verifies", "why", "fix"]


def test_an_unknown_name_gets_the_nearest_as_a_hint() -> None:
    """It is a typing error of the user, which is easy to fix."""
    with pytest.raises(UsageError) as caught:
        explanations.validate_check_names(CATALOGUE, ["master-adr"])
    assert str(caught.value) == "no check is called 'master-adr'"
    assert caught.value.hint.startswith("did you mean master-addr")
    assert explanations.validate_check_names(CATALOGUE, ["ssh", "clock"]) == {"ssh", "clock"}
