"""Checks of the containers of a run: engine, image, network, work directory, GPUs. Pure.

Each compares the container with its machine, so the host's own agent answers a part. Hosts without a container are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.comparison import OutlierGroup, find_outlier_groups
from fanout.checks.engine.definition import (
    Check,
    CheckContext,
    CheckResult,
    info,
    ok,
    skip,
    warn,
)
from fanout.checks.engine.machine_facts import get_machine_section, leave_containers, skip_without_machine
from fanout.text.units import count_noun

_GPU_OPTIONS = {
    "nvidia": "--gpus all  or  --device nvidia.com/gpu=all",
    "amd": "--device /dev/kfd --device /dev/dri",
    "ascend": "--device /dev/davinci0",
}
_SHOWN = 19  # characters of a digest: sha256: and twelve digits, as docker shows it


def _judge_engine(case: CheckContext) -> Iterator[CheckResult]:
    """Yield the name of each engine. A rootless one needs a user manager that outlives the logins."""
    yield from skip_without_machine(case, "engine")
    sessions = get_machine_section(case, "session")
    for name, engine in get_machine_section(case, "engine").items():
        session = sessions.get(name, {})
        if engine["rootless"] and session.get("logind") and not session.get("linger"):
            level = info if case.request.attached else warn
            yield level(
                name,
                f"rootless {engine['engine']}: systemd stops the containers of this user when the last login there closes",
                f"keep them:  {_on_machine(case, name, 'sudo loginctl enable-linger $(id -un)')}",
            )
        else:
            yield ok(name, f"{engine['engine']}{', rootless' * engine['rootless']}")


def _on_machine(case: CheckContext, name: str, command: str) -> str:
    """Return the command line that runs a command on the machine of a container."""
    return leave_containers(case.commands).build_remote_command(name, command)


def _judge_image(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for hosts with another image. Ids and digests of different engines cannot be compared."""
    yield from skip_without_machine(case, "engine")
    by_engine: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, engine in get_machine_section(case, "engine").items():
        if engine["image"]:
            by_engine.setdefault(engine["engine"], {})[name] = engine
        else:
            yield skip(name, "the container was not made from an image")
    for mine in by_engine.values() if len(case.request.hosts) > 1 else ():
        yield from _compare_images(case, mine)


def _compare_images(case: CheckContext, engines: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckResult]:
    """Compare the images of one engine by id, or by digest: one image has different ids in different stores."""
    ids = {name: str(engine["image"]) for name, engine in engines.items()}
    digests = {name: tuple(engine["digests"]) for name, engine in engines.items()}
    has_digests = all(digests.values())
    values = {name: digests[name][0] for name in digests} if has_digests else ids
    if len(set(ids.values())) < 2 or (has_digests and set.intersection(*map(set, digests.values()))):
        yield ok(ids, "the same image")
        return
    for odd in find_outlier_groups(values):
        verdict = warn if has_digests else info
        sure = "" if has_digests else " by their ids (an image that was never in a registry has no digest)"
        yield verdict(
            odd.hosts,
            f"another image{sure}: {odd.format_difference(_shorten_digest)}",
            f"use one image on all hosts: name it by its digest, or copy it:  {_format_copy(case, engines, odd)}",
        )


def _format_copy(case: CheckContext, engines: Mapping[str, Mapping[str, Any]], odd: OutlierGroup[str]) -> str:
    """Return the command that copies the usual image to a host with another one."""
    source, host = odd.others[0], odd.hosts[0]
    program, image = engines[source]["engine"], case.get_host(source).image or engines[source]["image"]
    return f"{_on_machine(case, source, f'{program} save {image}')} | {_on_machine(case, host, f'{program} load')}"


def _shorten_digest(digest: str) -> str:
    return digest[: _SHOWN if digest.startswith("sha256:") else 12]


def _judge_network(case: CheckContext) -> Iterator[CheckResult]:
    if len(case.request.hosts) == 1:
        yield skip(case.hosts, "")
        return
    yield from skip_without_machine(case, "identity")
    inside = case.get_section("identity")
    engines = get_machine_section(case, "engine")
    for name, identity in get_machine_section(case, "identity").items():
        if identity["netns"] == inside[name]["netns"]:
            continue
        if engines.get(name, {}).get("network") == "host":
            cure = "its engine is rootless, so the network of the engine is not that of the machine: use podman, or docker as root"
        else:
            cure = case.choose_cure(name, "--network host", "")
        yield warn(name, "the container has a network of its own: the other hosts cannot reach its ports", cure)


