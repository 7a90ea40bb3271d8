"""Usage of a host: its load, its GPUs, the processes on them and the runs of all users, as values. Pure.

A host sends one complete sample, then only what has changed. Sizes are in MiB, times in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from fanout.model.frozen import frozen
from fanout.sharing.availability import GPU, MOST_IDLE_MEMORY
from fanout.text.sanitize import to_single_line

LISTS = ("gpus", "processes", "runs")


class Reach(Enum):
    """Whether a host answers."""

    CONNECTING = "connecting"
    UP = "up"
    UNREACHABLE = "unreachable"  # it is tried again
    REFUSED = "refused"  # it is not tried again: the login needs the user


@frozen
class GpuUsage:
    """One GPU. Unknown values are None. ``is_free``: no run claims it, no process is on it, and its memory is empty."""

    index: str
    name: str = ""
    util: float | None = None
    used: float | None = None
    total: float | None = None
    temp: float | None = None
    watts: float | None = None
    limit: float | None = None
    ecc: int | None = None  # uncorrected errors since the driver was loaded
    throttled: tuple[str, ...] = ()
    xid: int | None = None
    xid_text: str = ""
    xid_at: float | None = None
    health: str = ""
    is_lost: bool = False  # the driver no longer answers for it
    users: tuple[str, ...] = ()
    is_free: bool = False


@frozen
class ProcessUsage:
    """Process on a GPU. ``gpu`` is "" if the tool does not report which, ``user`` is "" if the process is not visible."""

    gpu: str
    pid: int
    memory: float | None = None
    user: str = ""
    command: str = ""
    since: float | None = None
    run: str = ""


@frozen
class RunUsage:
    """Run of any user that holds claims; ``run`` is "" if its process reports none."""

    user: str
    run: str
    pid: int | None = None
    since: float | None = None
    claims: tuple[str, ...] = ()

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(claim[len(GPU) :] for claim in self.claims if claim.startswith(GPU))


@frozen
class HostUsage:
    """One host at the time ``at``, which is None before the first sample. ``trouble`` is why it does not answer."""

    host: str
    reach: Reach = Reach.CONNECTING
    trouble: str = ""
    at: float | None = None
    cpu: float | None = None
    cores: int | None = None
    memory: tuple[float, float] | None = None  # used, total
    disk: tuple[float, float] | None = None  # free, total, of the work directory
    gpu_problem: str = ""
    xids_unread: str = ""  # why the Xid errors are unknown
    gpus: tuple[GpuUsage, ...] = ()
    processes: tuple[ProcessUsage, ...] = ()
    runs: tuple[RunUsage, ...] = ()

    @property
    def is_up(self) -> bool:
        return self.reach is Reach.UP

    @property
    def free_gpus(self) -> tuple[str, ...]:
        return tuple(gpu.index for gpu in self.gpus if gpu.is_free)

    @property
    def is_free(self) -> bool:
        """Return whether a run could start here: a GPU is free, or there is no GPU and no run."""
        if not self.is_up or self.at is None or self.gpu_problem:
            return False
        return bool(self.free_gpus) if self.gpus else not self.runs

    @property
    def users(self) -> frozenset[str]:
        names = [process.user for process in self.processes] + [run.user for run in self.runs]
        return frozenset(filter(None, names))

    @property
    def utilisation(self) -> float | None:
        """Return the mean utilisation of the GPUs."""
        return _compute_mean([gpu.util for gpu in self.gpus])

    @property
    def gpu_memory(self) -> tuple[float, float] | None:
        """Return (used, total) of all GPUs that report both."""
        pairs = [(gpu.used, gpu.total) for gpu in self.gpus if gpu.used is not None and gpu.total is not None]
        return (sum(used for used, _ in pairs), sum(total for _, total in pairs)) if pairs else None

    @property
    def temp(self) -> float | None:
        """Return the temperature of the hottest GPU."""
        return max((gpu.temp for gpu in self.gpus if gpu.temp is not None), default=None)

    @property
    def watts(self) -> float | None:
        """Return the power of all GPUs together."""
        known = [gpu.watts for gpu in self.gpus if gpu.watts is not None]
        return sum(known) if known else None


def _compute_mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def apply_changes(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sample after ``changes``, which a host sent."""
    base: Mapping[str, Any] = {} if changes["whole"] else before
    sample: dict[str, Any] = {"host": {**base.get("host", {}), **changes.get("host", {})}}
    for name in LISTS:
        gone = changes.get("gone", {}).get(name, ())
        entries = {key: entry for key, entry in base.get(name, {}).items() if key not in gone}
        for key, entry in changes.get(name, {}).items():
            entries[key] = {**entries.get(key, {}), **entry}
        sample[name] = entries
    return sample


