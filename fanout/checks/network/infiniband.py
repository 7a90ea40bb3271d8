"""Checks of InfiniBand and RoCE: active ports, equal rates, error counters, and access for the user and the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from fanout.checks.engine.comparison import compute_medians_of_others, find_differing_keys, find_outlier_groups
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, info, ok, skip, warn

_FEW = 10  # errors since boot that a restarted switch or a plugged cable explains


def _judge_ports(case: CheckContext) -> Iterator[CheckResult]:
    ports = case.get_section("infiniband")
    if not any(ports.values()):
        yield skip(ports, "no InfiniBand")
        return
    active = {name: sorted(row["rate"] for row in rows if row["state"] == "ACTIVE") for name, rows in ports.items()}
    for odd in find_outlier_groups(active):
        first = odd.hosts[0]
        down = [row["port"] for row in ports[first] if row["state"] != "ACTIVE"]
        which = f"; down: {' '.join(down[:4])}" if down else ""
        yield warn(
            odd.hosts,
            f"active InfiniBand ports: {odd.format_difference(_format_rates)}{which}",
            f"see them:  {case.format_remote_command(first, 'ibstat')}",
        )
    for name, rows in ports.items():
        if rows and not rows[0]["usable"]:
            yield warn(
                name,
                "this user may not open /dev/infiniband/uverbs*",
                "NCCL falls back to slow sockets; "
                + case.choose_cure(
                    name,
                    "--device /dev/infiniband",
                    f"add the user to the group:  {case.format_remote_command(name, 'sudo usermod -aG rdma $(id -un)')}",
                ),
            )
        elif rows and not rows[0]["library"]:
            yield warn(
                name,
                "libibverbs.so.1 is missing, which NCCL needs to open the ports",
                f"NCCL falls back to slow sockets; install it:  {case.format_remote_command(name, 'sudo apt install libibverbs1 ibverbs-providers')}",
            )


def _format_rates(rates: list[str]) -> str:
    return f"{len(rates)} ({', '.join(sorted(set(rates)))})" if rates else "none"


def _judge_errors(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a note for hosts with many more errors than the others. The counters start at boot, so few are normal."""
    counted = {name: _count_errors(rows) for name, rows in case.get_section("infiniband").items() if rows}
    yield skip([name for name in case.hosts if name not in counted], "no InfiniBand")
    sums = {name: float(sum(counters.values())) for name, counters in counted.items()}
    usual = compute_medians_of_others(sums)
    for name, counters in counted.items():
        if sums[name] > max(_FEW, 10 * usual.get(name, 0.0)):
            worst = sorted(counters, key=lambda key: -counters[key])[:3]
            others = f"; {usual[name]:.0f} is the median of the others" if name in usual else ""
            yield info(
                name,
                f"errors since boot: {', '.join(f'{key} {counters[key]}' for key in worst)}{others}",
                f"if they grow during a run (its report shows it), the cable or port is bad:  {case.format_remote_command(name, 'perfquery -x')}",
            )


def _count_errors(rows: list[Mapping[str, Any]]) -> dict[str, int]:
    return {f"{row['port']} {key}": count for row in rows for key, count in row["errors"].items() if count}


def _judge_gids(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for RoCE GID tables that differ. NCCL uses one index for all hosts, so its kind must be equal."""
    tables = {
        name: next((row["gids"] for row in rows if _is_roce(row)), None)
        for name, rows in case.get_section("infiniband").items()
    }
    roce = {name: table for name, table in tables.items() if table is not None}
    for name in (name for name in case.hosts if name not in roce):
        yield skip(name, "no RoCE" if case.facts[name]["infiniband"] else "no InfiniBand")
    for odd in find_outlier_groups(roce):
        index = find_differing_keys(odd.usual, odd.value)[0]
        yield warn(
            odd.hosts,
            f"RoCE address (GID) {index}: {odd.format_difference(partial(_get_gid_kind, index))}",
            "let NCCL (2.21 or later) choose:  --env NCCL_IB_GID_INDEX=-1   or name each host's:  "
            f"{odd.hosts[0]} env.NCCL_IB_GID_INDEX=N",
        )


def _get_gid_kind(index: str, table: Mapping[str, str]) -> str:
    return table.get(index, "nothing")


def _is_roce(row: Mapping[str, Any]) -> bool:
    return bool(row["link"] == "Ethernet" and row["state"] == "ACTIVE")


def _judge_gpu_direct(case: CheckContext) -> Iterator[CheckResult]:
    for name in case.hosts:
        gpu = case.facts[name].get("gpu", {})
        if not case.facts[name]["infiniband"]:
            yield skip(name, "no InfiniBand")
        elif gpu.get("vendor") != "nvidia" or not gpu["gpus"]:
            yield skip(name, "no NVIDIA GPU")
        elif gpu.get("direct"):
            yield ok(name, gpu["direct"])
        else:
            yield info(
                name,
                "the network card cannot read GPU memory: neither nvidia_peermem nor the open driver is loaded",
                f"data goes through main memory, at half the bandwidth; load the module:  {case.format_remote_command(name, 'sudo modprobe nvidia-peermem')}",
            )


CHECKS = (
    Check(
        name="infiniband", group="network", worst="warn", needs=("infiniband",),
        verifies="All hosts have the same number of active InfiniBand ports at the same rate. The user may open them, and "
        "libibverbs is installed.",
        why="If one port is down, the whole process group falls back to sockets or to a lower rate.",
        fix="ibstat names the port. Check its cable, the subnet manager, the user's membership in the group rdma, and "
        "libibverbs1.",
        judge=_judge_ports,
    ),
    Check(
        name="ib-errors", group="network", worst="info", needs=("infiniband",), place="machine",
        verifies="No host's InfiniBand ports have counted many more errors since boot than those of the others. After a failed "
        "run fanout reads the counters again, and the report shows which ones grew.",
        why="A link that flaps ends a run with “status=12 vendor err 129”, which names neither cable nor port.",
        fix="Check the cable, optics or switch port of the named port.",
        judge=_judge_errors,
    ),
    Check(
        name="roce-gids", group="network", worst="warn", needs=("infiniband",),
        verifies="With RoCE (InfiniBand over Ethernet), the same index is the same kind of address (GID) on every host.",
        why="NCCL uses one index on all hosts. If its kind differs, the connection fails with “ibv_modify_qp failed”.",
        fix="Set NCCL_IB_GID_INDEX=-1 on all hosts, or the right index on each host.",
        judge=_judge_gids,
    ),
    Check(
        name="gpu-direct", group="network", worst="info", needs=("infiniband",),
        verifies="On hosts with InfiniBand and NVIDIA GPUs, the network card can read GPU memory directly (nvidia_peermem, or "
        "dma-buf of the open driver).",
        why="Otherwise all data goes through main memory, at half the bandwidth.",
        fix="Run modprobe nvidia-peermem, or install the open kernel modules of the driver.",
        judge=_judge_gpu_direct,
    ),
)  # fmt: skip
