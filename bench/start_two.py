"""Benchmark of the start of a run on two machines: the time that fanout adds to plain ssh, with and without the check."""

from __future__ import annotations

from bench.common import Table, interleaved, table
from bench.stage import PROJECT, fanout, machines, on, peer


def measure(repeat: int = 5) -> Table:
    with machines(2) as lab:
        logins = " & ".join(f"ssh {name} 'cd {PROJECT} && bash train.sh'" for name in lab.names)
        contenders = [
            peer("plain ssh to both at once", "sh", "-c", f"{logins} & wait"),
            fanout("fanout run", "run", "../hosts.txt", "task.py"),
            fanout("fanout run --skip-check", "run", "--skip-check", "../hosts.txt", "task.py"),
        ]
        results = interleaved(contenders, on(lab), lines=2, repeat=repeat)
    return table("A train.sh that only prints, on 2 machines", results, base="plain ssh to both at once")
