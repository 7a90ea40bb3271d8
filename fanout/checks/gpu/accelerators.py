"""Checks of the GPUs: number against slots, model, driver, other processes on them, modes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups, group_hosts_by_value
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, info, ok, warn
from fanout.checks.system import live_runs
from fanout.model.hosts import Host
from fanout.text.units import format_duration

_ADVISE_TURNS = "ask that user, use other hosts (--pick free), or let the run start when they are free (--wait)"


def count_gpus(facts: Mapping[str, Any]) -> int:
    """Return the number of GPUs of a host; 0 if it has none or they did not answer."""
    return len(facts.get("gpu", {}).get("gpus", ()))


def _judge_slots(case: CheckContext) -> Iterator[CheckResult]:
    for name in case.hosts:
        host, found = case.get_host(name), count_gpus(case.facts[name])
        wanted = host.slots if host.slots is not None else len(host.gpus) or None
        why = case.missing.get(name, {}).get("gpu", "")
        if wanted is None and found:
            yield ok(name, f"{found} processes, one per GPU")
        elif wanted is None:
            reason = why or case.facts[name].get("gpu", {}).get("problem") or "no GPU"
            yield fail(name, f"{reason}, and the hostfile does not set the number of processes", _advise_slots(host))
        elif found and wanted > found:
            yield fail(
                name,
                f"slots={wanted}, but the host has {found} GPU{'s' * (found != 1)}",
                f"{host.origin}: write  {name} slots={found}   (or list the GPUs:  {case.format_remote_command(name, 'nvidia-smi')})",
            )
        else:
            yield ok(name, f"{wanted} of {found} GPUs" if found else f"{wanted} process{'es' * (wanted != 1)}, no GPU")
    yield from _judge_unequal_counts(case)


def _advise_slots(host: Host) -> str:
    return f"write the number of processes:  {host.name} slots=N  in {host.origin.file}"


def _judge_unequal_counts(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for unequal process counts: torchrun accepts them, and computes wrong ranks from the local count."""
    counts = {}
    for name in case.hosts:
        host = case.get_host(name)
        number = host.slots if host.slots is not None else len(host.gpus) or count_gpus(case.facts[name])
        if number:
            counts[name] = number
    for odd in find_outlier_groups(counts):
        yield warn(
            odd.hosts,
            odd.format_difference(lambda count: f"{count} process{'es' * (count != 1)}"),
            f"torchrun needs the same number on all hosts: write slots={min(counts.values())} for each",
        )


