"""Benchmark of a restart: from the failure to the first step of the next attempt, by phase, beside other launchers.

A rank is killed, or its host is powered off. The clock is that of the machine, which all namespaces share. The phases of
fanout are the times of its own messages. The host that fails is not the one that torchrun and NVRx meet at.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import Table
from bench.installed import create_environment
from bench.restart_launchers import PROJECT, TASK, Output, RestartLauncher, install_nvrx, list_launchers
from tests.lab import ns
from tests.lab.drive import list_processes
from tests.lab.lab import Lab
from tests.lab.specs import USER, Bind

VICTIM = "h3"
LIMIT_SECONDS = 180.0
STEPS = 40  # before the failure; 20 a second
TRAIN_SH = (
    "exec torchrun --nnodes=$NNODES --nproc-per-node=1 --node-rank=$NODE_RANK"
    ' --rdzv_endpoint=$MASTER_ADDR:$MASTER_PORT "$@"\n'
)
#: The message that ends each phase, in order. A phase without its message takes no time.
PHASES = (
    ("detect", r"train\.sh ended|link lost"),
    ("fence", r": lost: no connection"),
    ("last words", r"stopping all hosts"),
    ("end", r"attempt 0 failed"),
    ("backoff", r"fanout: run .*\.1 "),
    ("connect", r"connected \d+/\d+"),
    ("check", r"launching \d+ ranks"),
    ("start", r"started \d+/\d+"),
)
OWN = ("last words", "end", "connect", "check", "start")  # without detection, fence and backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartTimes:
    """Seconds of one restart: in all, and by phase (fanout only)."""

    total: float
    phases: dict[str, float]

    @property
    def own(self) -> float:
        return sum(self.phases.get(name, 0.0) for name in OWN)


def measure(repeat: int = 5) -> Table:
    """Measure all launchers in turn, for a killed rank and for a host without power."""
    with tempfile.TemporaryDirectory(prefix="fanout-nvrx-") as name:
        nvrx = Path(name) / "venv"
        os.chmod(name, 0o755)  # the users of the lab's machines run it
        launchers = list_launchers(nvrx, install_nvrx(nvrx))
        results: dict[tuple[bool, str], list[RestartTimes] | str] = {}
        binds = [Bind(source=name), Bind(source=str(create_environment()))]
        with Lab(5, shared=f"/home/{USER}/shared", binds=binds) as lab:
            for _ in range(repeat):
                for is_lost in (False, True):
                    for launcher in launchers:
                        _add_sample(results, lab, launcher, is_lost)
    return build_restart_table(results, repeat)


def _add_sample(
    results: dict[tuple[bool, str], list[RestartTimes] | str], lab: Lab, launcher: RestartLauncher, is_lost: bool
) -> None:
    samples = results.setdefault((is_lost, launcher.name), launcher.absent or [])
    if isinstance(samples, str):
        return
    try:
        samples.append(measure_restart(lab, launcher, is_lost))
        seen = f"{samples[-1].total:.1f} s"
    except (TimeoutError, subprocess.TimeoutExpired, ns.LabError) as error:
        results[is_lost, launcher.name] = seen = str(error)
    print(f"{describe_fault(is_lost)}: {launcher.name}: {seen}", file=sys.stderr, flush=True)


def describe_fault(is_lost: bool) -> str:
    return "host without power" if is_lost else "rank killed"


def measure_restart(lab: Lab, launcher: RestartLauncher, is_lost: bool) -> RestartTimes:
    """Start the run, let it fail, and measure until the next attempt trains. Raises TimeoutError if it does not."""
    lab.reset_machines()
    task = (Path(__file__).with_name(TASK)).read_text(encoding="utf-8")
    for name, text in ((TASK, task), ("train.sh", TRAIN_SH), ("marks", "")):
        lab.launcher.write_file(f"{PROJECT}/{name}", text, user=USER)
    marks = lab.launcher.get_path(f"{PROJECT}/marks")
    outputs = launcher.start(lab)
    started = list(outputs)
    try:
        _wait_for_mark(marks, lambda row: int(row[3]) >= STEPS, f"{STEPS} steps", outputs)
        if launcher.add_spare is not None:
            started.append(launcher.add_spare(lab))
            more = int(_read_marks(marks)[-1][3]) + STEPS
            _wait_for_mark(marks, lambda row: int(row[3]) >= more, "steps beside the spare host", started)
        before = {row[1] for row in _read_marks(marks)}
        at = _fail(lab, is_lost)
        if launcher.after is not None:
            started += launcher.after(lab, outputs, is_lost)
        first = _wait_for_mark(marks, lambda row: row[1] not in before, "a step after the failure", started)
        return RestartTimes(total=first - at, phases=split_phases(started[0].lines, at, first))
    finally:
        for output in started:
            output.close()


def _fail(lab: Lab, is_lost: bool) -> float:
    """Kill the rank of the victim, or switch the host off; return the time."""
    host = lab[VICTIM]
    ranks = [one for one in list_processes(host, TASK) if "python" in one.argv[0] and "run" not in one.argv[1]]
    ranks = [one for one in ranks if not any(word.endswith(("torchrun", "ft_launcher")) for word in one.argv)]
    if not ranks:
        raise ns.LabError(f"{VICTIM} has no rank")
    at = time.monotonic()
    if is_lost:
        host.power_off()
    else:
        os.kill(ranks[0].pid, signal.SIGKILL)
    return at


def _read_marks(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _wait_for_mark(path: Path, is_wanted: Callable[[list[str]], bool], what: str, outputs: Sequence[Output]) -> float:
    found: list[float] = []

    def has_mark() -> bool:
        found[:] = [float(row[0]) for row in _read_marks(path) if is_wanted(row)][:1]
        return bool(found)

    try:
        ns.wait_until(has_mark, LIMIT_SECONDS, what)
    except ns.LabError:
        last = [line for output in outputs for _, line in output.lines[-2:]]
        raise TimeoutError(f"no {what} within {LIMIT_SECONDS:g} s; last lines: {last}"[:500]) from None
    return found[0]


def split_phases(printed: Sequence[tuple[float, str]], failed: float, first_step: float) -> dict[str, float]:
    """Return the seconds of each phase from the messages of fanout; {} for another launcher."""
    lines = [(at, line) for at, line in list(printed) if at >= failed]
    phases: dict[str, float] = {}
    begin = failed
    for name, pattern in PHASES:
        found = next((at for at, line in lines if at >= begin and re.search(pattern, line)), None)
        if found is not None:
            phases[name], begin = found - begin, found
    if "start" not in phases:
        return {}
    return {**phases, "first step": first_step - begin}


def build_restart_table(results: dict[tuple[bool, str], list[RestartTimes] | str], repeat: int) -> Table:
    names = (*(name for name, _ in PHASES), "first step")
    rows, notes = [], []
    for (is_lost, name), samples in results.items():
        fault = describe_fault(is_lost)
        base = results[is_lost, "fanout --max-restarts 3"]
        if isinstance(samples, str):
            notes.append(f"Left out: {name}, {fault}: {samples}")
            continue
        total = statistics.median(each.total for each in samples)
        ratio = "" if isinstance(base, str) else f"{total / statistics.median(each.total for each in base):.2g}"
        cells = [f"{total:.1f} ({min(each.total for each in samples):.1f})", ratio]
        if all(each.phases for each in samples):
            cells += [f"{statistics.median(each.phases.get(phase, 0.0) for each in samples):.1f}" for phase in names]
            cells.append(f"{statistics.median(each.own for each in samples):.1f}")
        else:
            cells += ["–"] * (len(names) + 1)
        rows.append((f"{fault}: {name}", *cells))
    method = f"Seconds: median (minimum) of {repeat} runs in turn; × is the median over that of fanout with --max-restarts 3."
    own = "fanout's own share: last words + end + connect + check + start. Lease 15 s, grace 5 s; the time-out of gloo is 30 s."
    title = "From the failure to the first step of the next attempt, on 4 machines"
    columns = ("", "total, s", "×", *names, "own share")
    return Table(title=title, columns=columns, rows=tuple(sorted(rows, reverse=True)), notes=(method, own, *notes))
