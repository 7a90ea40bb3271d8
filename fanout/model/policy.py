"""Policy: decide from a state which actions to take. Pure, so each rule can be tested with a state and a list.

No host starts until every host is prepared. The first failure stops the run on all hosts: the others get a moment for
their last output (so that the cause arrives, not only its victims), then SIGTERM, grace and SIGKILL. Each action is
returned once, because carrying it out is an event that the state records.
"""

from __future__ import annotations

import time

from fanout.model import hang_detection, planned_stop
from fanout.model.actions import Abandon, Action, Go, Inspect, Kill, Prepare, Release, Stop, StopReason
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names
from fanout.model.policy_options import POLICY_SETTINGS as POLICY_SETTINGS
from fanout.model.policy_options import Policy as Policy
from fanout.model.policy_options import policy_of as policy_of
from fanout.model.state import HostState, Phase, RunState

RELEASE_SECONDS = 5.0  # wait for "forgotten" after Forget
ALONE_SECONDS = 30.0  # for a host without a connection, once all others have ended and the run fails or stops
STOP_MARGIN_SECONDS = 30.0  # after the grace, for the keeper's own SIGKILL and clean-up
FENCE_MARGIN_SECONDS = 5.0  # the same, if another attempt waits for the end of the lease


def decide_actions(policy: Policy, state: RunState) -> tuple[Action, ...]:
    """Return the actions to take now."""
    if len(state.interrupts) >= 3:
        return tuple(
            Abandon(host=host.name, why="abandoned by the user") for host in state.all_hosts if not host.phase.is_final
        )
    started = any(host.go_at is not None for host in state.all_hosts)
    actions = list(_decide_after_go(policy, state) if started else _decide_before_go(policy, state))
    asked = {action.host for action in actions if isinstance(action, Inspect)}
    for host in state.all_hosts:
        if host.name not in asked:  # a host that failed at once has cleaned up by now, and its answer comes first
            actions += _decide_host_end(policy, state, host)
    return tuple(actions)


def _decide_before_go(policy: Policy, state: RunState) -> list[Action]:
    """Return the actions before Go: prepare connected hosts, start once all are ready, or undo everything."""
    hosts = state.all_hosts
    cause = _reason_to_undo(policy, state)
    if cause is not None:
        settled = state.interrupts or not any(host.phase in (Phase.WAITING, Phase.CONNECTING) for host in hosts)
        return (
            _undo_prepare(state, cause) if settled else []
        )  # wait for all hosts, so that every failure is reported at once
    actions: list[Action] = []
    if policy.prepare:
        actions += [
            Prepare(host=host.name) for host in hosts if host.phase is Phase.CONNECTED and host.prepare_at is None
        ]
        if all(host.phase is Phase.PREPARED for host in hosts):
            actions += [Go(host=host.name) for host in hosts]
    return actions


@frozen
class _StopCause:
    """The reason to stop the run, and the same as a text."""

    reason: StopReason
    why: str


def _reason_to_undo(policy: Policy, state: RunState) -> _StopCause | None:
    if state.interrupts:
        return _StopCause(reason="interrupted", why="interrupted")
    if state.failures:
        return _StopCause(reason="host-failed", why=f"{state.failures[0][0]} cannot take part")
    if _rolled_back_host(state):
        return _StopCause(reason="rolled-back", why=f"{_rolled_back_host(state)} rolled back before the start")
    for host in state.all_hosts:
        if host.phase is Phase.CONNECTED and _is_overdue(state, host.prepare_at, policy.start_timeout):
            return _StopCause(
                reason="start-timeout", why=f"{host.name} was not ready within {policy.start_timeout:g} s"
            )
    return None


def _undo_prepare(state: RunState, cause: _StopCause) -> list[Action]:
    actions: list[Action] = []
    for host in state.all_hosts:
        if host.phase is Phase.PREPARED and host.stop_at is None:
            actions.append(Stop(host=host.name, grace=0.0, reason=cause.reason, why=cause.why))
        elif host.phase is Phase.CONNECTED and host.prepare_at is None and host.release_at is None:
            actions.append(Release(host=host.name))
        elif host.phase in (Phase.WAITING, Phase.CONNECTING):
            actions.append(Abandon(host=host.name, why="interrupted before it was connected"))
        elif host.phase is Phase.CONNECTED and _is_overdue(state, _last_request_at(host), RELEASE_SECONDS):
            actions.append(Abandon(host=host.name, why="did not answer in time"))
    return actions


