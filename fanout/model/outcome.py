"""Run outcome: one RunOutcome, which holds the exit status of fanout.

The status is that of the *first cause*, never of a victim, of a later signal or of the largest number: an ExitStatus, the
code of the first failing host, or 128 + its signal. A time limit gives 124 also if train.sh saves and exits 0 on SIGTERM.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.frozen import frozen
from fanout.model.planned_stop import find_sent_save
from fanout.model.state import HostState, Phase, RunState
from fanout.text.units import name_all

ExitOrigin = Literal["script", "ssh", "fanout", "user"]
ORIGINS: tuple[ExitOrigin, ...] = get_args(ExitOrigin)


@frozen
class HostOutcome:
    """The end of one host: ``verdict`` is ok, failed, stopped, unreached, refused, lost or never-started."""

    host: str
    verdict: str
    code: int | None
    signal: int | None
    reason: str  # one sentence for a person
    hint: str
    left: int | None  # processes that still run; None: unknown
    outside_calls: str = ""  # calls of train.sh that start processes elsewhere: not verified


@frozen
class RunOutcome:
    """The end of a run. ``first`` is the host that failed first (None: none failed, or the user stopped the run)."""

    exit_code: int
    origin: ExitOrigin
    headline: str
    first: str | None = None
    hosts: tuple[HostOutcome, ...]
    seconds: float
    hung: bool = False  # no rank made progress when the run was stopped
    stopped_why: str = ""  # why the user or the launcher stopped it; "" if it ended by itself, or a host failed
    before_attempt: int | None = None  # the attempt that the stop prevented, if it came between two attempts

    @property
    def is_success(self) -> bool:
        return self.exit_code == ExitStatus.SUCCESS

    @property
    def is_clean(self) -> bool:
        """Return whether every host was verified after the end and no process of the run is left.

        Processes that train.sh started elsewhere, such as by ssh, are not among them.
        """
        return all(host.left == 0 for host in self.hosts)

    @property
    def outside_calls(self) -> tuple[str, ...]:
        """Return the calls of train.sh that start processes elsewhere, each once."""
        names = (name for host in self.hosts for name in host.outside_calls.split(", ") if name)
        return tuple(dict.fromkeys(names))


def outcome_of(state: RunState, *, refused: str = "") -> RunOutcome:
    """Return the outcome of a run that is over. If the user left it, hosts that are not over count as unknown.

    ``refused`` is why fanout itself did not launch it.
    """
    hosts = tuple(_host_outcome(host, state) for host in state.all_hosts)
    build = partial(RunOutcome, hosts=hosts, seconds=state.now - state.began_at)
    stop = state.first_stop
    if state.interrupted_at is not None and not _ended_before_interrupt(state):
        code = status_of_signal(state.interrupts[0]) if state.interrupts else ExitStatus.TERMINATED
        by = describe_stopper(state)
        return build(exit_code=code, origin="user", headline=f"stopped {by}", stopped_why=by)
    stopped_first = stop is not None and (not state.failures or state.failures[0][1] > _first_stop_at(state))
    by_time_limit = stop is not None and stop.reason == "time-limit" and stopped_first
    if refused and not by_time_limit:
        return build(exit_code=ExitStatus.REFUSED, origin="fanout", headline=refused)
    save = find_sent_save(state)
    if save is not None and save.reason == "stop-command":  # the same status as for `fanout stop`
        return build(
            exit_code=ExitStatus.TERMINATED,
            origin="user",
            headline=save.why,
            stopped_why=save.why.removeprefix("stopped "),
        )
    if save is not None:
        return build(
            exit_code=ExitStatus.TIME_LIMIT, origin="fanout", headline=f"stopped: {save.why}", stopped_why=save.why
        )
    if stop is not None and stopped_first:  # no host had failed; later failures are victims of the stop
        status = ExitStatus.TIME_LIMIT if by_time_limit else ExitStatus.REFUSED
        return build(exit_code=status, origin="fanout", headline=f"stopped: {stop.why}", stopped_why=stop.why)
    if state.failures:
        first = state.failures[0][0]
        outcome = next(host for host in hosts if host.host == first)
        code, origin = _failure_status(state.hosts[first])
        return build(exit_code=code, origin=origin, headline=f"{first}: {outcome.reason}", first=first)
    idle = [outcome for host, outcome in zip(state.all_hosts, hosts, strict=True) if not host.has_succeeded]
    if idle:
        return build(exit_code=ExitStatus.REFUSED, origin="fanout", headline=f"{idle[0].host}: {idle[0].reason}")
    return build(exit_code=ExitStatus.SUCCESS, origin="script", headline=_describe_success(state))


def describe_stopper(state: RunState) -> str:
    """Return who interrupted the run first: ``by ann@pc with fanout stop``; if only the signal is known, ``by SIGTERM``."""
    return f"by {state.stopped_by} with fanout stop" if state.stopped_by else f"by {signal_name(state.interrupts[0])}"


def stop_between_attempts(outcome: RunOutcome, state: RunState, following: int) -> RunOutcome:
    """Return the outcome of a run that the user interrupted after this attempt, before attempt ``following``.

    ``state`` has the interrupt.
    """
    if outcome.origin == "user":
        return outcome
    by = describe_stopper(state)
    headline = f"stopped {by} before attempt {following}; attempt {following - 1}: {outcome.headline}"
    return replace(
        outcome,
        exit_code=status_of_signal(state.interrupts[0]),
        origin="user",
        headline=headline,
        stopped_why=by,
        before_attempt=following,
    )


def stop_by_time_limit(outcome: RunOutcome, following: int) -> RunOutcome:
    """Return the outcome of a run whose time limit leaves no time for attempt ``following``."""
    headline = f"stopped: time limit before attempt {following}; attempt {following - 1}: {outcome.headline}"
    return replace(
        outcome,
        exit_code=ExitStatus.TIME_LIMIT,
        origin="fanout",
        headline=headline,
        stopped_why="time limit",
        before_attempt=following,
    )


def with_unverified_hosts(outcome: RunOutcome, names: Collection[str]) -> RunOutcome:
    """Return the outcome with these hosts as not verified."""
    hosts = tuple(replace(host, left=None) if host.host in names else host for host in outcome.hosts)
    return replace(outcome, hosts=hosts)


def with_log_gaps(outcome: RunOutcome, holes: int) -> RunOutcome:
    """Turn a success into 125 if the record lacks bytes, because the disk of this machine was full."""
    if not holes or not outcome.is_success:
        return outcome
    return replace(
        outcome,
        exit_code=ExitStatus.REFUSED,
        origin="fanout",
        headline=f"{outcome.headline}, but its log on this machine has {holes} gap{'s' * (holes > 1)}",
    )


def _failure_status(host: HostState) -> tuple[int, ExitOrigin]:
    """Return the exit status for a run whose first failing host is ``host``, and the origin of that status."""
    if host.phase is Phase.REFUSED:
        return ExitStatus.REFUSED, "fanout"
    if host.exit is not None and host.exit.signal is not None:
        return status_of_signal(host.exit.signal), "script"
    if host.exit is not None and host.exit.code:
        return host.exit.code, "script"
    if host.exit is not None and host.exit.reason == "background-ended":
        return ExitStatus.REFUSED, "fanout"
    return ExitStatus.UNREACHABLE, "ssh"  # its end is unknown, or it was lost before it reported what is left


def _describe_success(state: RunState) -> str:
    """Return the headline of a good run: whether it ended, or train.sh returned and its processes were kept."""
    several = len(state.order) > 1
    if any("kept" in host.background for host in state.all_hosts):
        return "train.sh exited 0" + (f" on {name_all(len(state.order), 'host')}" if several else "")
    return f"{name_all(len(state.order), 'host')} succeeded" if several else "succeeded"


def _ended_before_interrupt(state: RunState) -> bool:
    """Return whether the run had ended before the user's first signal, or a host had failed, or fanout had begun to stop it.

    A signal while the hosts are verified changes nothing about the end, unless a host is then left unverified.
    """
    at = state.interrupted_at if state.interrupted_at is not None else float("-inf")
    if all(host.exit is not None and host.exit.at < at and host.phase is not Phase.LOST for host in state.all_hosts):
        return True
    began = [when for _, when in state.failures[:1]]
    began += [host.stop_at for host in state.all_hosts if host.stop_at is not None]
    return any(when < at for when in began)


def _first_stop_at(state: RunState) -> float:
    return min(host.stop_at for host in state.all_hosts if host.stop_at is not None)


def _host_outcome(host: HostState, state: RunState) -> HostOutcome:
    verdict, reason = _describe_end(host, state)
    left: int | None = None
    if host.container_left:
        left = None
    elif host.cleaned_up is not None:
        left = len(host.cleaned_up.left)
    elif not host.may_have_started:
        left = 0  # nothing was started there
    elif host.restarted and host.phase is Phase.LOST and not host.exit:
        left = 0  # nothing outlives a reboot
    elif host.has_empty_container:
        left = 0
    return HostOutcome(
        host=host.name,
        verdict=verdict,
        code=host.exit.code if host.exit else None,
        signal=host.exit.signal if host.exit else None,
        reason=reason,
        hint=host.trouble.hint if host.trouble else "",
        left=left,
        outside_calls=host.outside_calls,
    )


def _describe_end(host: HostState, state: RunState) -> tuple[str, str]:
    if host.phase is Phase.CONNECT_FAILED and host.trouble:
        return "unreached", host.trouble.message
    if host.phase is Phase.REFUSED and host.trouble:
        return "refused", host.trouble.message
    if host.phase is Phase.LOST and host.trouble:
        return "lost", host.trouble.message
    if host.exit is None:
        return (
            ("lost", "did not report how it ended") if host.may_have_started else ("never-started", "was not started")
        )
    elsewhere = None if state.interrupts else state.interrupted_at  # another launcher sends the stop to each host
    asked = [at for at in (host.stop_at, elsewhere, host.saving.requested_at) if at is not None]
    stopped = bool(asked) and host.exit.at >= min(asked)  # it ended after the request to stop or to save
    if host.exit.code == 0:
        return ("failed", _describe_exit(host)) if host.exit.why else ("ok", "exit 0")
    if host.exit.code is None and host.exit.signal is None:
        return "lost", host.exit.why or "how it ended is unknown"
    how = _describe_exit(host)
    return ("stopped" if stopped else "failed"), how


def _describe_exit(host: HostState) -> str:
    assert host.exit is not None
    why = f": {host.exit.why}" if host.exit.why else ""
    failed = host.exit.signal is not None or bool(host.exit.code)
    oom = " (out of memory: the kernel killed a process of this run)" if host.exit.oom and failed else ""
    if host.exit.signal is not None:
        return f"killed by {signal_name(host.exit.signal)}{oom}{why}"
    return f"exit {host.exit.code}{oom}{why}"


_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
            11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ"}  # fmt: skip


def signal_name(number: int) -> str:
    """Return ``SIGTERM`` for 15. The numbers are those of Linux, because hosts run Linux even if the launcher does not."""
    return _SIGNALS.get(number, f"signal {number}")
