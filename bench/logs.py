"""Benchmark of log output from many hosts with the live view: at full speed beside ssh and pdsh, and at 10,000 lines/s."""

from __future__ import annotations

import os
import random
import re
import statistics
import tempfile
import threading
import time

from bench.common import LIMIT_SECONDS, ContenderFailed, Results, Sample, Table, build_table, read_some, run_interleaved
from bench.stage import PROJECT, build_fanout, build_many_hosts, build_peer, build_start, start_machines
from tests.lab.lab import Lab
from tests.lab.specs import USER

HOSTS = 16
MEGABYTES = 64  # per host: enough that start and end are a small part of the time
LINE = "step 1234 | loss 2.3456 | grad norm 0.789 | lr 3.0e-4 | 12345 tokens/s"
FLOOD = f"head -c {MEGABYTES}MB <(yes '{LINE}')\n"
PIECE_MEGABYTES = 8
VARIED = f"for turn in $(seq {MEGABYTES // PIECE_MEGABYTES}); do cat lines; done\n"

LINES_A_SECOND = 10_000
SECONDS = 60
#: Print a few lines every 20 ms, each with its time.
PACED = f"""\
exec python3 -u -c '
import os, sys, time
rate, begin = {LINES_A_SECOND} // {HOSTS}, time.monotonic()
for tick in range({SECONDS} * 50):
    time.sleep(max(0.0, begin + tick / 50 - time.monotonic()))
    now = time.time()
    os.write(1, "".join("paced %d %.6f loss 2.3456 lr 3.0e-4\\n" % (number, now) for number in range(tick * rate // 50, (tick + 1) * rate // 50)).encode())
'
"""
_PACED = re.compile(rb"paced (\d+) (\d+\.\d+)")
_SKIPPED = re.compile(rb"(\d+) lines not shown")


def measure(repeat: int = 1) -> Table:
    """Measure a flood of equal lines."""
    return _measure_flood("the same line", FLOOD, repeat)


def measure_varied(repeat: int = 1) -> Table:
    """Measure lines with different numbers, as in a training log: they compress to a quarter, at a CPU cost."""
    return _measure_flood("lines with different numbers", VARIED, repeat)


def _build_lines() -> str:
    """Return a few megabytes of such lines, the same in every run."""
    dice, said, size = random.Random(3), list[str](), 0
    while size < PIECE_MEGABYTES * 10**6:
        loss, norm, rate = dice.uniform(2, 3), dice.random(), dice.uniform(1e-5, 3e-4)
        tokens = dice.randint(10_000, 20_000)
        said.append(f"step {len(said)} | loss {loss:.4f} | grad norm {norm:.3f} | lr {rate:.1e} | {tokens} tokens/s\n")
        size += len(said[-1])
    return "".join(said)[: PIECE_MEGABYTES * 10**6]


def _measure_flood(what: str, script: str, repeat: int) -> Table:
    """Write all output to files: fanout while it shows the live view, the peers by redirection."""
    with start_machines([build_many_hosts(HOSTS)], script=script) as lab, tempfile.TemporaryDirectory() as place:
        for node in lab.nodes:
            node.write_file(f"{PROJECT}/lines", _build_lines() if script == VARIED else "", user=USER)
        remote = f"cd {PROJECT} && bash train.sh"
        each = " ".join(f"ssh {name} '{remote}' > ~/{name}.out &" for name in lab.names)
        contenders = [
            build_peer("ssh, one process a host", "sh", "-c", f"{each} wait"),
            build_peer("pdsh > file", "pdsh", "-R", "ssh", "-f", str(HOSTS), "-w", ",".join(lab.names), remote,
                 to=f"{place}/pdsh"),
            build_fanout("fanout run, live view", "run", "--skip-check", "--keep", "1", "../hosts.txt", "task.py", screen=True),
        ]  # fmt: skip
        results = run_interleaved(contenders, build_start(lab), repeat=repeat)
        kept = _count_kept_bytes(lab)
    total = HOSTS * MEGABYTES
    notes = [
        f"{name}: {_format_rate(samples, total)}" for name, samples in results.items() if not isinstance(samples, str)
    ]
    notes.append(f"fanout's files hold {kept} of {total * 10**6} bytes.")
    return build_table(
        f"{HOSTS} hosts, {MEGABYTES} MB of {what} each, at full speed", results, base=contenders[0].name, notes=notes
    )


