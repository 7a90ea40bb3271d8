"""Availability of a host for a run: the runs and processes that use its GPUs or the port. Pure.

A host with GPUs is free if no run of fanout claims a GPU that the new run would use, and no process uses one. A host
without GPUs is free if no run of fanout, of any user, is on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fanout.model.frozen import frozen
from fanout.model.hosts import Host, fold_numbers
from fanout.text.sanitize import to_single_line
from fanout.text.units import format_duration

MOST_IDLE_MEMORY = 600  # MiB that the driver itself may hold on an idle GPU
PORT, GPU = "port-", "gpu-"


@frozen
class Holder:
    """Run or process that uses a part of a host. ``task`` is a run, a script or a command; ``age`` is in seconds.

    ``is_claim``: fanout knows when it ends. Another process may be one of several in a row.
    """

    user: str
    task: str
    age: float | None = None
    gpus: tuple[str, ...] = ()
    port: int | None = None
    is_claim: bool = False

    def __str__(self) -> str:
        """Return ``GPU 0-7: bob, train.py, 3 h``."""
        parts = [f"GPU {fold_gpus(self.gpus)}"] if self.gpus else []
        parts += [f"port {self.port}"] if self.port is not None else []
        age = format_duration(self.age // 60 * 60 if self.age >= 60 else self.age) if self.age is not None else ""
        return f"{' and '.join(parts) or 'in use'}: {', '.join(filter(None, (self.user, self.task, age)))}"


@frozen
class HostAvailability:
    """What prevents a run on one host now.

    ``port_holder`` matters only for the first host of a run, where torch binds the port. ``trouble`` is why the host could
    not be asked; ``can_heal``: it may pass by itself.
    """

    host: str
    holders: tuple[Holder, ...] = ()
    port_holder: Holder | None = None
    trouble: str = ""
    can_heal: bool = True

    def list_obstacles(self, *, first: bool = False) -> tuple[str, ...]:
        """Return what prevents a run here; empty if nothing does. ``first``: the host would be the run's first."""
        if self.trouble:
            return (self.trouble,)
        port = (self.port_holder,) if first and self.port_holder is not None else ()
        return tuple(str(holder) for holder in (*self.holders, *port))

    @property
    def has_foreign_process(self) -> bool:
        """Return whether a process without a claim uses the host. Its user may start the next one soon."""
        return any(not holder.is_claim for holder in self.holders)


def parse_availability(host: Host, value: Mapping[str, Any], port: int, *, fixed: bool = True) -> HostAvailability:
    """Return the availability of a host from its answer to the question of this name.

    If the port is not ``fixed``, a run that holds only this port is no obstacle: the new run uses another port. Without
    GPUs, every run is an obstacle, because nothing else shows that the host is in use.
    """
    if value["problem"]:
        problem = to_single_line(str(value["problem"]))
        return HostAvailability(host=host.name, trouble=f"its GPUs do not answer: {problem}", can_heal=False)
    indices = [str(gpu["index"]) for gpu in value["gpus"]]
    if (
        not fixed
        and indices
        and any(f"{PORT}{port}" in run["claims"] for run in (*value["runs"], *value["other_runs"]))
    ):
        value, port = {**value, "port": None}, 0
    wanted = list(host.gpus or indices[: host.slots if host.slots is not None else len(indices)]) if indices else []
    claims = list(_iter_claims(value, wanted, port, any_run=not indices))
    claimed = {(user, gpu) for user, holder in claims for gpu in holder.gpus}
    names = {str(gpu["uuid"]): str(gpu["index"]) for gpu in value["gpus"]}
    processes = list(_iter_processes(value["processes"], names, wanted, claimed))
    taken = {gpu for holder in (*(holder for _, holder in claims), *processes) for gpu in holder.gpus}
    ghosts = [gpu for gpu in value["gpus"] if gpu["index"] in wanted and gpu["index"] not in taken]
    memory = [_describe_ghost(gpu) for gpu in ghosts if (gpu["used"] or 0) > MOST_IDLE_MEMORY]
    scripts = _find_scripts(value["processes"], names)
    named = [_name_script(holder, scripts) for _, holder in claims]
    holders = (*named, *processes, *memory)
    return HostAvailability(host=host.name, holders=holders, port_holder=_find_port_holder(value["port"], port))