def _judge_driver_answer(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        if gpu["problem"]:
            lead = "" if "-smi" in gpu["problem"].split(" ", 1)[0].lower() else "nvidia-smi: "
            yield fail(name, lead + gpu["problem"], _advise_driver(case, name, gpu["problem"]))
        elif gpu.get("module") and gpu["driver"] and gpu["module"] != gpu["driver"]:
            yield fail(
                name,
                f"the loaded kernel module is {gpu['module']}, the installed driver {gpu['driver']}",
                f"an upgrade waits for a reboot:  {case.format_remote_command(name, 'sudo reboot')}",
            )
        else:
            yield ok(name, _format_inventory(gpu))


def _advise_driver(case: CheckContext, name: str, problem: str) -> str:
    if "mismatch" in problem:
        return f"the driver was upgraded under a loaded module:  {case.format_remote_command(name, 'sudo reboot')}"
    if "communicate" in problem:
        return f"the kernel module is not loaded:  {case.format_remote_command(name, 'sudo modprobe nvidia')}"
    return f"see  {case.format_remote_command(name, 'nvidia-smi')}   and  {case.format_remote_command(name, 'dmesg | grep -i xid')}"


def _format_inventory(gpu: Mapping[str, Any]) -> str:
    names = [str(row["name"]).replace("NVIDIA ", "") for row in gpu["gpus"]]
    return f"{len(names)}×{names[0]}" if names else "none"


def _judge_models(case: CheckContext) -> Iterator[CheckResult]:
    models = {
        name: sorted({(row["name"], row.get("memory.total", "")) for row in gpu["gpus"]})
        for name, gpu in case.get_section("gpu").items()
        if gpu["gpus"]
    }
    for odd in find_outlier_groups(models):
        yield warn(
            odd.hosts,
            odd.format_difference(_format_models),
            "the slowest GPU limits the speed, and the smallest memory limits the batch size",
        )


def _format_models(models: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {memory} MiB".replace(" MiB", "" if not memory else " MiB") for name, memory in models)


def _judge_driver(case: CheckContext) -> Iterator[CheckResult]:
    drivers = {name: gpu["driver"] for name, gpu in case.get_section("gpu").items() if gpu.get("driver")}
    for odd in find_outlier_groups(drivers):
        yield warn(
            odd.hosts,
            f"driver {odd.format_difference()}",
            "install the same driver; until then compare  nvidia-smi  on both hosts",
        )


def _judge_gpu_processes(case: CheckContext) -> Iterator[CheckResult]:
    yield from _judge_claimed_gpus(case)
    for name, gpu in case.get_section("gpu").items():
        index = {row.get("uuid"): row["index"] for row in gpu["gpus"]}
        for process in gpu["processes"][:4]:
            since = format_duration(process["age"]) if process["age"] is not None else ""
            where = f"GPU {index.get(process['gpu'], '?')}" if process["gpu"] else "a GPU"
            who = f"user {process['user'] or '?'}" + (f", since {since}" if since else "")
            command = process["command"] or "(a process that this user cannot see)"
            if process.get("run"):
                continue  # a run of this user, which ``_judge_claimed_gpus`` reports
            yield warn(
                name,
                f"{where}: {process['memory']} MiB held by pid {process['pid']}  {command}  ({who})",
                f"stop it:  {case.format_remote_command(name, 'kill ' + str(process['pid']))}",
            )


def _judge_claimed_gpus(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a failure for GPUs that a run of any user holds: fanout refuses a second run on them."""
    for run, hosts in live_runs.find_gpu_holders(case).items():
        for held, names in group_hosts_by_value(hosts):
            yield fail(
                names,
                f"GPU {','.join(held)}: held by your run {run}, which is still running",
                f"wait for it, or stop it:  {case.commands.build_fanout_command('stop', run)}",
            )
    for name, holders in live_runs.find_others_on_gpus(case).items():
        for holder, held in holders:
            yield fail(name, f"GPU {','.join(held)}: held by {holder}", _ADVISE_TURNS)


def _judge_modes(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        for row in gpu["gpus"]:
            if row.get("compute_mode") not in (None, "Default", "[N/A]"):
                yield warn(
                    name,
                    f"GPU {row['index']} is in compute mode {row['compute_mode']}",
                    case.format_remote_command(name, f"sudo nvidia-smi -i {row['index']} -c 0"),
                )
            if row.get("mig.mode.current") == "Enabled":
                yield info(
                    name, f"GPU {row['index']} is split into MIG instances", "each process sees only one instance"
                )


def _judge_visible(case: CheckContext) -> Iterator[CheckResult]:
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")
    for host, environment in case.get_section("environment").items():
        for name in names:
            if name in environment and not case.get_host(host).gpus:
                yield warn(
                    host,
                    f"the login sets {name}={environment[name]}",
                    f"it hides GPUs from the run: remove it on that host, or write  {host} gpus=0,1,…  in the hostfile",
                )


CHECKS = (
    Check(
        name="slots", group="gpu", worst="fail",
        verifies="The number of processes per host is known, no host has fewer GPUs, and the number is equal on all hosts.",
        why="NPROC_PER_NODE comes from slots=, or else from the number of GPUs. With a guess, the world size would be wrong.",
        fix="Write slots=N after the host in the hostfile.",
        judge=_judge_slots,
    ),
    Check(
        name="gpu", group="gpu", worst="fail", needs=("gpu",),
        verifies="nvidia-smi answers within 10 seconds, and the loaded driver is the installed one.",
        why="A hung GPU or an upgrade without a reboot fails the run after the rendezvous, on one host only.",
        fix="Reboot after a driver upgrade. For a GPU that fell off the bus, look for its Xid in dmesg.",
        judge=_judge_driver_answer,
    ),
    Check(
        name="gpu-model", group="gpu", worst="warn", needs=("gpu",),
        verifies="All hosts have the same GPUs.",
        why="The slowest GPU limits the speed of all ranks, and the smallest runs out of memory first.",
        fix="Exclude the hosts that differ with -x, or accept it.",
        judge=_judge_models,
    ),
    Check(
        name="driver", group="gpu", worst="warn", needs=("gpu",),
        verifies="All hosts have the same driver.",
        why="Mixed drivers usually work, but they are a common cause when only one host fails.",
        fix="Install the same driver on all hosts, and exclude it from unattended upgrades.",
        judge=_judge_driver,
    ),
    Check(
        name="gpu-busy", group="gpu", worst="fail", needs=("gpu",),
        verifies="No process uses the GPUs now, and no other run of any user holds them (fail).",
        why="Another process takes memory (out of memory) and slows every step.",
        fix="Ask its owner, or stop it with the command in the finding.",
        judge=_judge_gpu_processes,
    ),
    Check(
        name="gpu-mode", group="gpu", worst="warn", needs=("gpu",),
        verifies="The compute mode is Default; MIG is reported as a note.",
        why="In an exclusive mode a second process gets “device busy or unavailable”.",
        fix="Run sudo nvidia-smi -c 0.",
        judge=_judge_modes,
    ),
    Check(
        name="gpu-visible", group="gpu", worst="warn", needs=("environment", "gpu"),
        verifies="The login does not set CUDA_VISIBLE_DEVICES or a similar variable.",
        why="Such a variable hides GPUs from the run: “invalid device ordinal” on one host.",
        fix="Remove it from the host's profile, or choose GPUs with gpus= in the hostfile.",
        judge=_judge_visible,
    ),
)  # fmt: skip
