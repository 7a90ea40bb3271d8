"""Run summary: the state, times and cause of a recorded run, from the small files of its directory, for ``fanout ps``."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from fanout.model.attempt_plan import split_attempt_id
from fanout.model.attempt_record import AttemptRecord, NextAction
from fanout.model.errors import FanoutError
from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.frozen import frozen
from fanout.record import writer_lock
from fanout.record.index import find_last_attempt, is_launched
from fanout.record.recorded_attempts import find_launched_attempt, read_pending_restart
from fanout.record.run_reader import RunReader
from fanout.record.waiting_runs import WaitingRun, list_waiting_runs
from fanout.record.writer_lock import LockOwner
from fanout.text.sanitize import to_single_line

VERDICT_FILE = "verdict.json"
RESTART_STATES = ("fenced", "waiting to restart", "restarting")
WAITING = "waiting for hosts"
ACTIVE_STATES = ("running", WAITING, *RESTART_STATES, "stopping", "launcher lost")
_LONGEST = 1 << 20  # bytes of a file that are read
#: Signatures of causes that are no message of a program: fanout wrote the whole text, and its reason is in brackets.
_OWN_TEXTS = frozenset({"exit", "signal", "lost", "container-ended"})


@frozen
class RunSummary:
    """One run. Times are Unix times; None: not known, or not yet. ``dir`` is the record of the last attempt.

    ``state`` is running, stopping, launcher lost, or one of RESTART_STATES; of a run that has ended, it is succeeded, failed,
    hung, stopped or not launched. ``cause`` is a short phrase. Between two attempts, ``attempt`` is the next one, and ``cause``
    is that of the restart. ``restart_at`` is when the wait ends.
    """

    run: str
    name: str
    attempt: int
    max_restarts: int | None
    restarts_used: int | None
    restart_at: float | None
    state: str
    active: bool
    launcher: str
    since: float | None
    ended: float | None
    progress: str
    step: int | None
    total: int | None
    exit_code: int | None
    cause: str
    hosts: tuple[str, ...]
    title: str
    dir: str


def list_run_summaries(root: str) -> list[RunSummary]:
    """Return the runs recorded in a directory, the oldest first, without their progress."""
    try:
        paths = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
    except OSError:
        return []
    waiting = [_summarize_waiting(run) for run in list_waiting_runs(root)]
    recorded = [summary for path in paths if (summary := _read_summary(path)) is not None]
    return sorted([*waiting, *recorded], key=lambda summary: summary.run)


def _summarize_waiting(waiting: WaitingRun) -> RunSummary:
    """Return the summary of a run that waits for hosts, or whose wait has ended without a start."""
    how = "detached" if waiting.detached else "attached"
    return RunSummary(
        run=waiting.run,
        name=waiting.name,
        attempt=0,
        max_restarts=None,
        restarts_used=None,
        restart_at=None,
        state=WAITING if waiting.is_alive else "not launched",
        active=waiting.is_alive,
        launcher=f"{how} (pid {waiting.pid} on {waiting.machine})" if waiting.is_alive else "-",
        since=waiting.since,
        ended=None if waiting.is_alive else waiting.ended,
        progress=waiting.status if waiting.is_alive else "",
        step=None,
        total=None,
        exit_code=None if waiting.is_alive else waiting.exit_code,
        cause=to_single_line(waiting.cause),
        hosts=waiting.hosts,
        title=to_single_line(waiting.title),
        dir=waiting.path,
    )


def _read_summary(root: str) -> RunSummary | None:
    try:
        first = RunReader(root)
        path = find_last_attempt(root)
        if writer_lock.read_owner(path) is None:
            path = find_launched_attempt(path)  # its launcher died while it checked the next attempt
        recorded = RunReader(path)
    except FanoutError:
        return None  # some other directory
    run, number = split_attempt_id(recorded.heading.run_id)
    info = recorded.heading.attempt
    result = recorded.read_result()
    owner = writer_lock.read_owner(path) or writer_lock.read_owner(root)
    pending = None if owner is None or owner.ending else read_pending_restart(path)
    restart = pending.next if pending is not None else None
    state = _find_state(path, result, owner) if restart is None else _find_restart_state(restart, time.time())
    if restart is None and state == "running" and number and not is_launched(path):
        state = "restarting"  # the next attempt is checked
    active = state in ACTIVE_STATES
    ended = None if active or result is None else result
    return RunSummary(
        run=run,
        name=recorded.heading.name,
        attempt=number + (restart is not None),
        max_restarts=info.max_restarts or None,
        restarts_used=(info.used if restart is None else restart.used) if info.max_restarts else None,
        restart_at=restart.until if restart is not None else None,
        state=state,
        active=active,
        launcher="lost" if state == "launcher lost" else _describe_owner(owner),
        since=first.began_at,
        ended=None if ended is None else _find_end(path, recorded.began_at, ended),
        progress="",
        step=None,
        total=None,
        exit_code=None if ended is None else ended["exit_code"],
        cause=_find_cause(path, ended, pending),
        hosts=recorded.heading.hosts if restart is None else restart.hosts,
        title=recorded.heading.title,
        dir=path,
    )


def _find_cause(path: str, result: Mapping[str, Any] | None, pending: AttemptRecord | None) -> str:
    """Return the cause of a failure, or of the pending restart; "" without one."""
    if pending is not None:
        return to_single_line(pending.cause.text)
    return "" if result is None or not result["exit_code"] else _describe_cause(path, result)


def _find_restart_state(restart: NextAction, now: float) -> str:
    """Return what the launcher does before the next attempt."""
    if restart.fence_until is not None and now < restart.fence_until:
        return "fenced"
    return "waiting to restart" if restart.until is not None and now < restart.until else "restarting"


def _find_state(path: str, result: Mapping[str, Any] | None, owner: LockOwner | None) -> str:
    was_launched = is_launched(path)
    if owner is not None and result is None:
        return "stopping" if owner.ending else "running"
    if result is None:
        return "launcher lost" if was_launched else "not launched"
    if result["exit_code"] == ExitStatus.SUCCESS:
        return "succeeded"
    if result.get("hung") is True:
        return "hung"
    if result.get("stopped_why"):
        return "stopped"
    return "failed" if was_launched else "not launched"


def _describe_owner(owner: LockOwner | None) -> str:
    if owner is None:
        return "-"
    how = owner.user if owner.ending else "detached" if owner.detached else "attached"
    return f"{how} (pid {owner.pid} on {owner.machine})"


def _find_end(path: str, began_at: float, result: Mapping[str, Any]) -> float | None:
    seconds = result.get("seconds")
    if isinstance(seconds, (int, float)):
        return began_at + max(0.0, seconds)
    try:
        return os.stat(os.path.join(path, "result.json")).st_mtime
    except OSError:
        return None


def _describe_cause(path: str, result: Mapping[str, Any]) -> str:
    """Return the first cause in one short phrase: ``rank 13: ran out of GPU memory``; without a verdict, the headline."""
    cause = _parse_object(_read_text(os.path.join(path, VERDICT_FILE))).get("cause")
    stopped_by_user = result.get("origin") == "user" and result.get("hung") is not True
    if stopped_by_user or not isinstance(cause, dict) or not isinstance(cause.get("says"), str):
        return _describe_end(result)
    says = cause["says"].removeprefix("ended with ")
    if cause.get("signature") in _OWN_TEXTS:  # the words of a program may have brackets too
        says = says.partition(" (")[0].removesuffix(", without a known error")
    rank, host = cause.get("rank"), cause.get("host")
    who = f"rank {rank}: " if isinstance(rank, int) else f"{host} " if isinstance(host, str) else ""
    return to_single_line(who + says)


def _describe_end(result: Mapping[str, Any]) -> str:
    """Return why the run was stopped, or else its headline."""
    if result.get("origin") == "user" and result["exit_code"] == status_of_signal(signal.SIGINT):
        return "by Ctrl-C"
    return to_single_line(result.get("stopped_why") or result["headline"])


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST)
    except OSError:
        return ""


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
