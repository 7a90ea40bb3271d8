"""Recorded runs: new ids, lookup by id or part of an id, and ``fanout stop``."""

from __future__ import annotations

import os
import secrets
import select
import time
from collections.abc import Sequence

from fanout import holder, rejoin, supervise
from fanout.arguments import Request
from fanout.errors import FanoutError, LauncherError, UsageError
from fanout.hosts import fold_names
from fanout.rejoin import RunHandle
from fanout.state import HostState, RunState
from fanout.verbs import follow, onlook
from fanout.verbs.common import ProcessContext, find_runs_directory, read_settings
from fanout.views.recorded import RunReader
from fanout.views.sanitise import to_single_line

HANDLE_FILE = "order.json"
EVENTS_FILE = "events.jsonl"
REPORT_SECONDS = 15.0  # between two messages about a long wait


def make_run_id() -> str:
    """Return a new run id. Ids sort by time and are unique."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(6)}"


def create_run_directory(path: str) -> bool:
    """Create the directory of a new run; return False if another run has it. Raises LauncherError."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
        return True
    except FileExistsError:
        if os.path.isdir(path):
            return False
        raise LauncherError(f"{path}: not a directory", hint="choose another directory with --log-dir DIR") from None
    except OSError as error:
        raise LauncherError(
            f"cannot write the logs of this run to {path}: {error.strerror}",
            hint="choose another directory with --log-dir DIR",
        ) from None


def find_run(name: str, root: str) -> str:
    """Return the directory of the run ``name``: its id, a unique part of it, or ``latest``. Raises UsageError."""
    try:
        ids = sorted(entry.name for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS_FILE)))
    except OSError:
        ids = []
    if not ids:
        raise UsageError(f"no run is recorded in {root}", hint="give the directory of runs with --log-dir DIR")
    if name in ("", "latest"):
        return os.path.join(root, ids[-1])
    matching = [each for each in ids if each == name] or [each for each in ids if name in each]
    if not matching:
        raise UsageError(f"no run {name!r} in {root}", hint=f"the latest run is {ids[-1]}")
    if len(matching) > 1:
        raise UsageError(f"{name!r} matches several runs: {', '.join(matching[-5:])}", hint="give more of the id")
    return os.path.join(root, matching[0])


def find_active_run(name: str, root: str, verb: str) -> str:
    """Return the directory of the run ``name``; without a name, of the only active run. Raises UsageError.

    Without a name, a run that has ended is never chosen. If several runs are active, the user must choose.
    """
    if name:
        return find_run(name, root)
    try:
        paths = sorted(
            entry.path for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS_FILE))
        )
    except OSError:
        paths = []
    held = [path for path in paths if holder.read_owner(path) is not None]
    going = held or [path for path in paths if not has_ended(path)]
    if len(going) == 1:
        return going[0]
    if not going:
        hint = "fanout ps --all   # lists ended runs" if paths else "give the directory of runs with --log-dir DIR"
        raise UsageError(f"no active run in {root}", hint=hint)
    listed = "".join(f"\n        {os.path.basename(path)}  {_read_title(path)}" for path in going)
    ids = os.path.basename(going[-1])
    raise UsageError(f"{verb}: {len(going)} runs are active:{listed}", hint=f"fanout {verb} {ids}")


def has_ended(path: str) -> bool:
    """Return whether the run has an outcome, or was never launched."""
    ended = os.path.exists(os.path.join(path, "result.json"))
    return ended or not os.path.exists(os.path.join(path, HANDLE_FILE))


def _read_title(path: str) -> str:
    try:
        return to_single_line(RunReader(path).heading.title)
    except FanoutError:
        return ""


def read_run_handle(path: str) -> RunHandle:
    """Return the recorded data that is needed to return to a run or stop it. Raises UsageError."""
    try:
        with open(os.path.join(path, HANDLE_FILE), encoding="utf-8") as file:
            return RunHandle.from_json(file.read())
    except FileNotFoundError:
        raise UsageError(f"{path}: this run was never launched") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}/{HANDLE_FILE}: cannot read it: {error}") from None


