"""Wait policy: from the availability of all hosts to the hosts of the run, to another look, or to the end. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import field

from fanout.model.frozen import frozen
from fanout.model.host_count import HostCount
from fanout.sharing.availability import HostAvailability
from fanout.text.units import format_clock

LOOK_SECONDS = 10.0  # between two looks
LOOK_SPREAD = 3.0  # so that two waiting runs that collided do not collide again
SETTLE_SECONDS = 30.0  # a user whose process has just ended may start the next one
MOST_NAMED = 3  # hosts that the status names
#: Checks that fail while another run or process uses the host, and pass when it has ended.
PASSING_CHECKS = frozenset({"gpu-busy", "gpu-memory", "master-port"})


@frozen
class Selection:
    """Hosts of the run, and why each other host was not taken, both in file order. ``hosts`` may be too few."""

    hosts: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


@frozen
class Look:
    """One look at all hosts, at a monotonic time. ``settling``: hosts that have been free for too short a time."""

    at: float
    hosts: tuple[HostAvailability, ...]
    settling: Mapping[str, float] = field(default_factory=dict)  # host -> seconds until it counts as free


def select_hosts(look: Look, count: HostCount) -> Selection:
    """Return the first ``count.most`` hosts that are free. All other hosts of the file come with the reason."""
    chosen: list[str] = []
    skipped: list[tuple[str, str]] = []
    for host in look.hosts:
        obstacles = host.list_obstacles(first=not chosen)
        if not obstacles and host.host in look.settling:
            obstacles = (f"free for {SETTLE_SECONDS - look.settling[host.host]:.0f} s",)
        if obstacles:
            skipped.append((host.host, "; ".join(obstacles)))
        elif len(chosen) < count.most:
            chosen.append(host.host)
    return Selection(hosts=tuple(chosen), skipped=tuple(skipped))


def find_permanent_trouble(look: Look, count: HostCount) -> str:
    """Return why waiting is useless; "" if enough hosts can become free."""
    lost = [host for host in look.hosts if host.trouble and not host.can_heal]
    if len(look.hosts) - len(lost) >= count.least:
        return ""
    reasons = "; ".join(f"{host.host}: {host.trouble}" for host in lost[:MOST_NAMED])
    return f"{reasons}: waiting does not change that"


class SettleClock:
    """Remembers when a process without a claim was last seen on each host."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def build_look(self, hosts: Sequence[HostAvailability], at: float) -> Look:
        """Return the look, with the hosts on which such a process has just ended."""
        self._seen.update({host.host: at for host in hosts if host.has_foreign_process})
        left = {name: SETTLE_SECONDS - (at - seen) for name, seen in self._seen.items()}
        settling = {name: seconds for name, seconds in left.items() if seconds > 0 and self._seen[name] < at}
        return Look(at=at, hosts=tuple(hosts), settling=settling)


def draw_pause(random_source: random.Random) -> float:
    """Return the seconds until the next look."""
    return LOOK_SECONDS + random_source.uniform(-LOOK_SPREAD, LOOK_SPREAD)


def format_holders(selection: Selection) -> str:
    """Return the hosts that are not free with their holders: ``gpu03 (GPU 0-7: bob, train.py, 3 h) and 2 more``."""
    named = [f"{host} ({why})" for host, why in selection.skipped[:MOST_NAMED]]
    more = len(selection.skipped) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def format_status(selection: Selection, count: HostCount, waited: float) -> str:
    """Return ``waiting for gpu03 (GPU 0-7: bob, train.py, 3 h) · 2 of 4 free · 00:12:31``."""
    free = min(len(selection.hosts), count.least)
    text = f"waiting for {format_holders(selection) or 'the hosts'} · {free} of {count.least} free"
    return f"{text} · {format_clock(waited)}"
