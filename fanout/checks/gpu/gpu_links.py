"""Checks around the GPUs: links between them, persistence mode, CUDA against the driver, GPUs on two hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fanout.checks.engine.comparison import find_outlier_groups, parse_version
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, ok, skip, warn
from fanout.model.hosts import fold_names

# The oldest driver under which a CUDA of this major version runs (NVIDIA's “CUDA minor version compatibility”).
_OLDEST_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 0)}


def _judge_persistence(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        off = [row["index"] for row in gpu["gpus"] if row.get("persistence_mode") == "Disabled"]
        if off:
            yield warn(
                name,
                f"GPU {','.join(off)}: the driver unloads when no process uses the GPU (persistence mode is off)",
                f"every start waits 2 to 10 s per process for the driver:  {case.format_remote_command(name, 'sudo nvidia-smi -pm 1')}",
            )


def _judge_links(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for different links between GPUs. Only hosts with the same GPUs are compared."""
    kinds: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}
    for name, gpu in case.get_section("gpu").items():
        links = gpu.get("links", {})
        if len(gpu["gpus"]) > 1 and links.get("paths"):
            models = tuple(sorted(row["name"] for row in gpu["gpus"]))
            kinds.setdefault(models, {})[name] = (
                _format_counts(links["paths"]),
                _format_counts(links.get("peers", {})),
            )
    for joined in kinds.values():
        for odd in find_outlier_groups(joined):
            yield warn(
                odd.hosts,
                f"pairs of GPUs: {odd.format_difference(_format_links)}",
                f"see  {case.format_remote_command(odd.hosts[0], 'nvidia-smi topo -m')}   and  {case.format_remote_command(odd.hosts[0], 'nvidia-smi nvlink -s')}   "
                "(an NVLink that is down; IOMMU or ACS that blocks one GPU from another)",
            )
        for name, (paths, _) in joined.items():
            yield ok(name, paths)
    judged = {name for joined in kinds.values() for name in joined}
    yield skip([name for name in case.hosts if name not in judged], "the driver reports no links between GPUs")


def _format_counts(words: Mapping[str, int]) -> str:
    return ", ".join(f"{count}×{word}" for word, count in words.items())


def _format_links(links: tuple[str, str]) -> str:
    paths, peers = links
    return f"{paths} (peer to peer {peers})" if peers else paths


def _judge_shared_gpus(case: CheckContext) -> Iterator[CheckResult]:
    """Yield failures for containers that share GPUs of one machine. Simulated hosts share them on purpose."""
    holders: dict[str, list[str]] = {}
    for name, gpu in case.get_section("gpu").items():
        for row in gpu["gpus"] if not case.facts[name].get("identity", {}).get("given") else ():
            if row.get("uuid"):
                holders.setdefault(row["uuid"], []).append(name)
    shared: dict[tuple[str, ...], int] = {}
    for hosts in holders.values():
        machines = {case.facts[name].get("identity", {}).get("host_id", name) for name in hosts}
        if len(machines) > 1:  # the check same-machine reports one machine under two names
            shared[tuple(hosts)] = shared.get(tuple(hosts), 0) + 1
    for names, count in shared.items():
        yield fail(
            names[1:],
            f"has {count} GPU{'s' * (count != 1)} in common with {names[0]}: containers on one machine",
            f"give each its own GPUs, for instance  {names[1]} gpus=4,5,6,7   or exclude it:  -x {fold_names(names[1:])}",
        )


def _judge_cuda(case: CheckContext) -> Iterator[CheckResult]:
    for name, software in case.get_section("software").items():
        cuda, driver = (
            parse_version(software["torch"].get("cuda")),
            parse_version(case.facts[name]["gpu"].get("driver")),
        )
        oldest = _OLDEST_DRIVER.get(cuda[0]) if cuda else None
        if not oldest or not driver:
            yield skip(name, "torch's CUDA or the driver's version is not known")
        elif driver < oldest:
            yield warn(
                name,
                f"torch is built for CUDA {software['torch']['cuda']}, which needs driver {oldest[0]} or later; "
                f"the driver is {case.facts[name]['gpu']['driver']}",
                "“The NVIDIA driver on your system is too old”: upgrade the driver, or install a torch for an older CUDA",
            )


CHECKS = (
    Check(
        name="gpu-persistence", group="gpu", worst="warn", needs=("gpu",), place="machine",
        verifies="Persistence mode is on, or nvidia-persistenced runs.",
        why="Otherwise the driver initializes a GPU again for each first process. This takes 2 to 10 seconds and loses settings.",
        fix="Run sudo nvidia-smi -pm 1, or enable nvidia-persistenced.",
        judge=_judge_persistence,
    ),
    Check(
        name="gpu-links", group="gpu", worst="warn", needs=("gpu",),
        verifies="Pairs of GPUs are connected in the same way (NVLinks, PCIe, peer to peer) on all hosts with the same GPUs.",
        why="One NVLink that is down, or an IOMMU that blocks one GPU from another, slows every step of all ranks.",
        fix="Compare nvidia-smi topo -m and nvidia-smi nvlink -s on the named host with those of another host.",
        judge=_judge_links,
    ),
    Check(
        name="gpu-once", group="gpu", worst="fail", needs=("gpu",),
        verifies="No GPU (by its UUID) is on two hosts.",
        why="If containers on one machine share GPUs, the run ends with “Duplicate GPU detected” or out of memory.",
        fix="Give each container its own GPUs, or exclude one with -x.",
        judge=_judge_shared_gpus,
    ),
    Check(
        name="cuda", group="gpu", worst="warn", needs=("software", "gpu"),
        verifies="The driver is new enough for the CUDA version that torch was built for.",
        why="With an older driver torch sees no GPU: “The NVIDIA driver on your system is too old”.",
        fix="Upgrade the driver, or install a torch for an older CUDA.",
        judge=_judge_cuda,
    ),
)  # fmt: skip