def _iter_claims(
    value: Mapping[str, Any], wanted: Sequence[str], port: int, *, any_run: bool
) -> Iterator[tuple[str, Holder]]:
    """Yield (user, holder) of each run that claims what the new run needs; with ``any_run``, of every run."""
    for run in (*value["runs"], *value["other_runs"]):
        gpus = tuple(claim[len(GPU) :] for claim in run["claims"] if claim.startswith(GPU))
        held = tuple(gpu for gpu in gpus if gpu in wanted)
        on_port = f"{PORT}{port}" in run["claims"]
        if held or on_port or any_run:
            user = str(run.get("user", "you")).partition(" (")[0]
            task = _shorten_title(str(run.get("title", ""))) or str(run["run"]) or "no run of fanout"
            shown_port = port if on_port and not held else None
            yield user, Holder(user=user, task=task, age=run["age"], gpus=held, port=shown_port, is_claim=True)


def _iter_processes(
    processes: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    wanted: Sequence[str],
    claimed: set[tuple[str, str]],
) -> Iterator[Holder]:
    """Yield the processes on wanted GPUs that belong to no run that holds these GPUs, one holder per user and command."""
    found: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    for process in processes:
        user, gpu = str(process.get("user") or "?"), names.get(str(process.get("gpu") or ""), "")
        owner = "you" if process.get("run") else user
        is_known = (owner, gpu) in claimed or (not gpu and any(owner == name for name, _ in claimed))
        if (gpu in wanted or (not gpu and wanted)) and not is_known:
            found.setdefault((user, _shorten_command(process)), []).append((gpu, process.get("age")))
    for (user, task), rows in found.items():
        ages = [age for _, age in rows if age is not None]
        gpus = tuple(dict.fromkeys(gpu for gpu, _ in rows if gpu))
        yield Holder(user=user, task=task, age=max(ages, default=None), gpus=gpus or ("?",))


def _find_scripts(processes: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return (user, GPU) -> the script of the user's first process there; the GPU is "" if it is unknown."""
    found: dict[tuple[str, str], str] = {}
    for process in processes:
        gpu = names.get(str(process.get("gpu") or ""), "")
        found.setdefault((str(process.get("user") or "?"), gpu), _shorten_command(process))
    return found


def _name_script(holder: Holder, scripts: Mapping[tuple[str, str], str]) -> Holder:
    """Return the holder with the script that runs on its GPUs, because a run id names nothing that users know."""
    running = (scripts.get((holder.user, gpu)) for gpu in (*holder.gpus, "") if holder.gpus)
    script = next(filter(None, running), "")
    return replace(holder, task=script) if script else holder


def _shorten_title(title: str) -> str:
    return os.path.basename(to_single_line(title).partition(" ")[0])


def _shorten_command(process: Mapping[str, Any]) -> str:
    """Return the script in a command line, else the program; without a command line, the pid."""
    words = to_single_line(str(process.get("command") or "")).split()
    script = next((word for word in words[1:] if word.endswith((".py", ".sh"))), words[0] if words else "")
    return os.path.basename(script) or f"pid {process['pid']}"


def _describe_ghost(gpu: Mapping[str, Any]) -> Holder:
    used = f"{gpu['used'] / 1024:.0f} GB in use by a process that is not visible"
    return Holder(user="", task=used, gpus=(str(gpu["index"]),))


def _find_port_holder(holder: Mapping[str, Any] | None, port: int) -> Holder | None:
    if holder is None:
        return None
    if holder.get("error"):
        return Holder(user="", task=f"cannot be bound: {holder['error']}", port=port)
    task = _shorten_command(holder) if holder.get("pid") is not None else ""
    return Holder(
        user=str(holder.get("user") or "a user that is not visible"), task=task, age=holder.get("age"), port=port
    )


def fold_gpus(names: Sequence[str]) -> str:
    """Return GPUs as ranges: ``0-3,6``. Names that are not numbers stay as they are."""
    numbers = {int(name) for name in names if name.isdecimal()}
    folded = [fold_numbers(numbers)] if numbers else []
    return ",".join([*folded, *(name for name in names if not name.isdecimal())])
