"""Coming back to a run that somebody else began: the guardian after the launcher's death, ``fanout stop`` at any time.

An ``Order`` is as much of a run as that takes, as one JSON object: which hosts, how to reach them, where their logs
are. It holds no environment and no secret, so it may lie in the run's directory.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fanout.events import MAIN_STREAM, Chunk, Event, StreamOpened
from fanout.fan import Clock, Fan
from fanout.hosts import Host, Origin
from fanout.launch import Session, Subscriber
from fanout.link import FanOptions
from fanout.plan import LaunchPlan, NodePlan
from fanout.settings import Settings
from fanout.state import RunState
from fanout.transports.pick import Picker
from fanout.views.filenames import FileNames

LOOKED_OVER = "looked-over.json"  # what somebody else than the launcher ended, and that nothing is left of it
_REACHING = ("transport", "ssh_config", "user", "connect_timeout", "fanout", "grace")
MARGIN_SECONDS = 60.0
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A run that can be ended by whoever holds this. ``directory`` is the run's record on this machine."""

    run_id: str
    hosts: tuple[Host, ...]
    settings: Settings
    directory: str
    user: str

    def to_json(self) -> str:
        return json.dumps(
            {
                "run": self.run_id,
                "hosts": [asdict(host) | {"env": ()} for host in self.hosts],
                "settings": {name: getattr(self.settings, name) for name in _REACHING},
                "directory": self.directory,
                "user": self.user,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Order:
        entry = json.loads(text)
        return cls(
            run_id=entry["run"],
            hosts=tuple(_host(host) for host in entry["hosts"]),
            settings=Settings(**entry["settings"]),
            directory=entry["directory"],
            user=entry["user"],
        )


def end(order: Order, *, by: str, agent: bool, subscribers: Sequence[Subscriber] = ()) -> RunState:
    """Log in everywhere, stop, look, bring the rest of the logs home, forget; the state that this came to.

    What cannot be reached within twice the grace and a minute is given up.
    """
    settings = order.settings
    picker = Picker(settings, user=order.user, agent=agent)
    options = FanOptions(dials=settings.fanout, connect_timeout=settings.connect_timeout, by=by)
    clock = Clock()
    fan = Fan(order.hosts, picker, options, clock)
    plan = _plan(order)
    collector = _Collector(order)
    for name, link in fan.links.items():
        link.resume(plan, *_so_far(collector.path(name, MAIN_STREAM)))
    session = Session(fan, [host.name for host in order.hosts], [collector, *subscribers])
    fan.start()
    try:
        session.end(grace=settings.grace, until=clock() + 2 * settings.grace + MARGIN_SECONDS)
    finally:
        fan.close()
    _remember(order, by, session.state)
    return session.state


def _remember(order: Order, by: str, state: RunState) -> None:
    """Every host was seen and has nothing left of the run: from now on its record is one of the past."""
    if all(host.gone is not None and not host.gone.left for host in state.all):
        try:
            with open(os.open(os.path.join(order.directory, LOOKED_OVER), _WRITE | os.O_TRUNC, 0o600), "w") as file:
                file.write(json.dumps({"v": 1, "at": state.now, "by": by}) + "\n")
        except OSError:
            pass  # the run has ended all the same; its record is kept for longer


class _Collector:
    """A subscriber that writes what comes where the launcher would have: the rest of the main streams, the others anew."""

    broken = False

    def __init__(self, order: Order) -> None:
        self._directory = order.directory
        self._names = FileNames(tuple(host.name for host in order.hosts))

    def path(self, host: str, stream: int) -> str:
        return os.path.join(self._directory, self._names.of(host, stream))

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, StreamOpened):
            self._names.name(event.host, event.stream, event.name)
        elif isinstance(event, Chunk):
            descriptor = os.open(self.path(event.host, event.stream), _WRITE, 0o600)
            try:
                os.pwrite(descriptor, event.data, event.offset)
            finally:
                os.close(descriptor)


def _so_far(path: str) -> tuple[int, int]:
    """(bytes, CRC-32) of a log file as far as the launcher came."""
    size, crc = 0, 0
    try:
        with open(path, "rb") as file:
            while data := file.read(1 << 20):
                size += len(data)
                crc = zlib.crc32(data, crc)
    except FileNotFoundError:
        pass
    return size, crc


def _host(entry: Mapping[str, Any]) -> Host:
    values = {name: _tuples(value) for name, value in entry.items()}
    return Host(**{**values, "origin": Origin(**entry["origin"])})


def _tuples(value: Any) -> Any:
    """JSON has lists where the values have tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _plan(order: Order) -> LaunchPlan:
    """As much of the plan as it takes to find the run again on each host."""
    nodes = tuple(
        NodePlan(host=host, rank=rank, nproc=None, cwd="/", argv=(), env=(), needs=(), claims=(), run_id=order.run_id)
        for rank, host in enumerate(order.hosts)
    )
    grace = order.settings.grace
    return LaunchPlan(run_id=order.run_id, task=(), nodes=nodes, master_addr="", master_port=0, grace=grace, lease=0.0)
