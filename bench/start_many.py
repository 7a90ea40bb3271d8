"""Benchmark of a run on 64 hosts, from the command to the last host's first line, beside pdsh with the plain script."""

from __future__ import annotations

from bench.common import Table, build_table, run_interleaved
from bench.stage import PROJECT, build_fanout, build_many_hosts, build_peer, build_start, start_machines

HOSTS = 64


def measure(repeat: int = 3) -> Table:
    with start_machines([build_many_hosts(HOSTS)]) as lab:
        script = f"cd {PROJECT} && bash train.sh"
        contenders = [
            build_fanout("fanout run --skip-check", "run", "--skip-check", "../hosts.txt", "task.py"),
            build_peer(
                "pdsh, the plain script", "pdsh", "-R", "ssh", "-f", str(HOSTS), "-w", ",".join(lab.names), script
            ),
        ]
        results = run_interleaved(contenders, build_start(lab), lines=HOSTS, repeat=repeat)
    title = f"A train.sh that only prints, on {HOSTS} hosts behind one sshd"
    return build_table(title, results, base="fanout run --skip-check")
