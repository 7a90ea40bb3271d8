"""Checks of the accelerators: how many against what is asked for, alike, free, healthy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks import live
from fanout.checks.compare import age, grouped, outliers
from fanout.checks.model import Case, Check, Verdict, fail, info, ok, warn
from fanout.hosts import Host


def count(facts: Mapping[str, Any]) -> int:
    """Accelerators that this host has; 0 where it has none or none answered."""
    return len(facts.get("gpu", {}).get("gpus", ()))


def _slots(case: Case) -> Iterator[Verdict]:
    for name in case.hosts:
        host, found = case.host(name), count(case.facts[name])
        wanted = host.slots if host.slots is not None else len(host.gpus) or None
        why = case.missing.get(name, {}).get("gpu", "")
        if wanted is None and found:
            yield ok(name, f"{found} processes, one a GPU")
        elif wanted is None:
            reason = why or case.facts[name].get("gpu", {}).get("problem") or "no GPU"
            yield fail(name, f"{reason}, and the hostfile does not say how many processes to start", _say(host))
        elif found and wanted > found:
            yield fail(
                name, f"slots={wanted}, but {found} GPU{'s' * (found != 1)} there",
                f"{host.origin}: write  {name} slots={found}   (or see where a GPU went:  {case.on(name, 'nvidia-smi')})",
            )  # fmt: skip
        else:
            yield ok(name, f"{wanted} of {found} GPUs" if found else f"{wanted} process{'es' * (wanted != 1)}, no GPU")
    yield from _unequal(case)


def _say(host: Host) -> str:
    return f"write the number of processes:  {host.name} slots=N  in {host.origin.file}"


def _unequal(case: Case) -> Iterator[Verdict]:
    """torchrun takes unequal counts without a word, and computes ranks from the local one."""
    counts = {}
    for name in case.hosts:
        host = case.host(name)
        number = host.slots if host.slots is not None else len(host.gpus) or count(case.facts[name])
        if number:
            counts[name] = number
    for odd in outliers(counts):
        yield warn(
            odd.hosts, odd.against(lambda count: f"{count} process{'es' * (count != 1)}"),
            f"torchrun needs the same number everywhere: write slots={min(counts.values())} for all",
        )  # fmt: skip


def _answers(case: Case) -> Iterator[Verdict]:
    for name, gpu in case.of("gpu").items():
        if gpu["problem"]:
            lead = "" if "-smi" in gpu["problem"].split(" ", 1)[0].lower() else "nvidia-smi: "
            yield fail(name, lead + gpu["problem"], _cure(case, name, gpu["problem"]))
        elif gpu.get("module") and gpu["driver"] and gpu["module"] != gpu["driver"]:
            yield fail(
                name, f"the loaded kernel module is {gpu['module']}, the installed driver {gpu['driver']}",
                f"an upgrade waits for a reboot:  {case.on(name, 'sudo reboot')}",
            )  # fmt: skip
        else:
            yield ok(name, _inventory(gpu))


def _cure(case: Case, name: str, problem: str) -> str:
    if "mismatch" in problem:
        return f"the driver was upgraded under a loaded module:  {case.on(name, 'sudo reboot')}"
    if "communicate" in problem:
        return f"the kernel module is not loaded:  {case.on(name, 'sudo modprobe nvidia')}"
    return f"see there:  {case.on(name, 'nvidia-smi')}   and  {case.on(name, 'dmesg | grep -i xid')}"


def _inventory(gpu: Mapping[str, Any]) -> str:
    names = [str(row["name"]).replace("NVIDIA ", "") for row in gpu["gpus"]]
    return f"{len(names)}×{names[0]}" if names else "none"


def _alike(case: Case) -> Iterator[Verdict]:
    models = {
        name: sorted({(row["name"], row.get("memory.total", "")) for row in gpu["gpus"]})
        for name, gpu in case.of("gpu").items()
        if gpu["gpus"]
    }
    for odd in outliers(models):
        yield warn(
            odd.hosts, odd.against(_models), "the slowest GPU sets the pace, the smallest memory the batch",
        )  # fmt: skip


def _models(models: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {memory} MiB".replace(" MiB", "" if not memory else " MiB") for name, memory in models)


def _driver(case: Case) -> Iterator[Verdict]:
    drivers = {name: gpu["driver"] for name, gpu in case.of("gpu").items() if gpu.get("driver")}
    for odd in outliers(drivers):
        yield warn(
            odd.hosts,
            f"driver {odd.against()}",
            "install the same driver; until then compare  nvidia-smi  on both",
        )


def _busy(case: Case) -> Iterator[Verdict]:
    yield from _claimed(case)
    for name, gpu in case.of("gpu").items():
        index = {row.get("uuid"): row["index"] for row in gpu["gpus"]}
        for process in gpu["processes"][:4]:
            since = age(process["age"])
            where = f"GPU {index.get(process['gpu'], '?')}" if process["gpu"] else "some GPU"
            who = f"user {process['user'] or '?'}" + (f", since {since}" if since else "")
            command = process["command"] or "(a process that cannot be seen from here)"
            if process.get("run"):
                continue  # a run of ours that goes on, which is told as such
            yield warn(
                name, f"{where}: {process['memory']} MiB held by pid {process['pid']}  {command}  ({who})",
                f"stop it there with:  {case.on(name, 'kill ' + str(process['pid']))}",
            )  # fmt: skip


def _claimed(case: Case) -> Iterator[Verdict]:
    """GPUs that a run of this user holds: fanout refuses a second run on them."""
    for run, hosts in live.gpus(case).items():
        for held, names in grouped(hosts):
            yield fail(
                names, f"GPU {','.join(held)}: held by your run {run}, which goes on",
                f"wait for it, or end it:  {case.commands.fanout('stop', run)}",
            )  # fmt: skip


def _modes(case: Case) -> Iterator[Verdict]:
    for name, gpu in case.of("gpu").items():
        for row in gpu["gpus"]:
            if row.get("compute_mode") not in (None, "Default", "[N/A]"):
                yield warn(
                    name,
                    f"GPU {row['index']} is in compute mode {row['compute_mode']}",
                    case.on(name, f"sudo nvidia-smi -i {row['index']} -c 0"),
                )
            if row.get("mig.mode.current") == "Enabled":
                yield info(name, f"GPU {row['index']} is cut into MIG instances", "each process sees one instance only")


def _visible(case: Case) -> Iterator[Verdict]:
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")
    for host, environment in case.of("environment").items():
        for name in names:
            if name in environment and not case.host(host).gpus:
                yield warn(
                    host,
                    f"the login sets {name}={environment[name]}",
                    f"it hides GPUs from the run: remove it there, or say  {host} gpus=0,1,…  in the hostfile",
                )


CHECKS = (
    Check(
        name="slots", group="gpu", worst="fail",
        verifies="How many processes each host shall start is known, and there are as many GPUs; the same on all hosts.",
        why="NPROC_PER_NODE comes from slots=, else from the GPUs found. A guess would train with the wrong world size.",
        fix="Write slots=N behind the host in the hostfile.",
        judge=_slots,
    ),
    Check(
        name="gpu", group="gpu", worst="fail", needs=("gpu",),
        verifies="nvidia-smi answers within 10 seconds, and the loaded driver is the installed one.",
        why="A wedged GPU or an upgrade without reboot fails the run after rendezvous, on one host only.",
        fix="Reboot after a driver upgrade; for a GPU that fell off the bus see dmesg for its Xid.",
        judge=_answers,
    ),
    Check(
        name="gpu-model", group="gpu", worst="warn", needs=("gpu",),
        verifies="All hosts have the same GPUs.",
        why="The slowest sets the pace of all, the smallest runs out of memory first.",
        fix="Leave odd hosts out with -x, or accept it.",
        judge=_alike,
    ),
    Check(
        name="driver", group="gpu", worst="warn", needs=("gpu",),
        verifies="All hosts have the same driver.",
        why="Mixed drivers mostly work, and are the first thing to rule out when one host misbehaves.",
        fix="Install the same driver everywhere and hold it against unattended upgrades.",
        judge=_driver,
    ),
    Check(
        name="gpu-busy", group="gpu", worst="fail", needs=("gpu",),
        verifies="No process computes on the GPUs now, and no run of this user that goes on holds them (fail).",
        why="Its memory is missing (out of memory), its work slows every step.",
        fix="Agree with its owner, or stop it as the finding says.",
        judge=_busy,
    ),
    Check(
        name="gpu-mode", group="gpu", worst="warn", needs=("gpu",),
        verifies="Compute mode is Default; MIG is told.",
        why="In an exclusive mode a second process gets “device busy or unavailable”.",
        fix="sudo nvidia-smi -c 0.",
        judge=_modes,
    ),
    Check(
        name="gpu-visible", group="gpu", worst="warn", needs=("environment", "gpu"),
        verifies="The login does not set CUDA_VISIBLE_DEVICES or its relatives.",
        why="It hides GPUs from the run: “invalid device ordinal” on one host.",
        fix="Remove it from the host's profile, or choose GPUs with gpus= in the hostfile.",
        judge=_visible,
    ),
)  # fmt: skip
