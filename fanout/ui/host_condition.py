"""Condition of one host: its symbol, and the most important fact about it in words. Pure."""

from __future__ import annotations

from typing import Literal

from fanout.model.run_info import RunInfo
from fanout.model.state import HostState, Phase, RunState
from fanout.text.sanitize import to_single_line
from fanout.text.units import format_age
from fanout.ui.run_condition import (
    RunCondition,
    describe_host_stop,
    describe_lease,
    format_seconds,
    has_joined,
    is_disconnected,
    measure_lease,
)
from fanout.ui.status_messages import describe_exit, was_stopped

HostSign = Literal["good", "busy", "bad", "odd", "over", "stopped", "idle"]


def get_host_sign(host: HostState, state: RunState) -> HostSign:
    """Return the sign of a host, which selects its symbol and colour."""
    if was_stopped(host, state) and not (host.cleaned_up is not None and host.cleaned_up.left):
        return "stopped"
    if host.has_failed or (host.cleaned_up is not None and host.cleaned_up.left):
        return "bad"
    if is_disconnected(host):
        return "odd"
    if host.phase is Phase.RUNNING:
        return "good" if host.stop_at is None else "busy"
    if host.exit is not None:
        return "over"
    if host.phase is Phase.RELEASED:
        return "stopped"
    return "idle" if host.phase is Phase.WAITING else "busy"


def describe_host(host: HostState, heading: RunInfo, state: RunState, condition: RunCondition) -> str:
    """Return the most important fact about a host: connection lost, error, exit, stop, or else its phase.

    ``condition`` is that of the run: it decides how a quiet host is described.
    """
    if is_disconnected(host):
        return _describe_lost_link(host, heading, state)
    if host.trouble is not None:
        return f"{host.phase.value}: {to_single_line(host.trouble.message)}"
    if host.cleaned_up is not None and host.cleaned_up.left:
        return f"{describe_exit(host)}; {len(host.cleaned_up.left)} left behind"
    if host.exit is not None:
        return describe_exit(host) + (", verifying" if host.phase is Phase.EXITED else "")
    if host.phase is Phase.RELEASED:
        return "not started"
    if host.stop_at is not None:
        return describe_host_stop(host, state)
    if host.phase is Phase.CONNECTING:
        return _describe_attempt(host, heading, state)
    if host.phase is Phase.RUNNING:
        return _describe_progress(host, state, condition)
    return str(host.phase.value)


def _describe_lost_link(host: HostState, heading: RunInfo, state: RunState) -> str:
    lease = measure_lease(host, heading, state) if host.started_at is not None else None
    left = f", {describe_lease(lease)}" if lease is not None else ""
    why = f" ({to_single_line(host.disconnect_reason)})" if host.disconnect_reason else ""
    return f"link lost {format_age(state.now - (host.disconnected_at or state.now))}{left}{why}, attempt {host.attempt}"


def _describe_attempt(host: HostState, heading: RunInfo, state: RunState) -> str:
    """Return ``connecting 3/10 s``, with the number of the attempt after the first."""
    spent = int(state.now - (host.connecting_at or state.began_at))
    limit = f"/{heading.connect_timeout:g}" if heading.connect_timeout else ""
    return f"connecting {spent}{limit} s" + (f", attempt {host.attempt}" if host.attempt > 1 else "")


def _describe_progress(host: HostState, state: RunState, condition: RunCondition) -> str:
    """Return how far a running host is: at the rendezvous, without output, silent, or running."""
    if host.unresolved_at is not None:
        return "cannot resolve MASTER_ADDR"
    if condition is RunCondition.RENDEZVOUS and has_joined(host):
        return "joined"
    if condition is RunCondition.RENDEZVOUS and host.waiting_at is not None:
        return f"rendezvous {format_seconds(state.now - host.waiting_at)}"
    if host.last_output_at is None:
        return f"no output {format_seconds(state.now - (host.started_at or state.now))}"
    if condition in (RunCondition.SILENT, RunCondition.HUNG):
        return f"silent {format_seconds(state.now - host.last_output_at)}"
    return "running"
