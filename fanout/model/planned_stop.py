"""Planned stop: when the hosts ask the ranks to save, and when the stop follows. Pure.

A time limit with ``--save-before`` and ``fanout stop --save`` plan a stop. The hosts send a signal to the ranks that handle
it. These save and end by themselves. The stop follows when all ranks have ended, at the latest at the planned time.
"""

from __future__ import annotations

from dataclasses import replace

from fanout.model.actions import Action, Save, StopReason
from fanout.model.frozen import frozen
from fanout.model.policy_options import Policy
from fanout.model.state import HostState, Phase, RunState

DEFAULT_SIGNAL = "USR1"
CHECK_SECONDS = 10.0  # after the first step: by then a task has installed its handlers
STEPLESS_CHECK_SECONDS = 600.0  # after the start, if the log reports no step


@frozen
class PlannedStop:
    """A stop that is planned for ``stop_at``. The ranks are asked to save at ``save_at``; None: they are not."""

    reason: StopReason
    why: str
    signal: str
    stop_at: float
    save_at: float | None


def find_planned_stop(policy: Policy, state: RunState) -> PlannedStop | None:
    """Return the next planned stop, None if there is none or no host has started."""
    began = min((host.go_at for host in state.all_hosts if host.go_at is not None), default=None)
    if began is None:
        return None
    signal, plans = policy.save_signal or DEFAULT_SIGNAL, []
    if policy.time_limit is not None:
        limit = began + policy.time_limit
        save_at = None if policy.save_before is None else limit - policy.save_before
        plans.append(PlannedStop(reason="time-limit", why="time limit", signal=signal, stop_at=limit, save_at=save_at))
    request = state.save_request
    if request is not None:
        why = f"stopped by {request.by} with fanout stop --save"
        limit, signal = request.at + request.seconds, request.signal
        plans.append(PlannedStop(reason="stop-command", why=why, signal=signal, stop_at=limit, save_at=request.at))
    if not plans:
        return None
    first = min(plans, key=lambda plan: plan.stop_at)
    saves = [plan for plan in plans if plan.save_at is not None]
    earliest = min(saves, key=lambda plan: plan.save_at or 0.0, default=first)
    return replace(first, save_at=earliest.save_at, signal=earliest.signal)


def find_sent_save(state: RunState) -> Save | None:
    """Return the request to save that was sent before any host failed or was stopped; None if there is none."""
    sent = [host for host in state.all_hosts if host.saving.requested_at is not None]
    if not sent:
        return None
    first = min(sent, key=lambda host: host.saving.requested_at or 0.0)
    at = first.saving.requested_at or 0.0
    others = [when for _, when in state.failures[:1]]
    others += [host.stop_at for host in state.all_hosts if host.stop_at is not None]
    return None if any(when < at for when in others) else first.saving.request


def is_due(planned: PlannedStop, state: RunState) -> bool:
    """Return whether the stop follows now: at the planned time, or once all ranks that were asked to save have ended."""
    if state.now >= planned.stop_at:
        return True
    started = [host for host in state.all_hosts if host.go_at is not None]
    return find_sent_save(state) is not None and all(map(_has_ended, started))


def _has_ended(host: HostState) -> bool:
    return host.saving.has_ended or host.exit is not None or host.phase.is_final


def decide_saves(policy: Policy, state: RunState) -> list[Action]:
    """Return the requests to save that are due, or questions about the handlers of the ranks well before that."""
    planned = find_planned_stop(policy, state)
    running = [host for host in state.all_hosts if host.phase is Phase.RUNNING]
    if planned is not None and planned.save_at is not None and state.now >= planned.save_at:
        if state.failures and find_sent_save(state) is None:
            return []  # the run has failed: it is stopped for that
        return [
            Save(host=host.name, signal=planned.signal, reason=planned.reason, why=planned.why)
            for host in running
            if host.saving.requested_at is None
        ]
    signal = planned.signal if planned is not None and planned.save_at is not None else policy.save_signal
    if not signal or state.failures or not _is_check_due(state):
        return []
    return [
        Save(host=host.name, signal=signal, reason="stop-command", why="", sends=False)
        for host in running
        if host.saving.asked_at is None
    ]


def _is_check_due(state: RunState) -> bool:
    if state.first_step_at is not None:
        return state.now - state.first_step_at >= CHECK_SECONDS
    started = [host.started_at for host in state.all_hosts]
    return all(at is not None and state.now - at >= STEPLESS_CHECK_SECONDS for at in started)
