"""A run by its name: where its record is, what it takes to come back to it, and ``fanout stop``."""

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
TELL_SECONDS = 15.0  # between two words about how long something takes


def new_id() -> str:
    """Make the id of a run that begins now: ids sort by time, and no two launches draw the same."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(6)}"


def make_directory(path: str) -> bool:
    """Create the directory of a new run; False where another run has it. Raises LauncherError."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
        return True
    except FileExistsError:
        if os.path.isdir(path):
            return False
        raise LauncherError(f"{path}: is no directory", hint="choose another place with --log-dir DIR") from None
    except OSError as error:
        raise LauncherError(
            f"cannot write the logs of this run to {path}: {error.strerror}",
            hint="choose another place with --log-dir DIR",
        ) from None


def find(name: str, root: str) -> str:
    """The directory of the run that ``name`` means: all of its id, any part of it that is enough, or ``latest``."""
    try:
        ids = sorted(entry.name for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS)))
    except OSError:
        ids = []
    if not ids:
        raise UsageError(f"no run is recorded in {root}", hint="--log-dir DIR says where runs are recorded")
    if name in ("", "latest"):
        return os.path.join(root, ids[-1])
    matching = [each for each in ids if each == name] or [each for each in ids if name in each]
    if not matching:
        raise UsageError(f"no run {name!r} in {root}", hint=f"the latest is {ids[-1]}")
    if len(matching) > 1:
        raise UsageError(f"{name!r} may be any of {', '.join(matching[-5:])}", hint="give more of its id")
    return os.path.join(root, matching[0])


def find_live(name: str, root: str, verb: str) -> str:
    """Return the directory of the run ``name``; without a name, of the one run that goes on. Raises UsageError.

    A run that ended cannot be meant, and among several only the user can choose.
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
        hint = "fanout ps --all lists the runs that ended" if paths else "--log-dir DIR says where runs are recorded"
        raise UsageError(f"no run is going on in {root}", hint=hint)
    listed = "".join(f"\n        {os.path.basename(path)}  {_title(path)}" for path in going)
    ids = os.path.basename(going[-1])
    raise UsageError(f"{verb}: {len(going)} runs are going on:{listed}", hint=f"fanout {verb} {ids}")


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
    """What it takes to come back to the run recorded there."""
    try:
        with open(os.path.join(path, ORDER), encoding="utf-8") as file:
            return Order.from_json(file.read())
    except FileNotFoundError:
        raise UsageError(f"{path}: this run was never launched: there is nothing to come back to") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}/{ORDER}: cannot be read: {error}") from None


def stop(request: Request, edge: Edge) -> int:
    """The verb: 0 when every host was reached and nothing is left, 255 otherwise."""
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
        edge.say(f"run {order.run_id} has ended; looking again at {fold([host.name for host in order.hosts])}")
    else:
        edge.say(f"stopping run {order.run_id} on {len(order.hosts)} hosts, {order.settings.grace:g} s of grace")
    by = f"{edge.user}@{edge.machine}"
    return _told(rejoin.end(order, by=by, agent="SSH_AUTH_SOCK" in edge.environ, why=f"stopped by {by}"), edge)


def _ask_launcher(living: holder.Holder, recorded: Recorded, order: Order, edge: Edge) -> int:
    """The launcher lives: it ends the run in order, and its own words are the outcome."""
    run = recorded.heading.run_id
    if living.ending:
        edge.say(f"run {run} is being ended already, by {living.user} (pid {living.pid})")
    else:
        edge.say(f"stopping run {run}: told its launcher (pid {living.pid})")
    try:
        if not living.ending:
            os.kill(living.pid, living.signal)
    except ProcessLookupError:
        pass  # it ended this very moment
    except PermissionError:
        raise UsageError(f"its launcher, pid {living.pid}, is another user's ({living.user})") from None
    if not _wait_for(living, recorded, order, edge):
        return 255
    result = recorded.result()
    if result is None:
        edge.say("its launcher ended without a word: its guardian ends the run; once more in a minute to be sure")
        return 255
    came = []
    for host in result["hosts"]:
        left = host["left"]
        said = "nothing is left" if left == 0 else "not known" if left is None else f"{left} processes are left"
        came.append((host["host"], f"{host['verdict']} ({host['reason']}); {said}", left == 0))
    return _said(came, edge)


def _wait_for(living: holder.Holder, recorded: Recorded, order: Order, edge: Edge) -> bool:
    """Wait until the launcher has ended the run: at most as long as its own deadlines allow, telling for how long."""
    grace, lease = order.settings.grace, order.settings.lease
    most = lease + 2 * (grace + supervise.STOP_MARGIN_SECONDS) + rejoin.MARGIN_SECONDS
    began = told_at = time.monotonic()
    while holder.of(recorded.path) is not None:
        select.select([], [], [], follow.PAUSE_SECONDS)
        now = time.monotonic()
        if now - began > most:
            edge.say(f"the launcher (pid {living.pid}) has not ended the run within {most:.0f} s")
            edge.stderr.write(f"        try:  kill -KILL {living.pid}    then its guardian ends the run\n")
            return False
        if now - told_at >= TELL_SECONDS:
            told_at = now
            edge.say(f"the launcher is still ending it: {now - began:.0f} s so far, {most:.0f} s at most")
    return True


def _told(state: RunState, edge: Edge) -> int:
    return _said([(host.name, *_came_to(host)) for host in state.all], edge)


def _said(came: Sequence[tuple[str, str, bool]], edge: Edge) -> int:
    """(host, what a stop came to there, is that good?), in a line for all hosts where it is the same."""
    same: dict[str, list[str]] = {}
    for host, text, _ in came:
        same.setdefault(text, []).append(host)
    for text, hosts in same.items():
        edge.say(f"{fold(hosts)}: {text}")
    return 0 if all(good for _, _, good in came) else 255


def _came_to(host: HostState) -> tuple[str, bool]:
    """What a stop came to on one host, and whether that is known to be nothing left."""
    if host.gone is not None:
        left = len(host.gone.left)
        killed = f", {host.gone.killed} processes had to be killed" if host.gone.killed else ""
        return (f"{left} processes could not be ended" if left else f"stopped, nothing is left{killed}"), not left
    if host.trouble is not None and "nothing of the run" in host.trouble.message:
        return "nothing of the run is there", True
    return (host.trouble.message if host.trouble else "could not be reached in time"), False
