"""Benchmark of one command on 64 hosts: ``fanout exec``, pdsh and clush (these start one ssh process per host)."""

from __future__ import annotations

from bench.common import Table, build_table, run_interleaved
from bench.stage import build_fanout, build_many_hosts, build_peer, build_start, start_machines

HOSTS = 64


def measure(repeat: int = 5) -> Table:
    with start_machines([build_many_hosts(HOSTS)]) as lab:
        names, last = ",".join(lab.names), f"h{HOSTS}: hi"
        contenders = [
            build_fanout("fanout exec", "exec", "../hosts.txt", "--", "echo hi", shows=f"({HOSTS})"),
            build_peer("pdsh", "pdsh", "-R", "ssh", "-f", str(HOSTS), "-w", names, "echo hi", shows=last),
            build_peer("clush", "clush", "-f", str(HOSTS), "-w", names, "echo hi", shows=last),
        ]
        results = run_interleaved(contenders, build_start(lab), repeat=repeat)
    return build_table(f"`echo hi` on {HOSTS} hosts behind one sshd", results, base="fanout exec")
