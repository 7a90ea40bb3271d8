"""Benchmark of the start of a run on two machines: the time that fanout adds to plain ssh, with and without the check."""

from __future__ import annotations

from bench.common import Table, build_table, run_interleaved
from bench.stage import PROJECT, build_fanout, build_peer, build_start, start_machines


def measure(repeat: int = 5) -> Table:
    with start_machines(2) as lab:
        logins = " & ".join(f"ssh {name} 'cd {PROJECT} && bash train.sh'" for name in lab.names)
        contenders = [
            build_peer("plain ssh to both at once", "sh", "-c", f"{logins} & wait"),
            build_fanout("fanout run", "run", "../hosts.txt", "task.py"),
            build_fanout("fanout run --skip-check", "run", "--skip-check", "../hosts.txt", "task.py"),
        ]
        results = run_interleaved(contenders, build_start(lab), lines=2, repeat=repeat)
    return build_table("A train.sh that only prints, on 2 machines", results, base="plain ssh to both at once")
