"""Outlier hosts, worst first: link lost, dead, blocking in a hang, silent, slow, hot. Pure.

One slow host slows all others, and its own log looks like theirs: only a comparison with the median finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from statistics import median

from fanout.state import HostState, Phase, RunState
from fanout.views.load import Load
from fanout.views.metrics import Reading
from fanout.views.narrate import was_stopped
from fanout.views.units import age

SILENT_SECONDS = 30.0
SLOW_SHARE = 0.6  # of the median load
HOT_DEGREES = 85.0
HOTTER_DEGREES = 12.0  # above the median


class Oddity(IntEnum):
    """Kind of difference; a smaller value is worse."""

    LINK_LOST = 1
    DEAD = 2
    HANGS = 3
    SILENT = 4
    SLOW = 5
    HOT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """An outlier host and its difference in words."""

    host: str
    what: Oddity
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Medians over the running hosts; None if fewer than two hosts report a value."""

    busy: float | None
    step: float | None
    quiet: float | None
    temp: float | None


def middle(state: RunState, loads: Mapping[str, Load], readings: Mapping[str, Reading]) -> Fleet:
    """Return the medians over the running hosts."""
    running = [host for host in state.all if host.phase is Phase.RUNNING]
    names = [host.name for host in running]
    return Fleet(
        busy=_median([load.busy for name in names if (load := loads.get(name))]),
        step=_median([reading.step for name in names if (reading := readings.get(name))]),
        quiet=_median([state.now - host.last_output_at for host in running if host.last_output_at is not None]),
        temp=_median([load.temp for name in names if (load := loads.get(name))]),
    )


def odd_hosts(
    state: RunState,
    loads: Mapping[str, Load],
    readings: Mapping[str, Reading],
    paces: Mapping[str, str] | None = None,
    hung: Mapping[str, str] | None = None,
) -> list[Odd]:
    """Return the outlier hosts, worst first; within a kind, in hostfile order.

    ``paces``: host -> how slow its steps are. ``hung``: host -> where its rank is while the others wait.
    """
    fleet, paces, hung = middle(state, loads, readings), paces or {}, hung or {}
    looked = [
        Odd(host=host.name, what=Oddity.HANGS, words=hung[host.name])
        if host.name in hung and host.phase is Phase.RUNNING and host.linked
        else oddity(host, state, fleet, loads.get(host.name), readings.get(host.name), pace=paces.get(host.name, ""))
        for host in state.all
    ]
    return sorted((odd for odd in looked if odd is not None), key=lambda odd: odd.what)


def oddity(
    host: HostState, state: RunState, fleet: Fleet, load: Load | None, reading: Reading | None, *, pace: str = ""
) -> Odd | None:
    """Return the worst difference of this host from the medians, or None."""
    if host.link_lost_at is not None and not host.phase.over:
        return Odd(host=host.name, what=Oddity.LINK_LOST)
    left = host.gone is not None and bool(host.gone.left)
    if left or (host.failed and not was_stopped(host, state)):
        return Odd(host=host.name, what=Oddity.DEAD)
    if host.phase is not Phase.RUNNING:
        return None
    if host.last_output_at is not None and fleet.quiet is not None:
        quiet = state.now - host.last_output_at
        if quiet > max(SILENT_SECONDS, 3 * fleet.quiet):
            return Odd(host=host.name, what=Oddity.SILENT, words=f"silent {age(quiet)}, median {age(fleet.quiet)}")
    if pace:
        its = "its steps are" if pace.endswith("late") else "its steps take"
        slow = f"steps of {pace}" if pace.startswith("rank") else f"{its} {pace}"
    else:
        slow = _slow(fleet, load, reading)
    if slow:
        return Odd(host=host.name, what=Oddity.SLOW, words=slow)
    temp = load.temp if load is not None else None
    if temp is None or fleet.temp is None or temp < max(HOT_DEGREES, fleet.temp + HOTTER_DEGREES):
        return None
    return Odd(host=host.name, what=Oddity.HOT, words=f"{temp:.0f} degrees, median {fleet.temp:.0f}")


def _slow(fleet: Fleet, load: Load | None, reading: Reading | None) -> str:
    """Return the idle GPUs, a load far below the median, or a step behind it; "" if the host is not slow."""
    if load is not None and load.idle_gpus:
        return f"GPU {','.join(map(str, load.idle_gpus))} idle"
    busy = load.busy if load is not None else None
    if busy is not None and fleet.busy is not None and fleet.busy >= 50 and busy < fleet.busy * SLOW_SHARE:
        return f"load {busy:.0f}%, median {fleet.busy:.0f}%"
    step = reading.step if reading is not None else None
    if step is not None and fleet.step is not None and fleet.step - step > max(2.0, 0.02 * fleet.step):
        return f"step {step}, median {fleet.step:.0f}"
    return ""


def _median(values: list[float | None] | list[int | None] | list[float]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return median(known) if len(known) > 1 else None
