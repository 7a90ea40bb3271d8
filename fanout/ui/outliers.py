"""Outlier hosts, worst first: link lost, dead, blocking in a hang, silent, slow, hot. Pure.

One slow host slows all others, and its own log looks like theirs: only a comparison with the median finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from statistics import median

from fanout.model.frozen import frozen
from fanout.model.state import HostState, Phase, RunState
from fanout.text.units import format_age
from fanout.ui.host_load import HostLoad
from fanout.ui.status_messages import was_stopped

SILENT_SECONDS = 30.0
SLOW_SHARE = 0.6  # of the median load
HOT_DEGREES = 85.0
HOTTER_DEGREES = 12.0  # above the median


class OutlierKind(IntEnum):
    """Kind of difference; a smaller value is worse."""

    LINK_LOST = 1
    DEAD = 2
    BLOCKING = 3
    SILENT = 4
    SLOW = 5
    HOT = 6


@frozen
class Outlier:
    """An outlier host and its difference in words."""

    host: str
    what: OutlierKind
    words: str = ""


@frozen
class FleetMedians:
    """Medians over the running hosts; None if fewer than two hosts report a value."""

    busy: float | None
    quiet: float | None
    temp: float | None


def compute_medians(state: RunState, loads: Mapping[str, HostLoad]) -> FleetMedians:
    """Return the medians over the running hosts."""
    running = [host for host in state.all_hosts if host.phase is Phase.RUNNING]
    names = [host.name for host in running]
    return FleetMedians(
        busy=_compute_median([load.utilisation for name in names if (load := loads.get(name))]),
        quiet=_compute_median([state.now - host.last_output_at for host in running if host.last_output_at is not None]),
        temp=_compute_median([load.temp for name in names if (load := loads.get(name))]),
    )


def find_outliers(
    state: RunState,
    loads: Mapping[str, HostLoad],
    paces: Mapping[str, str] | None = None,
    hung: Mapping[str, str] | None = None,
) -> list[Outlier]:
    """Return the outlier hosts, worst first; within a kind, in hostfile order.

    ``paces``: host -> how slow its steps are. ``hung``: host -> where its rank is while the others wait.
    """
    fleet, paces, hung = compute_medians(state, loads), paces or {}, hung or {}
    found = [
        Outlier(host=host.name, what=OutlierKind.BLOCKING, words=hung[host.name])
        if host.name in hung and host.phase is Phase.RUNNING and host.connected
        else find_worst_difference(host, state, fleet, loads.get(host.name), pace=paces.get(host.name, ""))
        for host in state.all_hosts
    ]
    return sorted((outlier for outlier in found if outlier is not None), key=lambda outlier: outlier.what)


def find_worst_difference(
    host: HostState,
    state: RunState,
    fleet: FleetMedians,
    load: HostLoad | None,
    *,
    pace: str = "",
) -> Outlier | None:
    """Return the worst difference of this host from the medians, or None."""
    if host.disconnected_at is not None and not host.phase.is_final:
        return Outlier(host=host.name, what=OutlierKind.LINK_LOST)
    left = host.cleaned_up is not None and bool(host.cleaned_up.left)
    if left or (host.has_failed and not was_stopped(host, state)):
        return Outlier(host=host.name, what=OutlierKind.DEAD)
    if host.phase is not Phase.RUNNING:
        return None
    if host.last_output_at is not None and fleet.quiet is not None:
        quiet = state.now - host.last_output_at
        if quiet > 3 * max(SILENT_SECONDS / 3, fleet.quiet, host.usual_pause):  # some hosts print less often
            return Outlier(
                host=host.name,
                what=OutlierKind.SILENT,
                words=f"silent {format_age(quiet)}, median {format_age(fleet.quiet)}",
            )
    if pace:
        its = "its steps are" if pace.endswith("late") else "its steps take"
        slow = f"steps of {pace}" if pace.startswith("rank") else f"{its} {pace}"
    else:
        slow = _describe_slowness(fleet, load)
    if slow:
        return Outlier(host=host.name, what=OutlierKind.SLOW, words=slow)
    temp = load.temp if load is not None else None
    if temp is None or fleet.temp is None or temp < max(HOT_DEGREES, fleet.temp + HOTTER_DEGREES):
        return None
    return Outlier(host=host.name, what=OutlierKind.HOT, words=f"{temp:.0f} degrees, median {fleet.temp:.0f}")


def _describe_slowness(fleet: FleetMedians, load: HostLoad | None) -> str:
    """Return the idle GPUs, or a load far below the median; "" if the host is not slow.

    The newest steps are not compared: hosts print at different times. ``paces`` compares them over the same time.
    """
    if load is not None and load.idle_gpus:
        return f"GPU {','.join(map(str, load.idle_gpus))} idle"
    busy = load.utilisation if load is not None else None
    if busy is not None and fleet.busy is not None and fleet.busy >= 50 and busy < fleet.busy * SLOW_SHARE:
        return f"load {busy:.0f}%, median {fleet.busy:.0f}%"
    return ""


def _compute_median(values: list[float | None] | list[int | None] | list[float]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return median(known) if len(known) > 1 else None
