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
from fanout.hosts import fold
from fanout.rejoin import Order
from fanout.state import HostState, RunState
from fanout.verbs import follow, onlook
from fanout.verbs.common import Edge, runs_directory, settings_of
from fanout.views.recorded import Recorded
from fanout.views.sanitise import sentence

ORDER = "order.json"
EVENTS = "events.jsonl"
TELL_SECONDS = 15.0  # between two messages about a long wait


def new_id() -> str:
    """Return a new run id. Ids sort by time and are unique."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(6)}"


def make_directory(path: str) -> bool:
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


def find(name: str, root: str) -> str:
    """Return the directory of the run ``name``: its id, a unique part of it, or ``latest``. Raises UsageError."""
    try:
        ids = sorted(entry.name for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS)))
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


def find_live(name: str, root: str, verb: str) -> str:
    """Return the directory of the run ``name``; without a name, of the only active run. Raises UsageError.

    Without a name, a run that has ended is never chosen. If several runs are active, the user must choose.
    """
    if name:
        return find(name, root)
    try:
        paths = sorted(entry.path for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS)))
    except OSError:
        paths = []
    held = [path for path in paths if holder.of(path) is not None]
    going = held or [path for path in paths if not has_ended(path)]
    if len(going) == 1:
        return going[0]
    if not going:
        hint = "fanout ps --all   # lists ended runs" if paths else "give the directory of runs with --log-dir DIR"
        raise UsageError(f"no active run in {root}", hint=hint)
    listed = "".join(f"\n        {os.path.basename(path)}  {_title(path)}" for path in going)
    ids = os.path.basename(going[-1])
    raise UsageError(f"{verb}: {len(going)} runs are active:{listed}", hint=f"fanout {verb} {ids}")


def has_ended(path: str) -> bool:
    """Return whether the run has an outcome, or was never launched."""
    ended = os.path.exists(os.path.join(path, "result.json"))
    return ended or not os.path.exists(os.path.join(path, ORDER))


def _title(path: str) -> str:
    try:
        return sentence(Recorded(path).heading.title)
    except FanoutError:
        return ""


def order_of(path: str) -> Order:
    """Return the recorded data that is needed to return to a run or stop it. Raises UsageError."""
    try:
        with open(os.path.join(path, ORDER), encoding="utf-8") as file:
            return Order.from_json(file.read())
    except FileNotFoundError:
        raise UsageError(f"{path}: this run was never launched") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}/{ORDER}: cannot read it: {error}") from None


def stop(request: Request, edge: Edge) -> int:
    """Run ``fanout stop``; return 0 if every host was reached and nothing is left, else 255."""
    settings = settings_of(request, edge)
    try:
        path = find_live(request.given["run"], runs_directory(settings, edge), "stop")
    except UsageError:
        if not request.hosts:
            raise
        return _told(onlook.stop(request, settings, edge), edge)
    order = order_of(path)
    living = holder.of(path)
    if living is not None and living.machine == edge.machine and living.pid > 0:
        return _ask_launcher(living, Recorded(path), order, edge)
    if living is None and Recorded(path).result() is not None:
        edge.say(f"run {order.run_id} has ended; checking again {fold([host.name for host in order.hosts])}")
    else:
        where = f"{len(order.hosts)} host{'s' if len(order.hosts) != 1 else ''}"
        edge.say(f"stopping run {order.run_id} on {where}: SIGTERM, then SIGKILL after {order.settings.grace:g} s")
    by = f"{edge.user}@{edge.machine}"
    return _told(rejoin.end(order, by=by, agent="SSH_AUTH_SOCK" in edge.environ, why=f"stopped by {by}"), edge)


def _ask_launcher(living: holder.Holder, recorded: Recorded, order: Order, edge: Edge) -> int:
    """Signal the launcher to stop the run, wait for its end, and print the recorded result of each host."""
    run = recorded.heading.run_id
    if living.ending:
        edge.say(f"run {run}: {living.user} (pid {living.pid}) is already stopping it")
    else:
        edge.say(f"stopping run {run}: signalled its launcher (pid {living.pid})")
    try:
        if not living.ending:
            os.kill(living.pid, living.signal)
    except ProcessLookupError:
        pass  # it exited in this moment
    except PermissionError:
        raise UsageError(f"its launcher (pid {living.pid}) belongs to another user ({living.user})") from None
    if not _wait_for(living, recorded, order, edge):
        return 255
    result = recorded.result()
    if result is None:
        edge.say(f"run {run}: the launcher died without a result; its guardian is stopping the run")
        edge.stderr.write(f"        try:  fanout stop {run}   # in a minute, to confirm\n")
        return 255
    came = []
    for host in result["hosts"]:
        left = host["left"]
        some = "1 process is left" if left == 1 else f"{left} processes are left"
        said = "nothing is left" if left == 0 else "not verified that nothing is left" if left is None else some
        came.append((host["host"], f"{host['verdict']} ({host['reason']}); {said}", left == 0))
    return _said(came, edge)


def _wait_for(living: holder.Holder, recorded: Recorded, order: Order, edge: Edge) -> bool:
    """Wait until the launcher has ended the run, at most as long as its own deadlines; report the wait."""
    grace, lease = order.settings.grace, order.settings.lease
    most = lease + 2 * (grace + supervise.STOP_MARGIN_SECONDS) + rejoin.MARGIN_SECONDS
    began = told_at = time.monotonic()
    while holder.of(recorded.path) is not None:
        select.select([], [], [], follow.PAUSE_SECONDS)
        now = time.monotonic()
        if now - began > most:
            edge.say(f"the launcher (pid {living.pid}) has not ended the run within {most:.0f} s")
            edge.stderr.write(f"        try:  kill -KILL {living.pid}    # then its guardian stops the run\n")
            return False
        if now - told_at >= TELL_SECONDS:
            told_at = now
            edge.say(f"the launcher is still stopping the run: {now - began:.0f} s so far, at most {most:.0f} s")
    return True


def _told(state: RunState, edge: Edge) -> int:
    return _said([(host.name, *_came_to(host)) for host in state.all], edge)


def _said(came: Sequence[tuple[str, str, bool]], edge: Edge) -> int:
    """Print one line per result with all its hosts; ``came`` has (host, result, good). Return the exit status."""
    same: dict[str, list[str]] = {}
    for host, text, _ in came:
        same.setdefault(text, []).append(host)
    for text, hosts in same.items():
        edge.say(f"{fold(hosts)}: {text}")
    return 0 if all(good for _, _, good in came) else 255


def _came_to(host: HostState) -> tuple[str, bool]:
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
