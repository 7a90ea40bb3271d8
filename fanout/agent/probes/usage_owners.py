"""Owners of processes on GPUs: the user, the command, and the run of any user to which a process belongs.

A process belongs to a run if the process that holds the run's claims is its ancestor. The kernel names that process,
so it works for the runs of all users.
"""

from __future__ import annotations

import os
import time

from .. import processes, shared_claims
from .probe_tools import read_or_empty
from .runs import is_kept

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    Entries = Dict[str, Dict[str, Any]]
    OnGpu = Tuple[str, int, float]

LONGEST_COMMAND = 200
CLAIMS_SECONDS = 60.0  # a claim that stays may have got another holder
MOST_PROCESSES = 512
MOST_PARENTS = 40


class OwnerTable:
    """What is known about the processes of earlier samples, so that each is described once."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, Any]] = {}  # pid -> description
        self._names: list[str] = []
        self._claims: list[dict[str, Any]] = []
        self._claims_at = float("-inf")

    def refresh(self) -> None:
        """Read the claims of all users, if they have changed."""
        names = shared_claims.list_names()
        has_ended = any(holder["pid"] and not processes.read_stat(holder["pid"]) for holder in self._claims)
        if has_ended or names != self._names or time.monotonic() - self._claims_at > CLAIMS_SECONDS:
            self._names, self._claims_at = names, time.monotonic()
            self._claims = shared_claims.list_claims() if names else []

    def list_runs(self) -> Entries:
        """Return each process that holds claims: its user, pid, run, start and claims."""
        found: Entries = {}
        for holder in self._claims:
            key = "%s/%s" % (holder["pid"], holder["run"])
            row = found.setdefault(
                key,
                {
                    "user": _get_user(holder),
                    "pid": holder["pid"],
                    "run": holder["run"],
                    "since": None if holder["since"] is None else round(holder["since"]),
                    "claims": [],
                },
            )
            row["claims"].append(holder["claim"])
        return found

    def describe_processes(self, on_gpus: List[OnGpu]) -> Entries:
        """Return the processes by GPU and pid. One without a user is in another container, or hidden."""
        keepers = {holder["pid"]: holder for holder in self._claims if holder["pid"]}
        found: Entries = {}
        for gpu, pid, memory in on_gpus[:MOST_PROCESSES]:
            known = self._describe_once(pid)
            run = next((keepers[parent]["run"] for parent in known["parents"] if parent in keepers), "") or known["run"]
            found["%s/%d" % (gpu, pid)] = {
                "gpu": gpu,
                "pid": pid,
                "memory": memory,
                "user": known["user"],
                "command": known["command"],
                "since": known["since"],
                "run": run,
            }
        pids = {pid for _, pid, _ in on_gpus}
        self._known = {pid: known for pid, known in self._known.items() if pid in pids}
        return found

    def _describe_once(self, pid: int) -> dict[str, Any]:
        seen = processes.read_stat(pid)
        start = seen[3] if seen else None
        known = self._known.get(pid)
        if known is None or known["start"] != start:
            known = self._known[pid] = _describe_process(pid, start)
        return known


def _describe_process(pid: int, start: int | None) -> dict[str, Any]:
    command = read_or_empty("/proc/%d/cmdline" % pid, 4096).replace("\0", " ").strip()
    since = processes.read_start_time(pid)
    return {
        "start": start,
        "user": _read_user(pid),
        "command": command[:LONGEST_COMMAND],
        "since": None if since is None else round(since),
        "parents": _list_parents(pid),
        "run": processes.read_mark(pid)[0] if is_kept(pid) else "",
    }


def _list_parents(pid: int) -> list[int]:
    """Return the process and its ancestors."""
    found: list[int] = []
    while pid > 1 and len(found) < MOST_PARENTS:
        found.append(pid)
        seen = processes.read_stat(pid)
        pid = seen[1] if seen else 0
    return found


def _read_user(pid: int) -> str:
    try:
        return get_user_name(os.stat("/proc/%d" % pid).st_uid)
    except OSError:
        return ""


def _get_user(holder: dict[str, Any]) -> str:
    return get_user_name(holder["uid"]) if holder["uid"] is not None else ""


def get_user_name(uid: int) -> str:
    """Return the name of a user; the uid if the host does not know the user."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
