"""Values of ``fanout top``: free GPUs, owners, the order of hosts, filters, and groups of processes."""

from __future__ import annotations

import pytest

from fanout.model.answers import check_answer
from fanout.sharing.host_usage import HostUsage, Reach
from fanout.sharing.usage_order import (
    SORTS,
    UsageFilter,
    count_gpus_by_user,
    group_processes,
    select_usage,
)
from tests.sharing.usages import RUN, build_gpu, build_host, build_lab, build_process, build_sample, build_train_host


def test_gpu_is_free_without_claim_process_and_memory() -> None:
    process = build_process(1, 4711, "bob", "python a.py")
    claim = {"user": "alice", "pid": 4700, "run": RUN, "since": 0.0, "claims": ["gpu-2"]}
    gpus = [
        build_gpu(),
        build_gpu(0, 4.0),
        build_gpu(0, 4.0),
        build_gpu(0, 9000.0),
        {"name": "x", "lost": True},
        build_gpu(0, 600.0),
    ]
    host = build_host("gpu01", build_sample(gpus, [process], [claim]))
    assert host.free_gpus == ("0", "5")
    assert [gpu.users for gpu in host.gpus] == [(), ("bob",), ("alice",), (), (), ()]


def test_memory_of_an_idle_ascend_chip_does_not_matter() -> None:
    host = build_host("npu01", build_sample([build_gpu(0, 3100.0, idle_memory=True)]))
    assert host.free_gpus == ("0",)


def test_host_without_gpus_is_free_without_a_run() -> None:
    run = {"user": "dan", "pid": 1, "run": RUN, "since": 0.0, "claims": ["port-29500"]}
    assert build_host("cpu01", build_sample()).is_free
    assert not build_host("cpu01", build_sample(runs=[run])).is_free
    assert not HostUsage(host="gpu01", reach=Reach.UNREACHABLE).is_free
    assert not build_host("gpu01", build_sample(problem="nvidia-smi has not answered for 15 s")).is_free


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("file", ["gpu01", "gpu02", "gpu03", "gpu04", "cpu01", "gpu05"]),
        ("free", ["gpu04", "gpu02", "gpu01", "gpu03", "cpu01", "gpu05"]),
        ("temp", ["gpu03", "gpu01", "gpu02", "gpu04", "cpu01", "gpu05"]),
        ("cpu", ["cpu01", "gpu03", "gpu01", "gpu02", "gpu04", "gpu05"]),
    ],
)
def test_hosts_are_sorted_and_those_without_a_value_come_last(sort: str, names: list[str]) -> None:
    assert [host.host for host in select_usage(build_lab(), UsageFilter(sort=sort))] == names


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_keeps_all_hosts(sort: str) -> None:
    assert len(select_usage(build_lab(), UsageFilter(sort=sort))) == 6


def test_filters_by_user_text_and_free_gpus() -> None:
    lab = build_lab()
    (bobs,) = select_usage(lab, UsageFilter(users=("bob",)))
    assert bobs.host == "gpu03"
    assert {process.user for process in bobs.processes} == {"bob"}
    assert [host.host for host in select_usage(lab, UsageFilter(only_free=True))] == ["gpu02", "gpu04"]
    assert [host.host for host in select_usage(lab, UsageFilter(text="eval.py"))] == ["gpu03"]
    assert [host.host for host in select_usage(lab, UsageFilter(text="cpu"))] == ["cpu01"]
    (shard,) = select_usage(lab, UsageFilter(text="--shard 3"))
    assert [process.pid for process in shard.processes] == [9103]


def test_ranks_of_a_run_are_one_group_and_a_run_without_a_process_is_one_too() -> None:
    (group,) = group_processes(build_train_host("gpu01", "alice"))
    assert (group.place, len(group.pids), group.memory, group.run) == ("0-7", 8, 8 * 61200.0, RUN)
    (other,) = group_processes(build_lab()[4])
    assert (other.place, other.user, other.command) == ("port 29500", "dan", "")


def test_gpus_are_counted_by_user() -> None:
    assert count_gpus_by_user(build_lab()) == [("alice", 12, 2), ("bob", 8, 1), ("dan", 0, 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"whole": 1},
        {"whole": True, "gpus": {"0": {"util": "97"}}},
        {"whole": True, "processes": {"0/1": {"pid": -1}}},
        {"whole": True, "host": {"memory": [1]}},
        {"whole": True, "gone": {"gpus": "0"}},
    ],
)
def test_invalid_sample_is_refused(wrong: object) -> None:
    value, error = check_answer("usage", wrong)
    assert value is None
    assert "its answer is invalid" in error