def _last_request_at(host: HostState) -> float | None:
    return host.release_at if host.prepare_at is None else host.prepare_at


def _rolled_back_host(state: RunState) -> str:
    """Return a host that rolled back by itself, "" if none. A host does so after a minute without the launcher."""
    for host in state.all_hosts:
        by_itself = host.prepare_at is not None and host.stop_at is None and host.exit is None
        if by_itself and host.phase in (Phase.CLEANED_UP, Phase.RELEASED):
            return host.name
    return ""


def _decide_after_go(policy: Policy, state: RunState) -> list[Action]:
    """Return the actions after Go: questions about hangs and failures, Stop and Kill."""
    hung = policy.on_hang in hang_detection.ENDING and hang_detection.is_hung(state)
    saving = planned_stop.find_sent_save(state) is not None  # the ranks end on purpose: there is nothing to diagnose
    asked = hang_detection.ask_for_aftermath(state, hung=hung) if not saving else []
    cause = None if hung and asked else _reason_to_stop(policy, state)  # the post-mortem answers come before the stop
    actions: list[Action] = [*asked, *(planned_stop.decide_saves(policy, state) if not cause else ())]
    if not cause and not saving:
        actions += hang_detection.ask_for_stacks(policy.hang_timeout, state)
    for host in state.all_hosts:
        if host.phase not in (Phase.PREPARED, Phase.RUNNING):
            continue
        if cause is not None and host.stop_at is None:
            actions.append(Stop(host=host.name, grace=policy.grace, reason=cause.reason, why=cause.why))
        if len(state.interrupts) >= 2 and host.kill_at is None:
            actions.append(Kill(host=host.name))
    return actions


def _reason_to_stop(policy: Policy, state: RunState) -> _StopCause | None:
    if state.interrupts:
        return _StopCause(reason="interrupted", why="interrupted")
    planned = planned_stop.find_planned_stop(policy, state)
    if planned is not None and planned_stop.is_due(planned, state):
        return _StopCause(reason=planned.reason, why=planned.why)
    if planned_stop.find_sent_save(state) is not None:
        return None  # the ranks end by themselves: their exit is no failure, and the others may still save
    if state.failures and state.now - state.failures[0][1] >= policy.last_words:
        return _StopCause(reason="host-failed", why=f"{state.failures[0][0]} failed")
    if policy.on_hang in hang_detection.ENDING and hang_detection.is_hung(state):
        silent = f"no output for {_silent_seconds(state):.0f} s"
        return _StopCause(reason="hang", why=f"hang: {silent}, and no process of any host makes progress")
    if _rolled_back_host(state):
        return _StopCause(reason="rolled-back", why=f"{_rolled_back_host(state)} rolled back before the start")
    for host in state.all_hosts:
        if host.phase is Phase.PREPARED and _is_overdue(state, host.go_at, policy.start_timeout):
            return _StopCause(
                reason="start-timeout", why=f"{host.name} did not start within {policy.start_timeout:g} s"
            )
    missing = _missing_at_rendezvous(policy, state) or _unreachable_rendezvous(policy, state)
    if missing:
        return _StopCause(reason="rendezvous", why=missing)
    ended = [host for host in state.all_hosts if host.has_succeeded]
    if ended and policy.on_early_exit == "stop" and len(ended) < len(state.all_hosts):
        return _StopCause(reason="early-exit", why=f"{ended[0].name} ended early")
    return None


def _silent_seconds(state: RunState) -> float:
    return state.now - (state.output_at or state.began_at)


