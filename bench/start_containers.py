"""Benchmark of a run in containers of podman on four machines, beside the same run without containers."""

from __future__ import annotations

import statistics

from bench.common import Results, Table, build_table, run_interleaved
from bench.stage import PROJECT, build_fanout, build_start, start_machines
from tests.lab.containers import IMAGE, NAME, Engine, list_arguments, specify_host

HOSTS = 4
BARE = "fanout run"


def measure(repeat: int = 5) -> Table:
    """Measure runs without a container, in a container of the user, and in a container of an image."""
    with start_machines([specify_host(f"h{number}") for number in range(1, HOSTS + 1)]) as lab:
        for host in lab.hosts:
            engine = Engine(host)
            engine.import_image()
            engine.start_container(directory=PROJECT)
        lab.write_hostfile("".join(f"{name} slots=1 user=root\n" for name in lab.names))
        command = ("run", "--skip-check", "../hosts.txt", "task.py")
        podman = (*command[:2], "--engine", "podman")
        arguments = [f"--container-arg={argument}" for argument in list_arguments()]
        contenders = [
            build_fanout(BARE, *command),
            build_fanout("fanout run --container", *podman, "--container", NAME, *command[2:]),
            build_fanout("fanout run --image", *podman, "--image", IMAGE, *arguments, *command[2:]),
        ]
        results = run_interleaved(contenders, build_start(lab), lines=HOSTS, repeat=repeat)
    title = f"A train.sh that only prints, on {HOSTS} machines, in containers of podman"
    return build_table(title, results, base=BARE, notes=[_describe_cost(results)])


def _describe_cost(results: Results) -> str:
    """Return how much longer a run in containers takes, to the last host's first line and to the end."""
    medians = {
        name: (
            statistics.median(sample.first for sample in samples),
            statistics.median(sample.wall for sample in samples),
        )
        for name, samples in results.items()
        if not isinstance(samples, str)
    }
    first, end = medians.get(BARE, (0.0, 0.0))
    costs = [
        f"{name}: {(mine - first) / HOSTS:.2f} s per host to the first line, {(whole - end) / HOSTS:.2f} s to the end"
        for name, (mine, whole) in medians.items()
        if name != BARE
    ]
    return f"More than without containers: {'; '.join(costs)}."
