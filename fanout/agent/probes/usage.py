"""Usage of this host, sampled until the question is cancelled: load, GPUs, their processes, and the runs of all users.

The first answer is complete. Each later one has only what has changed. Numbers are rounded, so an idle host sends little.
"""

from __future__ import annotations

import os
import select
import time

from .. import load_monitor, smi
from . import gpu_usage, usage_owners
from .probe_tools import FactUnavailable, ForkedCall, search_path
from .xid_watch import XidWatch

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator

    Entries = Dict[str, Dict[str, Any]]

FIRST_SECONDS = 10.0  # for the vendor's tool to answer before the first sample
LEAST_SECONDS = 0.5  # for a share of the processor that means something
DISK_SECONDS = 30.0  # between two questions to the file system of the work directory
LISTS = ("gpus", "processes", "runs")


def ask_usage(args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the usage, then every ``args["every"]`` seconds what has changed. ``args["workdir"]`` is the work directory."""
    os.nice(10)
    sampler = UsageSampler(args)
    sampler.wait_first()
    sent: dict[str, Any] = {}
    while True:
        usage = sampler.read_usage()
        yield find_changes(sent, usage)
        sent = usage
        sampler.wait_until(time.monotonic() + max(LEAST_SECONDS, float(args["every"])))


class UsageSampler:
    """Everything that one host reports, with what must be remembered between two samples."""

    def __init__(self, args: dict[str, Any]) -> None:
        path = search_path(args) + smi.EXTRA_PATH
        self._source = gpu_usage.find_source(path, float(args["every"]))
        self._workdir = os.path.expanduser(str(args["workdir"])) or "."
        self._owners = usage_owners.OwnerTable()
        self._xids = XidWatch(path)
        self._ticks = load_monitor.read_cpu_ticks()
        self._disk: list[float] | None = None
        self._disk_at = float("-inf")

    def wait_first(self) -> None:
        """Wait until the GPUs are known, but not long."""
        began = time.monotonic()
        self._source.read_gpus()
        while not self._source.is_settled and time.monotonic() - began < FIRST_SECONDS:
            select.select(self._source.get_descriptors(), [], [], 0.1)
            self._source.read_gpus()
        self.wait_until(began + LEAST_SECONDS)

    def wait_until(self, moment: float) -> None:
        """Wait, and read what the vendor's tool prints meanwhile, so that it never blocks."""
        while (left := moment - time.monotonic()) > 0:
            descriptors = self._source.get_descriptors()
            if select.select(descriptors, [], [], left)[0]:
                time.sleep(min(0.05, max(0.0, moment - time.monotonic())))  # all lines of a round in one read
                self._source.read_gpus()

    def read_usage(self) -> dict[str, Any]:
        """Return one sample."""
        gpus, on_gpus, problem = self._source.read_gpus()
        self._owners.refresh()
        self._xids.add_xids(gpus)
        host = {**self._read_load(), "problem": problem, "xids_unread": self._xids.problem}
        return {
            "host": host,
            "gpus": gpus,
            "processes": self._owners.describe_processes(on_gpus),
            "runs": self._owners.list_runs(),
        }

    def _read_load(self) -> dict[str, Any]:
        before, self._ticks = self._ticks, load_monitor.read_cpu_ticks()
        busy = load_monitor.compute_busy_percent(before, self._ticks)
        memory = load_monitor.read_memory()
        if time.monotonic() - self._disk_at > DISK_SECONDS:
            self._disk_at = time.monotonic()
            self._disk = self._read_disk()
        return {
            "cpu": None if busy is None else round(busy),
            "cores": os.cpu_count() or 1,
            "memory": [part >> 20 for part in memory] if memory else None,
            "disk": self._disk,
        }

    def _read_disk(self) -> list[float] | None:
        """Return [free, total] MiB of the work directory; None if it does not exist or its server does not answer."""
        try:
            found = ForkedCall(lambda: list(_measure_disk(self._workdir)), 2.0).get_result()
        except FactUnavailable:
            return None
        return [float(part) for part in found]


def _measure_disk(path: str) -> tuple[int, int]:
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize >> 20, stat.f_blocks * stat.f_frsize >> 20


def find_changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return what differs between two samples. ``whole``: there is none before. ``gone``: the entries that are no more."""
    changes: dict[str, Any] = {"whole": not before}
    host = _find_changed(before.get("host", {}), now["host"])
    if host:
        changes["host"] = host
    for name in LISTS:
        was: Entries = before.get(name, {})
        entries: Entries = now[name]
        changed = {key: _find_changed(was.get(key, {}), entry) for key, entry in entries.items()}
        changed = {key: entry for key, entry in changed.items() if entry or key not in was}
        gone = [key for key in was if key not in entries]
        if changed:
            changes[name] = changed
        if gone:
            changes.setdefault("gone", {})[name] = gone
    return changes


def _find_changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that differ. A field that is no longer known is null."""
    changed = {name: value for name, value in now.items() if name not in before or before[name] != value}
    return dict(changed, **{name: None for name in before if name not in now and before[name] is not None})