def _missing_at_rendezvous(policy: Policy, state: RunState) -> str:
    """Return why hosts are missing at the rendezvous; "" if none are, or if no host uses it.

    Once one host is connected to MASTER_PORT, all must be. Before that, hosts with a torchrun wait for hosts without.
    """
    joined = [host.joined_at for host in state.all_hosts if host.joined_at is not None]
    waiting = [host.waiting_at for host in state.all_hosts if host.waiting_at is not None]
    since = min(joined or waiting, default=None)
    if not _is_overdue(state, since, policy.start_timeout):
        return ""
    late = [
        host
        for host in state.all_hosts
        if host.phase is Phase.RUNNING and host.connected and (host.joined_at if joined else host.waiting_at) is None
    ]
    if not late:
        return ""
    names, how = fold_names(host.name for host in late), f"within {policy.start_timeout:g} s of the others"
    if not joined:
        return f"{names}: no torchrun started {how}"
    up = " although torchrun runs there" if all(host.waiting_at is not None for host in late) else ""
    return f"{names} did not join the rendezvous on MASTER_PORT {how}{up}"


def _unreachable_rendezvous(policy: Policy, state: RunState) -> str:
    """Return why the rendezvous can never complete, "" if no such reason is known."""
    running = [host for host in state.all_hosts if host.phase is Phase.RUNNING and host.connected]
    limit = f"{policy.start_timeout:g} s"
    stuck = fold_names(host.name for host in running if _is_overdue(state, host.unresolved_at, policy.start_timeout))
    if stuck:
        return f"MASTER_ADDR did not resolve on {stuck} for {limit}"
    if len(state.all_hosts) == 1 and any(
        host.joined_at is None
        and host.unresolved_at is None
        and _is_overdue(state, host.waiting_at, policy.start_timeout)
        for host in running
    ):
        return f"torchrun on {running[0].name} started no rank for {limit}: it waits for hosts that are not in this run"
    return ""


def _decide_host_end(policy: Policy, state: RunState, host: HostState) -> list[Action]:
    """Return the actions that end one host: Release after clean-up, Kill after an overdue Stop, Abandon if it is lost."""
    if host.phase is Phase.CLEANED_UP and not policy.hold:
        if host.release_at is None:
            return [] if host.connected and hang_detection.has_open_question(state, host) else [Release(host=host.name)]
        if _is_overdue(state, host.release_at, RELEASE_SECONDS):
            return [Abandon(host=host.name, why="did not confirm the end of the run")]
    patience = policy.grace + STOP_MARGIN_SECONDS
    if host.phase in (Phase.PREPARED, Phase.RUNNING, Phase.EXITED):
        stuck = _without_progress(policy, state, host, patience)
        if stuck:
            return [Abandon(host=host.name, why=stuck)]
        if host.disconnected_at is not None and _is_overdue(
            state, host.disconnected_at, _reconnect_timeout(policy, state, host)
        ):
            return [Abandon(host=host.name, why=_why_unknown(policy, state, host))]
        if host.connected and host.exit is None and _is_overdue(state, _stop_received_at(host), 2 * patience):
            return [Abandon(host=host.name, why="did not end after the stop request")]
        if host.connected and _is_overdue(state, _last_output_at(host), 2 * patience):
            return [Abandon(host=host.name, why="did not report what is left of the run")]
        late = _is_overdue(state, _stop_received_at(host), patience) or _is_overdue(
            state, host.stop_at, policy.lease + patience
        )
        if host.connected and host.kill_at is None and late:
            return [Kill(host=host.name)]
    return []


def _reconnect_timeout(policy: Policy, state: RunState, host: HostState) -> float:
    """Return how many seconds a host may be without a connection.

    That is lease + grace + a margin while another host may still run. It is at most ALONE_SECONDS once the run has failed
    or is stopping, and this host alone keeps it from its end. With a short lease, the host has ended its part before.
    """
    longest = policy.lease + policy.grace + (FENCE_MARGIN_SECONDS if policy.hold else STOP_MARGIN_SECONDS)
    others = [other for other in state.all_hosts if other.name != host.name]
    is_ending = bool(state.failures) or state.ending_at is not None
    if others and is_ending and all(_is_done(other) for other in others):
        return min(ALONE_SECONDS, policy.lease + policy.grace + FENCE_MARGIN_SECONDS) if policy.lease else ALONE_SECONDS
    return longest