def _judge_workdir(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a warning for a work directory that only the container has, and a note for one with two places."""
    yield from skip_without_machine(case, "files")
    outside = get_machine_section(case, "files")
    for name, files in case.get_section("files").items():
        row = files.get("workdir", {})
        if name not in outside or row.get("kind") != "directory":
            continue
        there = outside[name].get("workdir", {})
        if row.get("mount", {}).get("point") == "/" and row.get("place") != there.get("place"):
            yield warn(
                name,
                f"the work directory {row['path']} is only in the container: its files are deleted with the container",
                case.choose_cure(name, f"--mount type=bind,src={row['path']},dst={row['path']}", ""),
            )
        elif row.get("place") != there.get("place"):
            what = "another directory" if there.get("kind") == "directory" else "not there"
            yield info(name, f"the work directory {row['path']} of the container is {what} on the machine itself")


def _judge_gpus(case: CheckContext) -> Iterator[CheckResult]:
    yield from skip_without_machine(case, "identity")
    for name, gpu in get_machine_section(case, "gpu").items():
        count, inside = len(gpu["gpus"]), len(case.facts[name].get("gpu", {}).get("gpus", ()))
        if count and not inside and case.missing.get(name, {}).get("gpu") == "no GPU":
            yield warn(
                name,
                f"the machine has {count_noun(count, 'GPU')}, and the container sees none",
                case.choose_cure(name, _GPU_OPTIONS.get(gpu["vendor"], "--device DEVICE"), ""),
            )
        elif inside:
            yield ok(name, f"{inside} of {count} GPUs" if inside != count else "all GPUs")


def _judge_gpu_hook(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings where systemd takes the GPUs from a running container: it does not know what a hook has added."""
    yield from skip_without_machine(case, "engine")
    for name, engine in get_machine_section(case, "engine").items():
        if engine["gpu_hook"] and engine["cgroup_driver"] == "systemd" and not engine["gpu_links"]:
            yield warn(
                name,
                "the container loses its GPUs when systemd reloads its units: NVIDIA's hook has added them",
                f"link the devices:  {_on_machine(case, name, 'sudo nvidia-ctk system create-dev-char-symlinks --create-all')}"
                "   or create the container with  --device nvidia.com/gpu=all",
            )


CHECKS = (
    Check(
        name="engine", group="container", worst="warn", outside=("engine", "session"),
        verifies="The engine of the container is named, and whether it is rootless. A rootless engine keeps its containers "
        "after the last logout.",
        why="systemd ends all processes of a user without lingering at the last logout, and rootless containers are among them.",
        fix="Run sudo loginctl enable-linger USER.",
        judge=_judge_engine,
    ),
    Check(
        name="image", group="container", worst="warn", outside=("engine",),
        verifies="The containers of all hosts with the same engine have the same image, by its digest, or by its id if it has none.",
        why="A tag such as latest names different images on different days: other versions of torch and NCCL.",
        fix="Name the image by its digest (IMAGE@sha256:…), or copy it: docker save IMAGE | ssh HOST docker load.",
        judge=_judge_image,
    ),
    Check(
        name="container-network", group="container", worst="warn", needs=("identity",), outside=("identity", "engine"),
        verifies="The container has the network of its machine (--network host).",
        why="Otherwise no other host can reach MASTER_ADDR or the ports of NCCL and gloo, which are free ports.",
        fix="Create the container again with --network host.",
        judge=_judge_network,
    ),
    Check(
        name="container-workdir", group="container", worst="warn", needs=("files",), outside=("files",),
        verifies="The work directory of the container is the same directory of the machine.",
        why="Files in the container's own layer are deleted with it: logs, checkpoints, and the code that was copied there.",
        fix="Create the container again with --mount type=bind,src=DIR,dst=DIR.",
        judge=_judge_workdir,
    ),
    Check(
        name="container-gpus", group="container", worst="warn", outside=("gpu", "identity"),
        verifies="If the machine has GPUs, the container sees some.",
        why="A container sees no GPU without an option. The check gpu then reports only that there is none.",
        fix="Create the container again with --gpus all, or with --device nvidia.com/gpu=all.",
        judge=_judge_gpus,
    ),
    Check(
        name="gpu-hook", group="container", worst="warn", outside=("engine",),
        verifies="The GPUs stay in the container when systemd reloads its units. They do with CDI, with another cgroup driver "
        "than systemd, and with the links in /dev/char.",
        why="“Failed to initialize NVML: Unknown Error” in the middle of a run, after any systemctl daemon-reload "
        "(NVIDIA container toolkit, issue 48).",
        fix="Run sudo nvidia-ctk system create-dev-char-symlinks --create-all, or use --device nvidia.com/gpu=all.",
        judge=_judge_gpu_hook,
    ),
)  # fmt: skip
