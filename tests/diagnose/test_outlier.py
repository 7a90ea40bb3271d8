"""Outlier ranks, hosts with a wrong number, ranks that vanished, and facts that hosts report about themselves."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.diagnose import failure_facts, stack_groups
from fanout.diagnose.evidence import StackSnapshot
from fanout.diagnose.signatures import load_builtin
from fanout.model.actions import Inspect
from fanout.model.events import ActionSent, Answered
from tests.diagnose.kit import CLOSED, TIMED_OUT, Run, verdict

TRAIN = "/home/ann/proj/train.py"
TORCH = "/opt/venv/lib/python3.11/site-packages/torch/distributed"
WAITS = [[f"{TORCH}/distributed_c10d.py", 3252, "all_reduce"], [f"{TORCH}/c10d_logger.py", 83, "wrapper"],
         [TRAIN, 88, "step"], [TRAIN, 120, "<module>"]]  # fmt: skip
OTHER = [[f"{TORCH}/distributed_c10d.py", 3151, "broadcast"], [TRAIN, 70, "save"], [TRAIN, 121, "<module>"]]
LOADS = [["/home/ann/proj/loader.py", 40, "load"], [TRAIN, 80, "step"], [TRAIN, 120, "<module>"]]


def rank(number: int, stack: list[list[Any]], **more: Any) -> dict[str, Any]:
    return {"rank": number, "pid": 20_000 + number, "state": "S", "wchan": "", "stack": stack, **more}


def add_stacks(run: Run, **stacks_of: list[dict[str, Any]]) -> Run:
    """Return the run with the stacks that all hosts returned."""
    for host in run.hosts:
        run.add_events(ActionSent(at=run.at, action=Inspect(host=host, ask=7, what="stacks")))
        run.add_events(Answered(at=run.at, host=host, ask=7, value={"ranks": stacks_of[host]}, error=""))
    return run


@pytest.mark.parametrize(("moved", "confidence"), [(False, "high"), (None, "medium")])
def test_the_rank_that_does_not_wait_is_named(moved: bool | None, confidence: str) -> None:
    """The confidence is high if two samples saw no progress; otherwise the rank may just be between two collectives."""
    run = add_stacks(
        Run(),
        gpu01=[rank(0, WAITS, moved=moved), rank(1, WAITS, moved=moved)],
        gpu02=[rank(2, WAITS, moved=moved), rank(3, LOADS, moved=moved)],
    )
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.host, found.cause.rank) == ("apart", "gpu02", 3)
    assert found.confidence == confidence
    assert found.cause.says == "is in load (loader.py:40) while the others wait in all_reduce (train.py:88)"
    assert found.stands == (
        "ranks 0-2 (gpu[01-02]) wait in all_reduce (train.py:88)",
        "rank 3 (gpu02) is in load (loader.py:40)",
    )


def test_the_rank_that_waits_elsewhere_is_only_likely() -> None:
    run = add_stacks(Run(), gpu01=[rank(0, WAITS), rank(1, OTHER)], gpu02=[rank(2, WAITS), rank(3, WAITS)])
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.host, found.cause.rank, found.confidence) == ("gpu01", 1, "medium")


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_rank_in_another_collective_is_named_if_another_one_times_out_first(first: int) -> None:
    """The first timeout ends its rank. A rank that waits for that one loses its peer, also if it is the odd one."""
    run = Run()
    for number in (first, *(each for each in range(4) if each != first)):
        call = "line 70, in save\n    dist.broadcast(x)" if number == 1 else "line 88, in step\n    dist.all_reduce(x)"
        error = TIMED_OUT if number in (first, 2) else CLOSED.format(peer="10.0.0.1")
        lines = f'Traceback (most recent call last):\n  File "{TRAIN}", {call}\n{error}'.splitlines()
        run.out(number, *(f"[rank{number}]: {line}" for line in lines)).pass_time(0.05)
    run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.rule, found.confidence) == (1, "apart", "medium")


def test_two_groups_of_the_same_size_name_no_rank() -> None:
    run = add_stacks(Run(), gpu01=[rank(0, WAITS), rank(1, WAITS)], gpu02=[rank(2, OTHER), rank(3, OTHER)])
    assert verdict(run).rule != "apart"


def test_an_error_of_a_rank_is_stronger_evidence_than_its_place() -> None:
    """Rank 3 loads because it is slow; rank 0 raised."""
    run = add_stacks(Run(), gpu01=[rank(1, WAITS)], gpu02=[rank(2, WAITS), rank(3, LOADS)])
    run.raises(0, "ValueError: bad sample").torchrun("gpu01", (0, 1), (1, -15))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.rule) == (0, "first")


def test_a_rank_that_notices_a_mismatch_is_weaker_evidence_than_the_places() -> None:
    """Rank 2 aborts because the tensor of rank 3 has another shape; the ranks of the other host lose rank 2."""
    run = add_stacks(Run(), gpu01=[rank(0, WAITS), rank(1, WAITS)], gpu02=[rank(3, OTHER)])
    run.out(
        2,
        "terminate called after throwing an instance of 'gloo::EnforceNotMet'",
        "  what():  [enforce fail at pair.cc:456] op.preamble.length <= op.nbytes. 1500 vs 4. Received data size doesn't "
        "match expected size. Is there a distributed collective mismatch in your code?",
    )
    run.victims(0, 1, peer="10.0.0.2")
    run.torchrun("gpu02", (2, -6), (3, -15)).torchrun("gpu01", (0, 1), (1, 1))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.rule, found.confidence) == (3, "apart", "medium")


def test_a_stopped_process_stands_apart_without_a_stack() -> None:
    run = add_stacks(Run(), gpu01=[rank(0, WAITS), rank(1, [], state="T")], gpu02=[rank(2, WAITS), rank(3, WAITS)])
    found = verdict(run)
    assert found.cause is not None
    assert found.cause.rank == 1
    assert found.cause.says.startswith("is stopped (SIGSTOP)")


def test_a_rank_without_any_information_has_vanished() -> None:
    run = Run().victims(0, 1, 2, peer="10.0.0.2").torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1))
    found = verdict(run)
    assert found.cause is not None
    assert (found.rule, found.cause.rank, found.confidence) == ("vanished", 3, "medium")


@pytest.mark.parametrize(("key", "node"), [("assigned_ranks/1", 1), ("role_info/0, /none/torchelastic/role_info/1", 0)])
def test_a_host_with_a_wrong_number_is_detected(key: str, node: int) -> None:
    """Only node 1 waits for assigned_ranks/1, and only node 0 for the role_info of all nodes."""
    run = Run(hosts=3, each=1)
    text = "torch.distributed.DistStoreError: wait timeout after 25000ms, keys: /none/torchelastic/"
    run.pass_time(25.0)
    for number, own in enumerate(("role_info/0", "assigned_ranks/1", key)):
        run.raises(number, text + own, mark=False)
    for host in run.hosts:
        run.end_hosts(host, code=1)
    found = verdict(run, each=1)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.host, found.confidence) == ("node-rank", "gpu03", "high")
    assert f"took part as node {node}, although it is node 2" in found.cause.says


def test_if_all_time_out_at_the_same_place_the_network_is_the_cause() -> None:
    run = Run().victims(0, 1, 2, 3, text=TIMED_OUT)
    run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1))
    assert verdict(run).rule == "network"


@pytest.mark.parametrize(("want", "named"), [(5, "gpu01"), (4, None), (8, None)])
def test_a_host_that_waits_for_too_many_has_another_nnodes(want: int, named: str | None) -> None:
    """Four hosts with two ranks each: four for torchrun's store, eight for a store that rank 0 keeps itself."""
    run = Run(hosts=4)
    run.out(
        0,
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in f',
        "    f()",
        f"torch.distributed.DistStoreError: Timed out after 26 seconds waiting for clients. 4/{want} clients joined.",
    )
    run.pass_time(1.0).end_hosts("gpu01", code=1).pass_time(4.0)
    found = verdict(run)
    assert (found.rule == "numbers") == (named is not None)
    assert (found.cause.host if found.cause is not None else None) == named