def _is_done(host: HostState) -> bool:
    """Return whether the host has ended its part, or has no connection either."""
    return host.phase.is_final or host.phase is Phase.CLEANED_UP or not host.connected


def _why_unknown(policy: Policy, state: RunState, host: HostState) -> str:
    """Return why the host is given up, and until when processes of the run may still exist there."""
    why = f"no connection for {_reconnect_timeout(policy, state, host):g} s ({host.disconnect_reason})"
    ends = (host.last_message_at or host.disconnected_at or state.now) + policy.lease
    if not policy.lease:
        return f"{why}: unknown, it may still run, because it has no lease"
    if ends <= state.now:
        return why
    return (
        f"{why}: unknown, it may still run until its lease expires at {time.strftime('%H:%M:%S', time.localtime(ends))}"
    )


def hosts_waited_for(policy: Policy, state: RunState) -> dict[str, float]:
    """Return host -> when it is given up, for disconnected hosts that alone keep a run from its end."""
    if not state.failures and state.ending_at is None:
        return {}
    left = [host for host in state.all_hosts if not host.phase.is_final and host.phase is not Phase.CLEANED_UP]
    if not left or any(host.disconnected_at is None for host in left):
        return {}
    return {
        host.name: max(host.disconnected_at or 0.0, state.awake_at) + _reconnect_timeout(policy, state, host)
        for host in left
    }


def abandon_silent_hosts(policy: Policy, state: RunState) -> tuple[Action, ...]:
    """Return the actions of a launcher that only observes: give up each host that has been silent for too long."""
    patience = policy.lease + policy.grace + STOP_MARGIN_SECONDS
    actions: list[Action] = []
    for host in state.all_hosts:
        if host.phase.is_final:
            continue
        if _is_overdue(
            state, host.disconnected_at if host.no_message_since is None else host.no_message_since, patience
        ):
            actions.append(Abandon(host=host.name, why=f"no connection for {patience:g} s ({host.disconnect_reason})"))
        elif host.phase is Phase.CONNECTED and _is_overdue(state, host.connected_at, policy.start_timeout):
            actions.append(Abandon(host=host.name, why=f"did not report the run within {policy.start_timeout:g} s"))
        elif host.phase is Phase.CLEANED_UP and _is_overdue(state, host.release_at, RELEASE_SECONDS):
            actions.append(Abandon(host=host.name, why="did not confirm the end of the run"))
    return tuple(actions)


def _without_progress(policy: Policy, state: RunState, host: HostState, patience: float) -> str:
    """Return why a host is given up although it reconnected repeatedly; "" if it is not given up.

    Every other deadline of a host restarts with its connection. These two do not.
    """
    whole = policy.lease + patience
    if host.connected and _is_overdue(state, host.no_message_since, whole):
        return f"for {whole:g} s its connection came back and was silent again ({host.disconnect_reason})"
    ending = [at for at in (host.stop_at, host.exit.at if host.exit else None) if at is not None]
    since = max(*ending, host.progress_at or 0.0) if ending else None
    if _is_overdue(state, since, whole + patience):
        what = "did not end" if host.exit is None else "did not report what is left of the run"
        return f"{what} within {whole + patience:g} s, and lost its connection meanwhile ({host.disconnect_reason or 'no reason'})"
    return ""


def _stop_received_at(host: HostState) -> float | None:
    return None if host.stop_at is None else _since_connected(host, host.stop_at)


def _last_output_at(host: HostState) -> float | None:
    """Return the time of the last message after train.sh ended: a long log takes long to arrive."""
    return None if host.exit is None else _since_connected(host, max(host.exit.at, host.last_output_at or 0.0))


def _since_connected(host: HostState, at: float) -> float:
    """Return ``at``, or the start of the connection if that is later: a disconnected host cannot answer."""
    return max(at, host.connected_at or at)


def _is_overdue(state: RunState, since: float | None, seconds: float) -> bool:
    """Return whether ``since`` is more than ``seconds`` ago. After a pause of the launcher the time starts again."""
    return since is not None and state.now - max(since, state.awake_at) > seconds
