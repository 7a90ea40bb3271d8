"""Condition of a run: one value of an enum with its detail, derived from the state and the metrics. Pure.

The title of the live view, the key hints, the time left and the status line of the plain view all use this value, so
they never contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from fanout.model.events import RestartPhase
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names
from fanout.model.planned_stop import find_sent_save
from fanout.model.run_info import RunInfo
from fanout.model.state import HostState, Phase, RunState
from fanout.text.units import format_duration

SILENT_SECONDS = 10.0  # a shorter pause of the output means nothing
USUAL_PAUSES = 3.0  # a run is silent only if it pauses this many times longer than usual


class RunCondition(Enum):
    """Condition of a run. The value is the word on the screen."""

    CONNECTING = "connecting"
    STARTING = "starting"  # all hosts are connected; checks run, or hosts start
    RENDEZVOUS = "at rendezvous"  # torchrun waits for the other hosts
    NO_OUTPUT = "no output"  # all hosts have started, and none has written a line
    RUNNING = "running"
    SLOW = "slow"  # at least one rank is slower than the others
    SILENT = "silent"  # all hosts are quiet for longer than usual
    HUNG = "hung"  # quiet, and no rank makes progress
    DISCONNECTED = "disconnected"  # at least one host; its lease runs
    ENDING = "ending"  # some hosts have ended by themselves
    SAVING = "saving"  # a planned stop: the ranks save and end by themselves
    FAILING = "failing"  # a host has failed, the others still run
    STOPPING = "stopping"
    VERIFYING = "verifying"  # train.sh has ended everywhere; the hosts check what is left
    ENDED = "ended"
    FENCED = "fenced"  # between two attempts, while a lost host may still train
    WAITING_TO_RESTART = "waiting to restart"
    RESTARTING = "restarting"


#: Conditions in which the steps advance, so that a time left means something.
WITH_TIME_LEFT = frozenset({RunCondition.RUNNING, RunCondition.SLOW})
#: Conditions that need the attention of the user.
ALARMS = frozenset({RunCondition.FAILING, RunCondition.STOPPING, RunCondition.HUNG, RunCondition.DISCONNECTED})
_RESTART_CONDITIONS: Mapping[RestartPhase, RunCondition] = {
    "fence": RunCondition.FENCED,
    "backoff": RunCondition.WAITING_TO_RESTART,
    "start": RunCondition.RESTARTING,
}
WARNINGS = frozenset({RunCondition.SLOW, RunCondition.SILENT})


@frozen
class RunStatus:
    """Condition of a run and its detail, such as ``TERM sent, KILL in 31 s``."""

    condition: RunCondition
    detail: str = ""

    def __str__(self) -> str:
        """Return the text of the title: ``STOPPING  TERM sent, KILL in 31 s``."""
        word = self.condition.value.upper()
        return f"{word}  {self.detail}" if "," in self.detail else f"{word} {self.detail}".rstrip()


@frozen
class Observations:
    """What other modules have found in the log: steps, slow ranks, and the hosts that cause a hang."""

    has_steps: bool = False
    slow: Mapping[str, str] = field(default_factory=dict)  # host -> how slow, in one or two words
    hung: Mapping[str, str] | None = None  # host -> what its rank does; None: no hang


def find_run_status(heading: RunInfo, state: RunState, found: Observations) -> RunStatus:
    """Return the condition of a run at ``state.now``."""
    hosts = state.all_hosts
    ending = _find_ending(state)
    if ending is not None:
        return ending
    if any(host.phase in (Phase.WAITING, Phase.CONNECTING) for host in hosts):
        there = sum(host.connected for host in hosts)
        return RunStatus(condition=RunCondition.CONNECTING, detail=f"{there}/{len(hosts)}")
    if any(host.phase in (Phase.CONNECTED, Phase.PREPARED) for host in hosts):
        started = sum(host.started_at is not None for host in hosts)
        return RunStatus(condition=RunCondition.STARTING, detail=f"{started}/{len(hosts)}")
    if found.hung is not None:
        quiet = state.now - (state.output_at or state.began_at)
        return RunStatus(condition=RunCondition.HUNG, detail=format_seconds(quiet))
    lost = [host for host in hosts if is_disconnected(host)]
    if lost:
        return RunStatus(condition=RunCondition.DISCONNECTED, detail=_describe_lost(lost, heading, state))
    ended = sum(host.exit is not None for host in hosts)
    if ended:
        return RunStatus(condition=RunCondition.ENDING, detail=f"{ended}/{len(hosts)}")
    return _find_progress(state, found)


def _find_ending(state: RunState) -> RunStatus | None:
    """Return the condition of a run that ends, or None."""
    if state.restart is not None and not state.interrupts:
        return RunStatus(condition=_RESTART_CONDITIONS[state.restart.phase])
    hosts = state.all_hosts
    verified = sum(host.phase.is_final or host.phase is Phase.CLEANED_UP for host in hosts)
    if verified == len(hosts):
        return RunStatus(condition=RunCondition.ENDED)
    if all(host.phase.is_final or host.exit is not None or host.phase is Phase.CLEANED_UP for host in hosts):
        return RunStatus(condition=RunCondition.VERIFYING, detail=f"{verified}/{len(hosts)}")
    if state.interrupted_at is not None or state.first_stop is not None:
        return RunStatus(condition=RunCondition.STOPPING, detail=_describe_stop(state))
    if find_sent_save(state) is not None:
        return RunStatus(condition=RunCondition.SAVING, detail=_describe_save(state))
    if state.failures:
        return RunStatus(condition=RunCondition.FAILING, detail=fold_names(name for name, _ in state.failures))
    return None


def _describe_save(state: RunState) -> str:
    """Return how many of the ranks that received the signal have ended: ``3/8 ranks ended``."""
    ended = sum(len(host.saving.ended) for host in state.all_hosts)
    total = sum(len(host.saving.signalled) for host in state.all_hosts)
    return f"{ended}/{total} ranks ended" if total else "no rank handles the signal"


def _describe_stop(state: RunState) -> str:
    """Return how far the stop is on the host that ends last."""
    left = [host for host in state.all_hosts if not host.phase.is_final and host.exit is None]
    lost = [host.name for host in left if is_disconnected(host)]
    if lost and len(lost) == len(left):
        return f"waiting for {fold_names(lost)}, no connection"
    stops = [describe_host_stop(host, state) for host in left if not is_disconnected(host)]
    return next((stop for stop in stops if "KILL in" in stop), next(filter(None, stops), ""))


def describe_host_stop(host: HostState, state: RunState) -> str:
    """Return ``TERM sent, KILL in 31 s`` or ``KILL sent``; "" before the stop."""
    if host.kill_at is not None:
        return "KILL sent"
    if host.stop is None or host.stop_at is None:
        return ""
    left = host.stop_at + host.stop.grace - state.now
    return f"TERM sent, KILL in {format_seconds(left)}" if left > 0 else "TERM and KILL sent"


def is_disconnected(host: HostState) -> bool:
    """Return whether the connection of a host is lost and may come back."""
    return host.disconnected_at is not None and not host.phase.is_final


def _describe_lost(lost: list[HostState], heading: RunInfo, state: RunState) -> str:
    """Return the disconnected hosts, and how long the first of them goes on without the launcher."""
    names = lost[0].name if len(lost) == 1 else f"{len(lost)}/{len(state.order)}"
    leases = [left for host in lost if (left := measure_lease(host, heading, state)) is not None]
    return f"{names}, {describe_lease(min(leases))}" if leases else names


def measure_lease(host: HostState, heading: RunInfo, state: RunState) -> float | None:
    """Return the seconds until the lease of a disconnected host expires; None without a lease."""
    since = host.last_message_at or host.disconnected_at
    return since + heading.lease - state.now if heading.lease and since is not None else None


def describe_lease(left: float) -> str:
    """Return ``lease 240 s left``, or that the lease has expired."""
    return f"lease {format_seconds(left)} left" if left > 0 else "lease expired"


def _find_progress(state: RunState, found: Observations) -> RunStatus:
    """Return the condition of a run that has started on all hosts and that nothing ends."""
    hosts = state.all_hosts
    joined = sum(has_joined(host) for host in hosts)
    meets = any(host.waiting_at is not None or host.joined_at is not None for host in hosts)
    if meets and joined < len(hosts) and not found.has_steps:
        return RunStatus(condition=RunCondition.RENDEZVOUS, detail=f"{joined}/{len(hosts)}")
    if state.output_at is None:
        since = max((host.started_at or state.began_at for host in hosts), default=state.began_at)
        return RunStatus(condition=RunCondition.NO_OUTPUT, detail=format_seconds(state.now - since))
    if is_silent(state):
        return RunStatus(condition=RunCondition.SILENT, detail=format_seconds(state.now - state.output_at))
    if found.slow:
        host, how = next(iter(found.slow.items()))
        return RunStatus(condition=RunCondition.SLOW, detail=how if how.startswith("rank") else f"{host}: {how}")
    return RunStatus(condition=RunCondition.RUNNING)


def has_joined(host: HostState) -> bool:
    """Return whether the host is past the rendezvous. A stream of a rank exists only after it."""
    return host.joined_at is not None or any(name.startswith("rank") for name in host.streams.values())


def is_silent(state: RunState) -> bool:
    """Return whether all hosts are quiet for much longer than the pauses that are usual for this run."""
    running = [host for host in state.all_hosts if host.phase is Phase.RUNNING and host.last_output_at is not None]
    if state.output_at is None or not running:
        return False
    usual = min(host.usual_pause for host in running)
    return state.now - state.output_at > max(SILENT_SECONDS, USUAL_PAUSES * usual)


def format_seconds(value: float) -> str:
    """Format a duration in whole seconds, so that the text changes at most once a second: ``8 s``, ``2 min 5 s``."""
    whole = int(max(0.0, value))
    return f"{whole} s" if whole < 300 else format_duration(float(whole))