def test_frames_of_a_traceback_are_read_from_the_inside_out() -> None:
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    f()\n  File "b.py", line 2, in f\nX: y'
    assert stack_groups.parse_frames(text.split("\n")) == (("b.py", 2, "f"), ("a.py", 1, "<module>"))


@pytest.mark.parametrize(
    "value", [None, 3, [3], [{"stack": 3}], [{"stack": [["a"]], "pid": 1}], [{"pid": "x", "stack": []}]]
)
def test_an_answer_of_a_wrong_shape_is_no_stack(value: Any) -> None:
    assert list(failure_facts.parse_stacks("gpu01", value)) == []


def test_only_unusual_facts_are_reported() -> None:
    quiet = {"boot_id": "a", "kernel": [], "space": [{"path": "/tmp", "used": 0.5, "inodes": 0.1, "free_mb": 9}],
             "memory": {"MemTotal": 1000, "MemAvailable": 500}, "stuck": []}  # fmt: skip
    assert failure_facts.describe_host("gpu01", quiet, boot_id="a") == ()
    loud = quiet | {"boot_id": "b", "space": [{"path": "/dev/shm", "used": 1.0, "inodes": 0.1, "free_mb": 0}]}
    assert failure_facts.describe_host("gpu01", loud, boot_id="a") == (
        "gpu01 was rebooted during the run: its boot id changed",
        "gpu01: /dev/shm is 100 % full (0 MB free)",
    )
    assert failure_facts.describe_host("gpu01", dict.fromkeys(quiet, "nonsense")) == ()
    flapped = {"ports": [{"port": "mlx5_0/1", "counter": "link_downed", "more": 3}]}
    assert failure_facts.describe_host("gpu01", flapped) == (
        "gpu01: InfiniBand mlx5_0/1 counted 3 more of link_downed during the run: its cable, optics or switch port",
    )