def _format_rate(samples: list[Sample], total: int) -> str:
    wall = min(sample.wall for sample in samples)
    cpu = statistics.median(sample.cpu for sample in samples)
    return (
        f"{total / wall:.0f} MB/s in total at best, including start and end; {cpu / total * 1000:.1f} s of CPU per GB."
    )


def _count_kept_bytes(lab: Lab) -> int:
    """Return the number of bytes in the log files of the latest run."""
    listing = "cd ~/.local/state/fanout/runs && cat $(ls | tail -1)/logs/*.log | wc -c"
    return int(lab.launcher.run_program(["sh", "-c", listing], user=USER, check=True).stdout)


def measure_paced(repeat: int = 1) -> Table:
    """Measure CPU, the delay of lines on the screen, skipped lines, and lines missing on disk."""
    results: Results = {}
    with start_machines([build_many_hosts(HOSTS)], script=PACED) as lab:
        rows = []
        for turn in range(1, repeat + 1):
            argv = (
                "run",
                "--skip-check",
                "--keep",
                "1",
                "--rank-logs",
                "off",
                "--fold",
                "off",
                "../hosts.txt",
                "task.py",
            )
            sample, delays, skipped = _run_watched(lab, argv)
            results[f"turn {turn}"] = [sample]
            listing = "cd ~/.local/state/fanout/runs && cat $(ls | tail -1)/logs/*.log | wc -l"
            lost = LINES_A_SECOND // HOSTS * SECONDS * HOSTS - int(
                lab.launcher.run_program(["sh", "-c", listing], user=USER, check=True).stdout
            )
            centiles = statistics.quantiles(delays, n=100)
            rows.append(
                (
                    f"turn {turn}",
                    f"{100 * sample.cpu / sample.wall:.0f} %",
                    f"{1000 * centiles[49]:.0f}",
                    f"{1000 * centiles[98]:.0f}",
                    str(skipped),
                    str(lost),
                )
            )
    columns = ("", "CPU, of one core", "delay to screen, ms: median", "p99", "lines skipped there", "lost on disk")
    title = f"{LINES_A_SECOND:,} lines/s from {HOSTS} hosts for {SECONDS} s, live view on"
    return Table(title=title, columns=columns, rows=tuple(rows))


def _run_watched(lab: Lab, argv: tuple[str, ...]) -> tuple[Sample, list[float], int]:
    """Run once in a terminal; return its cost, the age of every line when it was written, and the skipped lines."""
    began = time.monotonic()
    child = build_start(lab)(build_fanout("fanout run", *argv, screen=True))
    guard = threading.Timer(LIMIT_SECONDS + 2 * SECONDS, child.kill)
    guard.start()
    delays: list[float] = []
    skipped, rest = 0, b""
    assert child.stdout is not None
    while data := read_some(child.stdout.fileno()):
        now = time.time()
        data = rest + data
        whole = data.rfind(b"\n") + 1
        delays += [now - float(match[2]) for match in _PACED.finditer(data, 0, whole)]
        skipped += sum(int(match[1]) for match in _SKIPPED.finditer(data, 0, whole))
        rest = data[whole:]
    _, status, usage = os.wait4(child.pid, 0)
    guard.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode or len(delays) < 100:
        raise ContenderFailed(f"it exited {child.returncode} after {len(delays)} lines on the screen")
    cpu = usage.ru_utime + usage.ru_stime
    return Sample(wall=time.monotonic() - began, first=0.0, cpu=cpu), delays, skipped
