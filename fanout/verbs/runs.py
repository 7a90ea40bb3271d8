"""``fanout logs`` and ``fanout stop``: what can be done with a run by its name, while it goes on and afterwards."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from fanout.arguments import Request
from fanout.errors import UsageError
from fanout.state import HostState
from fanout.verbs.common import Edge, runs_directory, settings_of
from fanout.views.filenames import FileNames
from fanout.views.out import Out
from fanout.views.recorded import Recorded
from fanout.views.sanitise import clean
from fanout.views.streams import Say, Streams

ORDER = "order.json"


def find(name: str, root: str) -> str:
    """The directory of the run that ``name`` means: all of its id, any part of it that is enough, or ``latest``."""
    try:
        ids = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
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


def logs(request: Request, edge: Edge) -> int:
    """The verb: the recorded lines, in the order in which they came, each with its host."""
    recorded = Recorded(find(request.given["run"], runs_directory(settings_of(request, edge), edge)))
    wanted = [name for name in request.given["host"].split(",") if name]
    unknown = [name for name in wanted if name not in recorded.heading.hosts]
    if unknown:
        raise UsageError(f"--host {unknown[0]}: not in this run", hint=f"hosts: {', '.join(recorded.heading.hosts)}")
    if request.given["files"]:
        names = FileNames(recorded.heading.hosts)
        paths = [os.path.join(recorded.path, names.of(host, 0)) for host in wanted or recorded.heading.hosts]
        edge.stdout.write("".join(f"{path}\n" for path in paths))
        return 0
    out = Out(edge.stdout)
    lines = _lines(recorded, set(wanted))
    count = request.given["lines"]
    for line in lines if count is None else deque(lines, maxlen=max(0, count)):
        out.write(line)
        if out.broken:
            return 141
    return 0


def _lines(recorded: Recorded, wanted: set[str]) -> Iterator[str]:
    streams = Streams(recorded.heading.hosts)
    width = max(len(host) for host in recorded.heading.hosts)

    def shown(says: list[Say]) -> Iterator[str]:
        for say in says:
            if not wanted or say.host in wanted:
                yield f"{say.speaker:<{width}} | {clean(say.text, colour=False)}\n"

    for event in recorded.events():
        yield from shown(streams.take(event))
    yield from shown(streams.finish())


def stop(request: Request, edge: Edge) -> int:
    """The verb: 0 when every host was reached and nothing is left, 255 otherwise."""
    from fanout import rejoin

    path = find(request.given["run"], runs_directory(settings_of(request, edge), edge))
    try:
        with open(os.path.join(path, ORDER), encoding="utf-8") as file:
            order = rejoin.Order.from_json(file.read())
    except FileNotFoundError:
        raise UsageError(f"{path}: this run was never launched, there is nothing to stop") from None
    edge.say(f"stopping run {order.run_id} on {len(order.hosts)} hosts, {order.settings.grace:g} s of grace")
    state = rejoin.end(order, by=f"{edge.user}@{edge.machine}", agent="SSH_AUTH_SOCK" in edge.environ)
    bad = 0
    for host in state.all:
        text, good = _came_to(host)
        bad += not good
        edge.say(f"{host.name}: {text}")
    return 255 if bad else 0


def _came_to(host: HostState) -> tuple[str, bool]:
    """What a stop came to on one host, and whether that is known to be nothing left."""
    if host.gone is not None:
        left = len(host.gone.left)
        killed = f", {host.gone.killed} processes had to be killed" if host.gone.killed else ""
        return (f"{left} processes could not be ended" if left else f"stopped, nothing is left{killed}"), not left
    if host.trouble is not None and "nothing of the run" in host.trouble.message:
        return "nothing of the run is there", True
    return (host.trouble.message if host.trouble else "could not be reached in time"), False
