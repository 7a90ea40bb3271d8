"""Runs one failure after the other in one lab and compares the verdicts with what was done."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.verdicts.kinds import Kind, remove_limits

TASK = Path(__file__).with_name("task.py")
SCRIPT = """bad=0; [ "$NODE_RANK" = "$GUILTY_NODE" ] && bad=1
{kind}
torchrun --nnodes=$NNODES --nproc-per-node=$NPROC_PER_NODE --node-rank=$NODE_RANK \\
  --rdzv_endpoint=$MASTER_ADDR:$MASTER_PORT "$@" 2>&1 | tee "log.$(uname -n)"
"""
PATIENCE = 240.0
_SLOW = re.compile(r" (?:reports|takes|is the last) .*")
#: place -> (guilty rank, its node), in a run of two hosts with two ranks each and in one of four hosts
SMALL = {"first": (0, 0), "middle": (1, 0), "last": (3, 1)}
LARGE = {"first": (0, 0), "middle": (2, 2), "last": (3, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One injected failure and what was made of it. ``mark`` is right, among, undetermined, wrong or no-verdict."""

    kind: str
    place: str
    truth: str
    named: str
    rule: str
    signature: str
    confidence: str
    mark: str
    seconds: float
    sentence: str


def inject_fault(project: Project, kind: Kind, place: str) -> Result:
    """Bring it about, wait for the end of the run, read the verdict."""
    rank, node = (LARGE if kind.large else SMALL)[place]
    lab = project.lab
    host = lab.hosts[node]
    project.write_file("task.py", TASK.read_text(encoding="utf-8"))
    project.write_train_script(SCRIPT.format(kind=kind.script))
    count, slots = (4, 1) if kind.large else (2, 2)
    project.write_hostfile("".join(f"{each.name} slots={slots}\n" for each in lab.hosts[:count]))
    env = {"FAULT": kind.task, "GUILTY": str(rank), "GUILTY_NODE": str(node), **kind.env}
    flags = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
    began = time.monotonic()
    run = project.begin_training("--venv", sys.prefix, "--output", "plain", "--grace", "3", "--lease", "10", *flags)
    if kind.inject is not None:
        run.wait_for_output(r"step 3/", timeout=PATIENCE)
        kind.inject(lab, host)
    try:
        done = run.wait_for_end(PATIENCE)
        remove_limits()
    except AssertionError:  # it never ended: a result, because hours of other kinds follow
        return Result(
            kind=kind.name,
            place=place,
            truth=host.name,
            named="it never ended",
            rule="",
            signature="",
            confidence="no-verdict",
            mark="no-verdict",
            seconds=PATIENCE,
            sentence="",
        )
    if kind.slow:
        reported = json.loads(project.run_fanout("report", "--json").out)["slow"]
        return judge_pace(kind, place, rank, host.name, reported, done.err, time.monotonic() - began)
    return judge_verdict(kind, place, rank, host.name, project.list_records()[-1], time.monotonic() - began)


def judge_verdict(kind: Kind, place: str, rank: int, host: str, record: Path, seconds: float) -> Result:
    """Compare the verdict in the run's record with the truth."""
    truth = f"rank {rank} on {host}" if kind.of == "rank" else host if kind.of == "host" else "the network"
    try:
        verdict: Mapping[str, Any] = json.loads((record / "verdict.json").read_text())
    except FileNotFoundError:
        verdict = {"cause": None, "confidence": "no-verdict", "rule": "", "verdict": "no verdict", "also": []}
    causes = [each for each in (verdict["cause"], *verdict["also"]) if each is not None]
    fits = [_fits_truth(kind, cause, rank, host) for cause in causes]
    if not causes:
        mark = "undetermined" if verdict["confidence"] == "undetermined" else "no-verdict"
    elif len(causes) == 1:
        mark = "right" if fits[0] else "wrong"
    else:
        mark = "among" if any(fits) else "wrong"
    first = verdict["cause"] or {}
    named = "; ".join(_list_named(cause) for cause in causes) or "none"
    return Result(
        kind=kind.name,
        place=place,
        truth=truth,
        named=named,
        rule=verdict["rule"],
        mark=mark,
        signature=str(first.get("signature", "")),
        confidence=verdict["confidence"],
        seconds=seconds,
        sentence=verdict["verdict"],
    )


def judge_pace(
    kind: Kind, place: str, rank: int, host: str, reported: Sequence[str], printed: str, seconds: float
) -> Result:
    """Compare the report on slow ranks with the truth; it counts only if the run reported it too."""
    truth = f"rank {rank} on {host}" if kind.of == "rank" else host
    names = [name for name in (_SLOW.sub("", each) for each in reported) if f"fanout: slow: {name} " in printed]
    fits = [name in (truth, f"rank {rank} on {host}") for name in names]
    mark = "undetermined" if not names else "wrong" if not any(fits) else "right" if all(fits) else "among"
    return Result(
        kind=kind.name,
        place=place,
        truth=truth,
        named="; ".join(names) or "none",
        rule="pace",
        mark=mark,
        signature="",
        confidence="-",
        seconds=seconds,
        sentence="; ".join(reported),
    )


def _list_named(cause: Mapping[str, Any]) -> str:
    if cause["host"] is None:
        return str(cause["signature"])
    return f"rank {cause['rank']} on {cause['host']}" if cause["rank"] is not None else str(cause["host"])


def _fits_truth(kind: Kind, cause: Mapping[str, Any], rank: int, host: str) -> bool:
    """Return whether the verdict names the rank, or the host where it has one rank."""
    if kind.of == "network":
        return cause["host"] is None
    if kind.of == "host":
        return bool(cause["host"] == host)
    return bool(cause["host"] == host and cause["rank"] == rank)


@contextlib.contextmanager
def project_in(lab: Lab) -> Iterator[Project]:
    """Make a fresh project in a lab that was used before."""
    lab.reset_machines()
    with contextlib.closing(Project(lab)) as project:
        yield project
