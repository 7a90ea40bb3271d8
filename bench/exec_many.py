"""Benchmark of one command on 64 hosts: ``fanout exec``, pdsh and clush (these start one ssh process per host)."""

from __future__ import annotations

from bench.common import Table, interleaved, table
from bench.stage import fanout, machines, many, on, peer

HOSTS = 64


def measure(repeat: int = 5) -> Table:
    with machines([many(HOSTS)]) as lab:
        names, last = ",".join(lab.names), f"h{HOSTS}: hi"
        contenders = [
            fanout("fanout exec", "exec", "../hosts.txt", "--", "echo hi", shows=f"({HOSTS})"),
            peer("pdsh", "pdsh", "-R", "ssh", "-f", str(HOSTS), "-w", names, "echo hi", shows=last),
            peer("clush", "clush", "-f", str(HOSTS), "-w", names, "echo hi", shows=last),
        ]
        results = interleaved(contenders, on(lab), repeat=repeat)
    return table(f"`echo hi` on {HOSTS} hosts behind one sshd", results, base="fanout exec")
