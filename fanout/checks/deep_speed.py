"""Are sums over the hosts right and fast, and do the GPUs compute alike: judged from the deep check. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks import pairs
from fanout.checks.compare import outliers
from fanout.checks.deep import made, unmade
from fanout.checks.interfaces import by_host
from fanout.checks.model import Case, Check, Verdict, alone, fail, ok, skip, warn
from fanout.checks.pairs import Blame
from fanout.checks.together import MEETING, DeepTest, partners, rate, volume, wrong
from fanout.hosts import fold

SLOW_GPU = 0.8

# -- the sums


def _sums(case: Case) -> Iterator[Verdict]:
    test = made(case)
    if test is None or not test.order:
        yield unmade(case) if test is None else skip(case.hosts, "no group was formed")
        return
    yield skip([name for name in case.hosts if not _added(test, name)], "not all together could add up")
    for name, (size, elements) in wrong(test.joined).items():
        yield fail(
            name, f"a sum over all hosts is wrong there: {elements} of {size // 4} elements at {volume(size)}{_also(test)}",
            "memory, a network card or a GPU changes bits: take the host out with -x and run  fanout check --deep  again",
        )  # fmt: skip


def _added(test: DeepTest, name: str) -> bool:
    return any(one.get("sizes") for one in test.joined.get(name, ()))


def _also(test: DeepTest) -> str:
    spoiled = [blame for blame in test.blames if any(test.pairs[pair].stage == "wrong" for pair in blame.pairs)]
    return "".join(f"; in pairs it points to {fold(blame.hosts)}" for blame in spoiled)


def _bandwidth(case: Case) -> Iterator[Verdict]:
    test = made(case)
    if test is None or not test.order:
        yield unmade(case) if test is None else skip(case.hosts, "no group was formed")
        return
    measured = pairs.best_of_hosts(test.pairs)
    blamed = set()
    for blame in test.blames:
        found = test.pairs[blame.pairs[0]]
        if not blame.broken or found.stage not in (*MEETING, "wrong"):
            blamed |= set(blame.hosts)
        if not blame.broken:
            yield _slow(case, test, blame)
        elif found.stage not in (*MEETING, "wrong"):
            yield fail(
                blame.hosts, f"{_between(blame)}: it stops at a {found.stage}: {found.error}",
                "large packets do not get through: the same MTU on both ends and every switch between  "
                "(fanout check --explain bulk)",
            )  # fmt: skip
    unknown = [name for name in case.hosts if name not in measured and name not in blamed]
    yield skip(unknown, "no pair with it could be measured")
    for name, best in measured.items():
        if name not in blamed:
            yield ok(name, rate(best))


def _between(blame: Blame) -> str:
    return f"with {partners(blame)}" if len(blame.hosts) == 1 else f"between {blame.hosts[0]} and {blame.hosts[1]}"


def _slow(case: Case, test: DeepTest, blame: Blame) -> Verdict:
    best = max(test.pairs[pair].bandwidth for pair in blame.pairs)
    usual = pairs.usual(test.pairs)
    saw = f"{rate(best)} {_between(blame)}; {rate(usual)} is usual here ({best / usual:.0%})"
    where = blame.hosts[0]
    interface = by_host(case).get(where, "IFACE")
    if len(blame.hosts) == 1:
        cure = (
            f"its cable, switch port or driver:  {case.on(where, f'ethtool {interface}; ip -s link show {interface}')}"
        )
    else:
        cure = "each is fast with others: look at what lies between the two (switches, uplinks, routes)"
    return warn(blame.hosts, saw, cure)


# -- the GPUs


def _gpus(case: Case) -> Iterator[Verdict]:
    test = made(case)
    if test is None:
        yield unmade(case)
        return
    bare = [name for name in case.hosts if not any(one.get("gpu") for one in test.began.get(name, ()))]
    yield skip(bare, "no GPU")
    yield skip([name for name in case.hosts if name not in bare and name not in test.burned], "not every host has one")
    same: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, processes in test.burned.items():
        for local, one in enumerate(processes):
            if one.get("error"):
                yield fail(
                    name, f"GPU {local} did not do its work: {one['error']}", case.on(name, f"nvidia-smi -q -i {local}")
                )
            elif one["differing"]:
                yield fail(
                    name, f"GPU {local} computes the same product differently: {one['differing']} elements",
                    f"it is broken: leave it out with gpus= in the hostfile, and see  {case.on(name, f'nvidia-smi -q -i {local}')}",
                )  # fmt: skip
            else:
                same.setdefault(test.began[name][local]["gpu"], {})[f"{name}:{local}"] = one
    for model, rows in same.items():
        yield from _compared(case, model, rows)


def _compared(case: Case, model: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Verdict]:
    """GPUs of one model against each other: the same bits, and nearly the same speed."""
    for odd in outliers({place: row["bits"] for place, row in rows.items()}):
        for place in odd.hosts:
            name, _, local = place.rpartition(":")
            yield fail(
                name, f"GPU {local} ({model}) gets another product than the other {len(rows) - len(odd.hosts)} of its model",
                f"it, or its driver, is broken: leave it out with gpus=, and see  {case.on(name, f'nvidia-smi -q -i {local}')}",
            )  # fmt: skip
    usual = statistics.median(row["tflops"] for row in rows.values())
    for place, row in rows.items():
        name, _, local = place.rpartition(":")
        if row["tflops"] < SLOW_GPU * usual:
            saw = f"GPU {local} ({model}) does {row['tflops']:.0f} TFLOPS, {usual:.0f} is usual here"
            yield warn(
                name, saw, f"heat, power or a clock limit:  {case.on(name, f'nvidia-smi -q -d PERFORMANCE -i {local}')}"
            )
        else:
            yield ok(name, f"{row['tflops']:.0f} TFLOPS")


CHECKS = (
    Check(
        name="deep-sum", group="deep", worst="fail",
        verifies="Sums over all hosts, from one element up to 256 MB, are right bit for bit in every process.",
        why="A network card or a memory that changes bits spoils gradients without a word: the loss goes astray, or to NaN.",
        fix="Take the host that is named out, and run the check again.",
        judge=_sums,
    ),
    Check(
        name="deep-bandwidth", group="deep", worst="fail", unless=alone,
        verifies="In pairs, every host adds up tensors (64 KB to 64 MB, growing while one takes less than half a second) at "
        "half or more of the middle host's bus bandwidth (as nccl-tests count it); two that are slow only with each "
        "other are named as a link.",
        why="A sum over all goes at the pace of the slowest: one cable at a tenth of its speed slows every step of all.",
        fix="Cable, switch port, MTU or driver of the host that is named; ethtool IFACE tells speed and errors.",
        judge=_bandwidth,
    ),
    Check(
        name="deep-gpu", group="deep", worst="fail",
        verifies="Every GPU multiplies the same matrices for seconds: always to the same bits, to those of all others of "
        "its model, and at no less than 80 % of their middle speed.",
        why="A GPU that is hot, badly powered or broken slows every step, or spoils it.",
        fix="Cooling and supply; leave a GPU that computes otherwise out with gpus= in the hostfile.",
        judge=_gpus,
    ),
)  # fmt: skip
