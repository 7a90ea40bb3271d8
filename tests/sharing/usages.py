"""Usage of hosts for tests, built from samples as a host sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.model.answers import check_answer
from fanout.sharing.host_usage import HostUsage, Reach, apply_changes, build_usage

NOW = 1_796_000_000.0
RUN = "20261130-081502-1f0c2ab3d4e5"
USERS = ("alice", "bob", "carol", "dan")


def build_gpu(util: float = 0.0, used: float = 4.0, **facts: Any) -> dict[str, Any]:
    """Return the entry of one H100 in a sample."""
    known = {"name": "NVIDIA H100 80GB HBM3", "pci": "00000000:18:00.0", "util": util, "used": used, "total": 81559.0}
    return {**known, "temp": 30 + util / 3, "watts": 70 + 6 * util, "limit": 700.0, "ecc": 0, "throttled": [], **facts}


def build_process(gpu: int, pid: int, user: str, command: str, *, run: str = "", hours: float = 3.0) -> dict[str, Any]:
    """Return the entry of one process in a sample."""
    return {
        "gpu": str(gpu),
        "pid": pid,
        "memory": 61200.0,
        "user": user,
        "command": command,
        "since": NOW - 3600 * hours,
        "run": run,
    }


def build_sample(
    gpus: Sequence[Mapping[str, Any]] = (),
    processes: Sequence[Mapping[str, Any]] = (),
    runs: Sequence[Mapping[str, Any]] = (),
    **host: Any,
) -> dict[str, Any]:
    """Return a complete sample of a host, and verify that it conforms to the schema."""
    known = {"cpu": 12, "cores": 192, "memory": [123_000, 2_063_000], "disk": [1_300_000, 7_000_000]}
    sample: dict[str, Any] = {
        "whole": True,
        "host": {**known, "problem": "", "xids_unread": "", **host},
        "gpus": {str(at): dict(gpu) for at, gpu in enumerate(gpus)},
        "processes": {f"{each['gpu']}/{each['pid']}": dict(each) for each in processes},
        "runs": {f"{each['pid']}/{each['run']}": dict(each) for each in runs},
    }
    assert check_answer("usage", sample) == (sample, "")
    return sample


def build_host(name: str, sample: Mapping[str, Any]) -> HostUsage:
    return build_usage(name, apply_changes({}, sample), NOW)


def build_train_host(name: str, user: str, *, run: str = RUN, busy: int = 8, count: int = 8, **host: Any) -> HostUsage:
    """Return a host with ``count`` GPUs; a run of this user trains on the first ``busy`` of them."""
    gpus = [build_gpu(90 + at, 61204.0) if at < busy else build_gpu() for at in range(count)]
    command = "/home/me/venv/bin/python -u train.py cfg.yaml --lr 3e-4"
    processes = [build_process(at, 4712 + at, user, command, run=run) for at in range(busy)]
    claims = ["port-29500", *(f"gpu-{at}" for at in range(busy))]
    held = {"user": user, "pid": 4700, "run": run, "since": NOW - 3 * 3600, "claims": claims}
    return build_host(name, build_sample(gpus, processes, [held] if busy else [], **host))


def build_lab() -> list[HostUsage]:
    """Return a lab of six hosts: training, half free, faults, no GPU, a process without a run, unreachable."""
    faulty = [build_gpu(99, 61204.0, temp=88.0) for _ in range(8)]
    faulty[2] |= {"throttled": ["hw_thermal_slowdown"]}
    faulty[3] = {
        "name": faulty[3]["name"],
        "pci": faulty[3]["pci"],
        "xid": 79,
        "xid_text": "pid=4715, GPU has fallen off the bus.",
        "xid_at": NOW - 900,
        "lost": True,
    }
    faulty[5] |= {"ecc": 2}
    own = [build_process(at, 9100 + at, "bob", f"python eval.py --shard {at}", hours=0.2) for at in range(8)]
    cpu_run = {
        "user": "dan",
        "pid": 812,
        "run": "20261130-091200-aaaaaaaaaaaa",
        "since": NOW - 60,
        "claims": ["port-29500"],
    }
    return [
        build_train_host("gpu01", "alice"),
        build_train_host("gpu02", "alice", busy=4, cpu=3),
        build_host("gpu03", build_sample(faulty, own, cpu=71)),
        build_train_host("gpu04", "carol", busy=0, cpu=0),
        build_host("cpu01", build_sample([], [], [cpu_run], cpu=97)),
        HostUsage(host="gpu05", reach=Reach.UNREACHABLE, trouble="gpu05 (10.0.0.5, port 22) does not answer"),
    ]


def build_large_lab(count: int = 64) -> list[HostUsage]:
    """Return ``count`` hosts with 8 GPUs each, for several users."""
    hosts = []
    for at in range(count):
        busy = (8, 8, 4, 0, 8, 2, 8, 8)[at % 8]
        hosts.append(build_train_host(f"node{at:02d}.lab", USERS[at // 16], busy=busy, run=f"{RUN[:-1]}{at // 8}"))
    hosts[17] = HostUsage(host="node17.lab", reach=Reach.UNREACHABLE, trouble="no route to host")
    return hosts
