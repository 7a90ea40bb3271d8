"""Benchmark of the phases of a start on four machines, from the times in the record of each run."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence

from bench.common import Table
from bench.stage import build_fanout, build_start, start_machines
from tests.lab.lab import Lab
from tests.lab.specs import USER

HOSTS = 4
#: Name of a phase -> the events of the record with which it ends on the last host.
PHASES = {
    "Python starts, modules are imported, inputs are read": ("connecting",),
    "login, agent sent and started": ("connected",),
    "check (with --skip-check: nothing)": ("answered", "connected"),
    "prepare": ("prepared",),
    "Go, train.sh starts": ("started",),
    "first line": ("chunk",),
    "end, hosts verified, connections closed": (),
}


def measure(repeat: int = 5) -> Table:
    """Measure the phases with and without the check."""
    samples: dict[str, list[list[float]]] = {"--skip-check": [], "with the check": []}
    with start_machines(HOSTS) as lab:
        for _ in range(repeat):
            samples["--skip-check"].append(_measure_run(lab, "--skip-check"))
            samples["with the check"].append(_measure_run(lab))
    medians = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in samples.items()
    }
    rows = [(phase, *(f"{medians[name][number]:.2f}" for name in samples)) for number, phase in enumerate(PHASES)]
    rows.append(("all", *(f"{sum(each):.2f}" for each in medians.values())))
    return Table(title=f"Phases of a start on {HOSTS} machines, s", columns=("", *samples), rows=tuple(rows))


def _measure_run(lab: Lab, *flags: str) -> list[float]:
    """Return the seconds of each phase of one run."""
    began = time.time()
    child = build_start(lab)(build_fanout("fanout", "run", *flags, "../hosts.txt", "task.py"))
    output = child.communicate(timeout=180)[0]
    ended = time.time()
    assert child.returncode == 0, output
    newest = f"cat $(ls -td /home/{USER}/.local/state/fanout/runs/*/ | head -1)events.jsonl"
    record = lab.launcher.run_program(["sh", "-c", newest], user=USER, check=True).stdout
    ends = _find_ends([json.loads(line) for line in record.splitlines()], ended)
    return [after - before for before, after in zip([began, *ends], ends, strict=False)]


def _find_ends(events: Sequence[dict[str, object]], ended: float) -> list[float]:
    """Return the time at which each phase ended: its last event. A phase without an event ends with the one before it."""
    last: dict[object, float] = {}
    for event in events:
        last[event.get("type")] = float(str(event.get("t", 0.0)))
    return [max((last[name] for name in names if name in last), default=ended) for names in PHASES.values()]
