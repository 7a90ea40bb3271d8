"""Benchmark of 200 MB of lines from one host: ``fanout run``, which also stores them, beside ssh into a file."""

from __future__ import annotations

import tempfile

from bench.common import Table, interleaved, table
from bench.stage import PROJECT, fanout, machines, on, peer

MEGABYTES = 200
TRAIN_SH = f"head -c {MEGABYTES}MB <(yes 'step 1234 | loss 2.3456 | grad norm 0.789 | lr 3.0e-4 | 12345 tokens/s')\n"


def measure(repeat: int = 3) -> Table:
    with machines(1, script=TRAIN_SH) as lab, tempfile.TemporaryDirectory() as place:
        script = f"cd {PROJECT} && bash train.sh"
        contenders = [
            peer("ssh > file", "ssh", "h1", script, to=f"{place}/ssh"),
            peer("pdsh > file", "pdsh", "-R", "ssh", "-w", "h1", script, to=f"{place}/pdsh"),
            fanout("fanout run > file", "run", "--skip-check", "../hosts.txt", "task.py", to=f"{place}/fanout"),
        ]
        results = interleaved(contenders, on(lab), repeat=repeat)
    rates = [
        f"{name}: {MEGABYTES / min(sample.wall for sample in samples):.0f} MB/s at best, including start and end."
        for name, samples in results.items()
        if not isinstance(samples, str)
    ]
    return table(f"{MEGABYTES} MB of lines from one host", results, base="ssh > file", notes=rates)
