"""Checks of the endurance run: the table of attempts against the faults, the logs against those of the ranks, the marks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.endurance_faults import EnduranceFault
from tests.lab.restart_play import find_problems

SAVE_STEPS = 20  # between two checkpoints
LATE_SECONDS = 2.0  # a line may be this young when its host is lost
THAW_SECONDS = 2.0  # a rank of a frozen host may write this long after the thaw, until its agent ends it
_OWN = re.compile(r"(\d+)\.(\d+)\.(\w+)")
_BEAT = re.compile(rb"^beat \d+ of rank \d+ at ([\d.]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A fault that struck ``host`` in ``attempt``. Times are seconds of the clock that all machines share."""

    fault: EnduranceFault
    host: str
    attempt: int
    step: int
    at: float
    undone_at: float
    roster: tuple[str, ...]  # of the attempt, by node rank

    @property
    def text(self) -> str:
        return f"{self.fault.name:28} {self.host} attempt {self.attempt:2} step {self.step:3}"

    @property
    def loses_output(self) -> bool:
        """Return whether the host took its last lines with it."""
        return self.fault.expected == "replaced" or self.fault.name == "reboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the printed table."""

    struck: Struck
    observed: str
    is_right: bool

    def format_row(self) -> str:
        mark = "ok  " if self.is_right else "FAIL"
        return f"{mark} {self.struck.text} | {self.struck.fault.expected:10} | {self.observed}"


def read_attempts(record: Path) -> list[dict[str, Any]]:
    """Return the lines of attempts.jsonl."""
    return [json.loads(line) for line in (record / "attempts.jsonl").read_text().splitlines()]


def compare_attempts(attempts: list[dict[str, Any]], struck: list[Struck]) -> list[Row]:
    """Return one row per fault. An attempt that no fault ended, but the last one, is a difference of the last row."""
    rows = [_compare_fault(attempts, each) for each in struck]
    ended = {each.attempt for each in struck if each.fault.expected != "continues"}
    ended |= {each.attempt + 1 for each in struck if each.fault.expected == "other port"}
    surplus = sorted({each["attempt"] for each in attempts[:-1]} - ended)
    if surplus:
        text = f"; no fault ended attempts {surplus}"
        rows[-1] = Row(struck=rows[-1].struck, observed=rows[-1].observed + text, is_right=False)
    return rows


def _compare_fault(attempts: list[dict[str, Any]], struck: Struck) -> Row:
    fault, attempt = struck.fault, attempts[struck.attempt]
    step, following = attempt["next"], attempts[struck.attempt + 1 : struck.attempt + 3]
    if fault.expected == "continues":
        is_right = attempt["steps"][1] > struck.step
        return Row(struck=struck, observed=f"attempt {struck.attempt} to step {attempt['steps'][1]}", is_right=is_right)
    roster = list(struck.roster)
    hosts = step.get("hosts", [])
    is_right = (
        step["action"] == "restart" and step["class"] in fault.classes and tuple(attempt["hosts"]) == struck.roster
    )
    if fault.expected == "replaced":
        place = roster.index(struck.host)
        others = roster[:place] + roster[place + 1 :], hosts[:place] + hosts[place + 1 :]
        is_right = is_right and others[0] == others[1] and struck.host not in hosts and attempt["lost"] == [struck.host]
    else:
        is_right = is_right and hosts == roster and not attempt["lost"]
    if fault.expected == "other port":
        is_right = is_right and following[0]["next"]["class"] == "port-taken" and following[0]["steps"] is None
        following = following[1:]
    begins = following[0]["steps"][0]
    is_right = is_right and begins in list_resume_steps(attempt["steps"][1])
    return Row(
        struck=struck, observed=f"{step['class']}, next on {' '.join(hosts)} from step {begins}", is_right=is_right
    )


def list_resume_steps(last: int) -> list[int]:
    """Return the steps from which the task may continue. It reports step 20, and only then saves it: a fault may be between."""
    return [last - last % SAVE_STEPS + 1, *([last - SAVE_STEPS + 1] if last % SAVE_STEPS == 0 else [])]


def find_overlaps(marks: Path, struck: list[Struck]) -> list[str]:
    """Return the ranks that started twice and the attempts that overlapped."""
    thaws = {(str(each.attempt), each.host): each.undone_at for each in struck if each.fault.name.startswith("frozen")}
    kept = []
    for row in (line.split() for line in marks.read_text().splitlines()):
        thawed = thaws.get((row[1], row[3]))
        if thawed is None or not thawed - THAW_SECONDS <= float(row[4]) <= thawed + THAW_SECONDS:
            kept.append(row)
    return find_problems(kept)


def compare_logs(record: Path, own: Path, struck: list[Struck]) -> tuple[str, list[str]]:
    """Compare what each rank wrote with the record; return a summary, and what is missing."""
    lost = {(each.attempt, each.host): each for each in struck if each.loses_output}
    wrong, total, prefixes = [], 0, 0
    for path in sorted(own.iterdir()):
        match = _OWN.fullmatch(path.name)
        assert match is not None, path
        number, host = int(match[1]), match[3]
        directory = record / f"attempt-{number}" if number else record
        file = directory / "logs" / f"{host}.rank-{match[2]}.log"
        wrote, has = path.read_bytes(), file.read_bytes() if file.exists() else b""
        total += len(wrote)
        shared = min(len(wrote), len(has))
        if wrote[:shared] != has[:shared]:
            wrong.append(f"{file}: differs from what the rank wrote")
        elif (number, host) in lost:
            prefixes += 1
            wrong += _check_prefix(file, has, lost[number, host].at)
        elif len(has) < len(wrote) or has.count(b"\n") > wrote.count(b"\n") + 1:
            wrong.append(f"{file}: has {len(has)} of {len(wrote)} bytes")
    return f"{total} bytes of {len(list(own.iterdir()))} logs, {prefixes} of lost hosts up to the fault", wrong


def _check_prefix(file: Path, has: bytes, at: float) -> list[str]:
    """Return an error if the record of a lost host ends too early."""
    beats = _BEAT.findall(has)
    if not beats or float(beats[-1]) < at - LATE_SECONDS:
        return [f"{file}: the last line is {at - float(beats[-1]) if beats else 0.0:.1f} s older than the fault"]
    return []
