"""Benchmark of 200 MB of lines from one host: ``fanout run``, which also stores them, beside ssh into a file."""

from __future__ import annotations

import tempfile

from bench.common import Table, build_table, run_interleaved
from bench.stage import PROJECT, build_fanout, build_peer, build_start, start_machines

MEGABYTES = 200
TRAIN_SH = f"head -c {MEGABYTES}MB <(yes 'step 1234 | loss 2.3456 | grad norm 0.789 | lr 3.0e-4 | 12345 tokens/s')\n"


def measure(repeat: int = 3) -> Table:
    with start_machines(1, script=TRAIN_SH) as lab, tempfile.TemporaryDirectory() as place:
        script = f"cd {PROJECT} && bash train.sh"
        contenders = [
            build_peer("ssh > file", "ssh", "h1", script, to=f"{place}/ssh"),
            build_peer("pdsh > file", "pdsh", "-R", "ssh", "-w", "h1", script, to=f"{place}/pdsh"),
            build_fanout("fanout run > file", "run", "--skip-check", "../hosts.txt", "task.py", to=f"{place}/fanout"),
        ]
        results = run_interleaved(contenders, build_start(lab), repeat=repeat)
    rates = [
        f"{name}: {MEGABYTES / min(sample.wall for sample in samples):.0f} MB/s at best, including start and end."
        for name, samples in results.items()
        if not isinstance(samples, str)
    ]
    return build_table(f"{MEGABYTES} MB of lines from one host", results, base="ssh > file", notes=rates)
