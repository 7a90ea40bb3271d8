"""Benchmark of ``fanout top``: CPU time of the launcher and of the hosts while the view is open.

All hosts are names of one machine. Each of them has 8 GPUs, and its nvidia-smi prints other figures every two seconds.
"""

from __future__ import annotations

import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.common import Table, read_cpu_seconds, read_some
from bench.stage import build_fanout, build_many_hosts, build_start, start_machines
from tests.lab import ns
from tests.lab.drive import list_processes
from tests.lab.lab import Lab
from tests.lab.node import Node

HOSTS, GPUS = (8, 64), 8
SETTLE_SECONDS, SAMPLE_SECONDS = 20.0, 30.0

SMI = f"""#!{sys.executable} -IS
import random, sys, time
row = "%d, GPU-%d, NVIDIA H100 80GB HBM3, 00000000:%d8:00.0, %d, %d, 81559, %d, %d.32, 700.00, 0" + ", Not Active" * 4
while True:
    for at in range({GPUS}):
        if "compute-apps" in sys.argv[1]:
            print("GPU-%d, 1, 61190" % at)
        else:
            print(row % (at, at, at, random.randint(80, 99), 61000 + random.randint(0, 999), random.randint(60, 70), random.randint(500, 690)))
    sys.stdout.flush()
    time.sleep(float(sys.argv[-1]))
"""


def measure(repeat: int = 3) -> Table:
    rows = [_measure_row(count, repeat) for count in HOSTS]
    return Table(
        title=f"`fanout top` on names behind one sshd, {GPUS} GPUs each, in a terminal of 120 x 40",
        columns=("hosts", "launcher, % of a core", "a host's sampling process, % of a core"),
        rows=tuple(rows),
        notes=(
            f"Median of {repeat} samples of {SAMPLE_SECONDS:.0f} s in one view, after {SETTLE_SECONDS:.0f} s.",
            "The CPU time of nvidia-smi, which is a script here, and of sshd does not count.",
        ),
    )


def _measure_row(count: int, repeat: int) -> tuple[str, ...]:
    with start_machines([build_many_hosts(count)]) as lab:
        (host,) = lab.hosts
        host.write_file("/home/lab/bin/nvidia-smi", SMI, user="lab", mode=0o755)
        bashrc = host.get_path("/home/lab/.bashrc")
        bashrc.write_text(bashrc.read_text(encoding="utf-8") + "export PATH=/home/lab/bin:$PATH\n", encoding="utf-8")
        samples = _sample_view(lab, host, count, repeat)
    launcher, sampling = zip(*samples, strict=True)
    return (str(count), f"{statistics.median(launcher):.1f}", f"{statistics.median(sampling):.2f}")


def _sample_view(lab: Lab, host: Node, count: int, repeat: int) -> list[tuple[float, float]]:
    """Open the view; return the percentages of the launcher and of one host's sampling process in each sample."""
    view = build_start(lab)(build_fanout("top", "top", "../hosts.txt", screen=True))
    try:
        ns.wait_until(lambda: _count_tools(host) == 2 * count, 120.0, "every host to start its tools")
        _drain_for(view, SETTLE_SECONDS)
        samples = []
        for _ in range(repeat):
            before, began = (_read_own_seconds(view.pid), _read_sampling_seconds(host)), time.monotonic()
            _drain_for(view, SAMPLE_SECONDS)
            after, passed = (_read_own_seconds(view.pid), _read_sampling_seconds(host)), time.monotonic() - began
            own, sampling = (100 * (late - early) / passed for late, early in zip(after, before, strict=True))
            samples.append((own, sampling / count))
        return samples
    finally:
        view.terminate()
        _drain_for(view, 30.0)  # it writes to restore the terminal
        view.wait(30.0)


def _drain_for(view: subprocess.Popen[bytes], seconds: float) -> None:
    """Read what the view draws, as a terminal does."""
    assert view.stdout is not None
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([view.stdout], [], [], left)[0] and not read_some(view.stdout.fileno()):
            return


def _count_tools(host: Node) -> int:
    return len(list_processes(host, "nvidia-smi", "-l"))


def _read_sampling_seconds(host: Node) -> float:
    """Return the CPU seconds of fanout's own processes on the machine, which stands for all hosts."""
    return sum(read_cpu_seconds(process.pid) for process in list_processes(host, "READY"))


def _read_own_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return read_cpu_seconds(pid) + sum(_read_own_seconds(int(child)) for child in children)