def test_the_kernel_log_about_a_rank_is_a_proof() -> None:
    """Its pid is that of a rank that SIGKILL ended; a line about another process proves nothing."""
    line = "[ 12.5] Out of memory: Killed process 20002 (python3) total-vm:8kB, anon-rss:6kB"
    run = Run().victims(0, 1, 3).torchrun("gpu02", (2, -9), (3, 1)).torchrun("gpu01", (0, 1), (1, -15))
    run.add_events(ActionSent(at=run.at, action=Inspect(host="gpu02", ask=9, what="aftermath")))
    run.add_events(Answered(at=run.at, host="gpu02", ask=9, value={"kernel": [line]}, error=""))
    found = verdict(run)
    assert found.cause is not None
    assert (found.rule, found.cause.rank, found.confidence) == ("proof", 2, "high")
    assert (
        list(failure_facts.match_kernel_lines("gpu01", {"kernel": ["[ 1.0] usb 1-1: new device"]}, 0.0, load_builtin()))
        == []
    )


def test_a_place_in_a_library_is_reported_unchanged() -> None:
    stand = StackSnapshot(
        host="h", rank=0, pid=1, state="S", frames=(("/usr/lib/python3.11/threading.py", 324, "wait"),)
    )
    assert str(stack_groups.locate_snapshot(stand)) == "is in wait (threading.py:324)"


def test_a_difference_in_nccl_ras_is_a_note() -> None:
    """Its summary of a healthy job is none; its ranks are those of a communicator, so no rank is named for it."""
    healthy = "Job summary\n  Nodes  Processes  GPUs\n    0  1  4  8  32  32  RUNNING  OK"
    odd = (
        "  Missing communicator data from 1 rank\n  The missing rank: 21\n  6 ranks have launched up to operation 6649"
    )
    assert failure_facts.describe_host("gpu01", {"ras": healthy.splitlines()}) == ()
    assert failure_facts.describe_host("gpu01", {"ras": odd.splitlines()}) == (
        "gpu01: NCCL reports: Missing communicator data from 1 rank",
        "gpu01: NCCL reports: The missing rank: 21",
        "gpu01: NCCL reports: 6 ranks have launched up to operation 6649",
    )


def test_a_collective_of_the_users_own_code_is_a_wait() -> None:
    recv, called = ("net.py", 80, "receive"), ("net.py", 50, "all_reduce")
    frames = (recv, called, ("train.py", 9, "train"), ("train.py", 20, "<module>"))
    assert str(stack_groups.locate_frames(frames)) == "waits in all_reduce (train.py:9)"
    library = ("/venv/lib/python3.12/site-packages/mine/net.py", 50, "all_reduce")
    assert str(stack_groups.locate_frames((library, *frames[2:]))) == "is in all_reduce (train.py:9)"
