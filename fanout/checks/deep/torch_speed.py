"""Deep checks of speed and results: all-reduce over the hosts, bandwidth of pairs, and GPU arithmetic. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.deep import pairwise
from fanout.checks.deep.pairwise import PairFault
from fanout.checks.deep.torch_result import RENDEZVOUS_STAGES, DeepTest, find_wrong_results, format_partners
from fanout.checks.deep.torch_start import get_deep_test, skip_unmade_test
from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import (
    Check,
    CheckContext,
    CheckResult,
    fail,
    get_single_host_reason,
    ok,
    skip,
    warn,
)
from fanout.checks.network.interfaces import find_interfaces
from fanout.model.hosts import fold_names
from fanout.text.units import format_bandwidth, format_binary_size

SLOW_GPU = 0.8

# -- the all-reduces


def _judge_all_reduce(case: CheckContext) -> Iterator[CheckResult]:
    test = get_deep_test(case)
    if test is None or not test.order:
        yield skip_unmade_test(case) if test is None else skip(case.hosts, "no group was formed")
        return
    yield skip([name for name in case.hosts if not _has_results(test, name)], "the all-reduce over all hosts failed")
    for name, (size, elements) in find_wrong_results(test.joined).items():
        yield fail(
            name,
            f"an all-reduce over all hosts is wrong here: {elements} of {size // 4} elements at {format_binary_size(size)}{_describe_wrong_pairs(test)}",
            "memory, a network card or a GPU changes bits: exclude the host with -x and run  fanout check --deep  again",
        )


def _has_results(test: DeepTest, name: str) -> bool:
    return any(one.get("sizes") for one in test.joined.get(name, ()))


def _describe_wrong_pairs(test: DeepTest) -> str:
    spoiled = [blame for blame in test.faults if any(test.pairs[pair].stage == "wrong" for pair in blame.pairs)]
    return "".join(f"; the pairs point to {fold_names(blame.hosts)}" for blame in spoiled)


def _judge_bandwidth(case: CheckContext) -> Iterator[CheckResult]:
    test = get_deep_test(case)
    if test is None or not test.order:
        yield skip_unmade_test(case) if test is None else skip(case.hosts, "no group was formed")
        return
    measured = pairwise.find_best_bandwidths(test.pairs)
    blamed = set()
    for blame in test.faults:
        found = test.pairs[blame.pairs[0]]
        if not blame.broken or found.stage not in (*RENDEZVOUS_STAGES, "wrong"):
            blamed |= set(blame.hosts)
        if not blame.broken:
            yield _judge_slow_fault(case, test, blame)
        elif found.stage not in (*RENDEZVOUS_STAGES, "wrong"):
            yield fail(
                blame.hosts,
                f"{_describe_fault(blame)}: it stops at a {found.stage}: {found.error}",
                "large packets are lost: set the same MTU on both ends and on every switch between  "
                "(fanout check --explain bulk)",
            )
    unknown = [name for name in case.hosts if name not in measured and name not in blamed]
    yield skip(unknown, "no pair with it could be measured")
    for name, best in measured.items():
        if name not in blamed:
            yield ok(name, format_bandwidth(best))


def _describe_fault(blame: PairFault) -> str:
    return (
        f"with {format_partners(blame)}" if len(blame.hosts) == 1 else f"between {blame.hosts[0]} and {blame.hosts[1]}"
    )


def _judge_slow_fault(case: CheckContext, test: DeepTest, blame: PairFault) -> CheckResult:
    best = max(test.pairs[pair].bandwidth for pair in blame.pairs)
    usual = pairwise.compute_usual_bandwidth(test.pairs)
    saw = f"{format_bandwidth(best)} {_describe_fault(blame)}; the median host has {format_bandwidth(usual)} ({best / usual:.0%})"
    where = blame.hosts[0]
    interface = find_interfaces(case).get(where, "IFACE")
    if len(blame.hosts) == 1:
        cure = f"check its cable, switch port or driver:  {case.format_remote_command(where, f'ethtool {interface}; ip -s link show {interface}')}"
    else:
        cure = "each is fast with other hosts: check the path between the two (switches, uplinks, routes)"
    return warn(blame.hosts, saw, cure)


# -- the GPUs


def _judge_gpus(case: CheckContext) -> Iterator[CheckResult]:
    test = get_deep_test(case)
    if test is None:
        yield skip_unmade_test(case)
        return
    bare = [name for name in case.hosts if not any(one.get("gpu") for one in test.began.get(name, ()))]
    yield skip(bare, "no GPU")
    yield skip([name for name in case.hosts if name not in bare and name not in test.burned], "not every host has one")
    same: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, processes in test.burned.items():
        for local, one in enumerate(processes):
            if one.get("error"):
                yield fail(
                    name,
                    f"GPU {local} failed the test: {one['error']}",
                    case.format_remote_command(name, f"nvidia-smi -q -i {local}"),
                )
            elif one["differing"]:
                yield fail(
                    name,
                    f"GPU {local} gets different results for the same product: {one['differing']} elements",
                    f"it is broken: exclude it with gpus= in the hostfile, and see  {case.format_remote_command(name, f'nvidia-smi -q -i {local}')}",
                )
            else:
                same.setdefault(test.began[name][local]["gpu"], {})[f"{name}:{local}"] = one
    for model, rows in same.items():
        yield from _compare_gpus(case, model, rows)


def _compare_gpus(case: CheckContext, model: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckResult]:
    """Yield the verdicts that compare GPUs of one model: equal bits, and nearly equal speed."""
    for odd in find_outlier_groups({place: row["bits"] for place, row in rows.items()}):
        for place in odd.hosts:
            name, _, local = place.rpartition(":")
            yield fail(
                name,
                f"GPU {local} ({model}) gets another result than the other {len(rows) - len(odd.hosts)} of its model",
                f"it, or its driver, is broken: exclude it with gpus=, and see  {case.format_remote_command(name, f'nvidia-smi -q -i {local}')}",
            )
    usual = statistics.median(row["tflops"] for row in rows.values())
    for place, row in rows.items():
        name, _, local = place.rpartition(":")
        if row["tflops"] < SLOW_GPU * usual:
            saw = f"GPU {local} ({model}) reaches {row['tflops']:.0f} TFLOPS; the median is {usual:.0f}"
            yield warn(
                name,
                saw,
                f"check for heat, power or a clock limit:  {case.format_remote_command(name, f'nvidia-smi -q -d PERFORMANCE -i {local}')}",
            )
        else:
            yield ok(name, f"{row['tflops']:.0f} TFLOPS")


CHECKS = (
    Check(
        name="deep-sum", group="deep", worst="fail",
        verifies="All-reduces over all hosts, from one element up to 256 MB, are correct bit for bit in every process.",
        why="A network card or memory that changes bits corrupts gradients without an error: the loss diverges or becomes NaN.",
        fix="Exclude the named host with -x, and run the check again.",
        judge=_judge_all_reduce,
    ),
    Check(
        name="deep-bandwidth", group="deep", worst="fail", unless=get_single_host_reason,
        verifies="In all-reduces between pairs, every host reaches at least half of the median host's bus bandwidth (as "
        "nccl-tests define it). Tensors grow from 64 KB to 64 MB while one takes less than half a second. If two hosts are "
        "slow only with each other, the finding names the link.",
        why="An all-reduce runs at the speed of the slowest link: one cable at a tenth of its speed slows every step of all "
        "ranks.",
        fix="Check the cable, switch port, MTU or driver of the named host; ethtool IFACE shows its speed and errors.",
        judge=_judge_bandwidth,
    ),
    Check(
        name="deep-gpu", group="deep", worst="fail",
        verifies="Every GPU multiplies the same matrices for several seconds. All GPUs of one model get the same bits each "
        "time. None is below 80 % of the median speed.",
        why="A GPU that is hot, badly powered or broken slows every step or makes its result wrong.",
        fix="Check cooling and power supply. Exclude a GPU with different results by gpus= in the hostfile.",
        judge=_judge_gpus,
    ),
)  # fmt: skip