def build_usage(host: str, sample: Mapping[str, Any], at: float, mask: Callable[[str], str] = str) -> HostUsage:
    """Return the usage of a host from its sample. ``mask`` hides secrets in a command line."""
    processes = tuple(_build_process(entry, mask) for entry in sample["processes"].values())
    runs = tuple(_build_run(entry) for entry in sample["runs"].values())
    facts = sample["host"]
    return HostUsage(
        host=host,
        reach=Reach.UP,
        at=at,
        cpu=facts.get("cpu"),
        cores=facts.get("cores"),
        memory=_to_pair(facts.get("memory")),
        disk=_to_pair(facts.get("disk")),
        gpu_problem=to_single_line(facts.get("problem") or ""),
        xids_unread=to_single_line(facts.get("xids_unread") or ""),
        gpus=tuple(
            _build_gpu(index, entry, processes, runs)
            for index, entry in sorted(sample["gpus"].items(), key=lambda pair: _order_index(pair[0]))
        ),
        processes=tuple(sorted(processes, key=lambda process: (_order_index(process.gpu), process.pid))),
        runs=runs,
    )


def _order_index(index: str) -> tuple[int, str]:
    return (int(index) if index.isdecimal() else 1 << 30), index


def _to_pair(value: Any) -> tuple[float, float] | None:
    return (value[0], value[1]) if value and None not in value else None


def _build_process(entry: Mapping[str, Any], mask: Callable[[str], str]) -> ProcessUsage:
    return ProcessUsage(
        gpu=entry.get("gpu", ""),
        pid=entry.get("pid", 0),
        memory=entry.get("memory"),
        user=to_single_line(entry.get("user", "")),
        command=mask(to_single_line(entry.get("command", ""))),
        since=entry.get("since"),
        run=to_single_line(entry.get("run", "")),
    )


def _build_run(entry: Mapping[str, Any]) -> RunUsage:
    return RunUsage(
        user=to_single_line(entry.get("user", "")),
        run=to_single_line(entry.get("run", "")),
        pid=entry.get("pid"),
        since=entry.get("since"),
        claims=tuple(map(to_single_line, entry.get("claims", ()))),
    )


def _build_gpu(
    index: str, entry: Mapping[str, Any], processes: tuple[ProcessUsage, ...], runs: tuple[RunUsage, ...]
) -> GpuUsage:
    on_it = [process.user or "?" for process in processes if process.gpu == index]
    holders = [run.user or "?" for run in runs if index in run.gpus]
    used, is_lost = entry.get("used"), bool(entry.get("lost"))
    is_empty = bool(entry.get("idle_memory")) or used is None or used <= MOST_IDLE_MEMORY
    return GpuUsage(
        index=index,
        name=to_single_line(entry.get("name") or ""),
        util=entry.get("util"),
        used=used,
        total=entry.get("total"),
        temp=entry.get("temp"),
        watts=entry.get("watts"),
        limit=entry.get("limit"),
        ecc=entry.get("ecc"),
        throttled=tuple(entry.get("throttled") or ()),
        xid=entry.get("xid"),
        xid_text=to_single_line(entry.get("xid_text") or ""),
        xid_at=entry.get("xid_at"),
        health=to_single_line(entry.get("health") or ""),
        is_lost=is_lost,
        users=tuple(dict.fromkeys((*holders, *on_it))),
        is_free=not (on_it or holders or is_lost) and is_empty,
    )
