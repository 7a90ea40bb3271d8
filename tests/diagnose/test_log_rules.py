"""Rules that need only the logs of other launchers: addresses, node numbers, collectives, and kernel lines of hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.diagnose.kit import CLOSED, TIMED_OUT
from tests.diagnose.test_why import verdict as diagnose_files

NCCL = (
    "[E612 03:24:14.929096625 ProcessGroupNCCL.cpp:632] [Rank {rank}] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum={seq}, OpType={op}, NumelIn=4, NumelOut=4, Timeout(ms)=600000) ran for 600065 milliseconds before"
)
KEYS = "Traceback (most recent call last):\n{error}: wait timeout after 25000ms, keys: {keys}\n"
ROLES = ", ".join(f"/none/torchelastic/role_info/{node}" for node in range(3))
KILLED = "[Thu Jun 12 03:14:08 2025] Out of memory: Killed process 20413 (python3) total-vm:8kB, anon-rss:6kB\n"


def lost(rank: int, text: str) -> str:
    lines = ("Traceback (most recent call last):", '  File "/app/train.py", line 3, in step', "    sync()", text)
    return "".join(f"[rank{rank}]: {line}\n" for line in lines)


def nccl(rank: int, seq: int, op: str = "ALLREDUCE") -> str:
    return f"[rank{rank}]:{NCCL.format(rank=rank, seq=seq, op=op)}\n"


def key(keys: str) -> str:
    return KEYS.format(error="torch.distributed.DistStoreError", keys=keys)


Expected = tuple[str, str, int | None, str]
CASES: dict[str, tuple[dict[str, str], Expected]] = {
    "two hosts lost an IPv6 address, one is silent": (
        {
            "n1": lost(0, CLOSED.format(peer="fd77::4")),
            "n2": lost(1, CLOSED.format(peer="fd77::3")),
            "n3": lost(2, CLOSED.format(peer="fd77::4")),
            "n4": "[rank3]: step 9 loss 2.0\n",
        },
        ("vanished", "n4", 3, "medium"),
    ),
    "one host has an error that may be a consequence, the other lost it": (
        {
            "n1": lost(0, CLOSED.format(peer="10.0.0.2")),
            "n2": lost(1, "ConnectionRefusedError: [Errno 111] Connection refused"),
        },
        ("pointed", "n2", 1, "medium"),
    ),
    "docker reports that a container of one host was killed": (
        {"n1": lost(0, CLOSED.format(peer="10.0.0.2")), "n2": "[rank1]: step 8\ntrainer exited with code 137\n"},
        ("first", "n2", None, "high"),
    ),
    "one of three hosts could not connect, the others only waited": (
        {
            "n1": key("/none/torchelastic/role_info/2"),
            "n2": key("/none/torchelastic/assigned_ranks/1"),
            "n3": lost(2, "ConnectionRefusedError: [Errno 111] Connection refused"),
        },
        ("first", "n3", 2, "medium"),
    ),
    "one rank waits in another collective": (
        {"n1": nccl(0, 813) + nccl(1, 813), "n2": nccl(2, 812, "BROADCAST") + nccl(3, 813)},
        ("apart", "n2", 2, "medium"),
    ),
    "two hosts are node 0": (
        {"n1": key(ROLES), "n2": key("/none/torchelastic/assigned_ranks/1"), "n3": key(ROLES)},
        ("numbers", "n1", None, "low"),
    ),
    "the kernel of a silent host killed a python": (
        {"n1": lost(0, TIMED_OUT), "n2": KILLED},
        ("proof", "n2", None, "medium"),
    ),
    "the rank with the error of a driver": (
        {
            "n1.dmesg": "[Thu Jun 12 03:14:06 2025] NVRM: Xid (PCI:0000:0f:00): 94, pid=61, name=python3, Contained\n",
            "n1": "[rank0]: step 9\n"
            + lost(1, "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered")
            + "E0612 03:14:09.200000 30 torch/x.py:9] failed (exitcode: 1) local_rank: 1 (pid: 61) of binary: python\n",
        },
        ("first", "n1", 1, "high"),
    ),
}


def diagnose(tmp_path: Path, logs: dict[str, str]) -> dict[str, Any]:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, text in logs.items():
        (folder / f"{name}.log").write_text(text)
    return diagnose_files(str(folder))


@pytest.mark.parametrize("name", CASES)
def test_the_logs_give_the_cause(name: str, tmp_path: Path) -> None:
    logs, expected = CASES[name]
    found = diagnose(tmp_path, logs)
    assert (found["rule"], found["cause"]["host"], found["cause"]["rank"], found["confidence"]) == expected


def test_a_rank_that_lost_its_peer_is_no_outlier(tmp_path: Path) -> None:
    """Two ranks were in an all_reduce and one in a backward pass when they lost the same address."""
    text = CLOSED.format(peer="10.0.0.9")
    logs = {f"n{rank}": lost(rank, text) for rank in (0, 1)} | {"n2": lost(2, text).replace("sync()", "backward()")}
    found = diagnose(tmp_path, logs)
    assert (found["rule"], found["cause"]["host"]) == ("blamed", "10.0.0.9")


def test_a_process_that_the_kernel_killed_beside_a_good_run_is_no_cause(tmp_path: Path) -> None:
    steps = "".join(f"[rank0]: step {number}/20 loss 2.0\n" for number in range(1, 21))
    assert diagnose(tmp_path, {"n1": steps, "n1.dmesg": KILLED})["cause"] is None