def run_stop(request: Request, edge: ProcessContext) -> int:
    """Run ``fanout stop``; return 0 if every host was reached and nothing is left, else 255."""
    settings = read_settings(request, edge)
    try:
        path = find_active_run(request.given["run"], find_runs_directory(settings, edge), "stop")
    except UsageError:
        if not request.hosts:
            raise
        return _print_state(onlook.stop_on_hosts(request, settings, edge), edge)
    order = read_run_handle(path)
    living = holder.read_owner(path)
    if living is not None and living.machine == edge.machine and living.pid > 0:
        return _stop_by_launcher(living, RunReader(path), order, edge)
    if living is None and RunReader(path).read_result() is not None:
        edge.print_message(
            f"run {order.run_id} has ended; checking again {fold_names([host.name for host in order.hosts])}"
        )
    else:
        where = f"{len(order.hosts)} host{'s' if len(order.hosts) != 1 else ''}"
        edge.print_message(
            f"stopping run {order.run_id} on {where}: SIGTERM, then SIGKILL after {order.settings.grace:g} s"
        )
    by = f"{edge.user}@{edge.machine}"
    return _print_state(
        rejoin.end_run(order, by=by, agent="SSH_AUTH_SOCK" in edge.environ, why=f"stopped by {by}"), edge
    )


def _stop_by_launcher(living: holder.LockOwner, recorded: RunReader, order: RunHandle, edge: ProcessContext) -> int:
    """Signal the launcher to stop the run, wait for its end, and print the recorded result of each host."""
    run = recorded.heading.run_id
    if living.ending:
        edge.print_message(f"run {run}: {living.user} (pid {living.pid}) is already stopping it")
    else:
        edge.print_message(f"stopping run {run}: signalled its launcher (pid {living.pid})")
    try:
        if not living.ending:
            os.kill(living.pid, living.signal)
    except ProcessLookupError:
        pass  # it exited in this moment
    except PermissionError:
        raise UsageError(f"its launcher (pid {living.pid}) belongs to another user ({living.user})") from None
    if not _wait_for_launcher(living, recorded, order, edge):
        return 255
    result = recorded.read_result()
    if result is None:
        edge.print_message(f"run {run}: the launcher died without a result; its guardian is stopping the run")
        edge.stderr.write(f"        try:  fanout stop {run}   # in a minute, to confirm\n")
        return 255
    came = []
    for host in result["hosts"]:
        left = host["left"]
        some = "1 process is left" if left == 1 else f"{left} processes are left"
        said = "nothing is left" if left == 0 else "not verified that nothing is left" if left is None else some
        came.append((host["host"], f"{host['verdict']} ({host['reason']}); {said}", left == 0))
    return _print_results(came, edge)


def _wait_for_launcher(living: holder.LockOwner, recorded: RunReader, order: RunHandle, edge: ProcessContext) -> bool:
    """Wait until the launcher has ended the run, at most as long as its own deadlines; report the wait."""
    grace, lease = order.settings.grace, order.settings.lease
    most = lease + 2 * (grace + supervise.STOP_MARGIN_SECONDS) + rejoin.MARGIN_SECONDS
    began = told_at = time.monotonic()
    while holder.read_owner(recorded.path) is not None:
        select.select([], [], [], follow.PAUSE_SECONDS)
        now = time.monotonic()
        if now - began > most:
            edge.print_message(f"the launcher (pid {living.pid}) has not ended the run within {most:.0f} s")
            edge.stderr.write(f"        try:  kill -KILL {living.pid}    # then its guardian stops the run\n")
            return False
        if now - told_at >= REPORT_SECONDS:
            told_at = now
            edge.print_message(
                f"the launcher is still stopping the run: {now - began:.0f} s so far, at most {most:.0f} s"
            )
    return True


def _print_state(state: RunState, edge: ProcessContext) -> int:
    return _print_results([(host.name, *_describe_result(host)) for host in state.all_hosts], edge)


def _print_results(came: Sequence[tuple[str, str, bool]], edge: ProcessContext) -> int:
    """Print one line per result with all its hosts; ``came`` has (host, result, good). Return the exit status."""
    same: dict[str, list[str]] = {}
    for host, text, _ in came:
        same.setdefault(text, []).append(host)
    for text, hosts in same.items():
        edge.print_message(f"{fold_names(hosts)}: {text}")
    return 0 if all(good for _, _, good in came) else 255


def _describe_result(host: HostState) -> tuple[str, bool]:
    """Return the result of a stop on one host, and whether it is verified that nothing is left."""
    if host.gone is not None:
        left = len(host.gone.left)
        killed = f", {_counted(host.gone.killed)} had to be killed" if host.gone.killed else ""
        return (f"{_counted(left)} could not be killed" if left else f"stopped, nothing is left{killed}"), not left
    if host.trouble is not None and "nothing of the run" in host.trouble.message:
        return "nothing of the run is left", True
    return (host.trouble.message if host.trouble else "unreachable: timed out"), False


def _counted(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"
