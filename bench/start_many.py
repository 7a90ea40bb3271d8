"""Benchmark of a run on 64 hosts, from the command to the last host's first line, beside pdsh with the plain script."""

from __future__ import annotations

from bench.common import Table, interleaved, table
from bench.stage import PROJECT, fanout, machines, many, on, peer

HOSTS = 64


def measure(repeat: int = 3) -> Table:
    with machines([many(HOSTS)]) as lab:
        script = f"cd {PROJECT} && bash train.sh"
        contenders = [
            fanout("fanout run --skip-check", "run", "--skip-check", "../hosts.txt", "task.py"),
            peer("pdsh, the plain script", "pdsh", "-R", "ssh", "-f", str(HOSTS), "-w", ",".join(lab.names), script),
        ]
        results = interleaved(contenders, on(lab), lines=HOSTS, repeat=repeat)
    title = f"A train.sh that only prints, on {HOSTS} hosts behind one sshd"
    return table(title, results, base="fanout run --skip-check")
