"""Planned stop in words: status messages while it goes on, and lines for the report. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fanout.model.actions import Save, Stop
from fanout.model.events import NO_RANK, ActionSent, Event, RankEnded, SaveHandlers, SaveRequested
from fanout.model.hosts import fold_names, fold_numbers
from fanout.model.planned_stop import find_sent_save
from fanout.model.state import HostState, RunState
from fanout.text.sanitize import to_single_line
from fanout.text.units import count_noun, format_duration

HANDLER_HINT = 'a handler takes 5 lines: see "Planned stops" in docs/restarts.md'


class PlannedStopMessages:
    """Builder of the messages about a planned stop. It gets every event; each message is returned once."""

    def __init__(self) -> None:
        self._done: set[str] = set()

    def handle_event(self, event: Event, state: RunState) -> list[str]:
        """Return the messages about this event."""
        match event:
            case SaveRequested():
                latest = _format_time(event.at + event.seconds)
                by = to_single_line(event.by)
                return [f"planned stop: {by} requested it: SIG{event.signal} now, the stop at the latest at {latest}"]
            case ActionSent(action=Save() as action) if action.sends:
                time_limit = action.reason == "time-limit"
                return self._once("begins", f"planned stop: the {action.why} is near: SIG{action.signal}" * time_limit)
            case SaveHandlers():
                return self._handle_answer(event, state)
            case RankEnded():
                return self._handle_end(state)
            case ActionSent(action=Stop()):
                return self._handle_stop(state)
            case _:
                return []

    def _once(self, name: str, text: str) -> list[str]:
        if name in self._done or not text:
            return []
        self._done.add(name)
        return [text]

    def _handle_answer(self, event: SaveHandlers, state: RunState) -> list[str]:
        """Report which ranks have a handler, once all running hosts have answered."""
        hosts = [host for host in state.all_hosts if _has_run(host)]
        asked = [host for host in hosts if host.saving.request is not None]
        waiting = [host for host in asked or hosts if host.saving.handlers is None and host.exit is None]
        if waiting:
            return []
        lines = []
        if asked and any(host.saving.signalled for host in asked):
            lines += self._once("sent", f"planned stop: {_describe_sent(asked)}")
        silent = _describe_silent(hosts)
        return lines + (self._once(silent, f"{silent}; {HANDLER_HINT}") if silent else [])

    def _handle_end(self, state: RunState) -> list[str]:
        hosts = _list_signalled(state)
        if any(host.saving.signalled and not host.saving.has_ended for host in hosts):
            return []
        return self._once("ended", f"planned stop: {_describe_ends(hosts)}")

    def _handle_stop(self, state: RunState) -> list[str]:
        if find_sent_save(state) is None or "ended" in self._done:
            return []
        return self._once("ended", f"planned stop: {_describe_ends(_list_signalled(state))}")


def describe_planned_stop(state: RunState) -> Sequence[str]:
    """Return lines for the report: which ranks received the signal, and which ended by themselves. [] without one."""
    if find_sent_save(state) is None:
        return []
    hosts = _list_signalled(state)
    sent = [_describe_sent(hosts), _describe_ends(hosts)] if any(host.saving.signalled for host in hosts) else []
    silent = _describe_silent([host for host in state.all_hosts if _has_run(host)])
    return [*sent, *([silent] if silent else [])]


def _has_run(host: HostState) -> bool:
    return host.started_at is not None


def _list_signalled(state: RunState) -> list[HostState]:
    return [host for host in state.all_hosts if host.saving.request is not None]


def _describe_sent(hosts: Sequence[HostState]) -> str:
    """Return ``SIGUSR1 to ranks 0-7 on gpu[01-02]``."""
    there = [host for host in hosts if host.saving.signalled]
    signal = next(host.saving.handlers.signal for host in there if host.saving.handlers is not None)
    ranks = [rank for host in there for rank in host.saving.signalled]
    return f"SIG{signal} to {_format_ranks(ranks)} on {fold_names(host.name for host in there)}"


def _describe_ends(hosts: Sequence[HostState]) -> str:
    """Return which ranks ended by themselves after how long, and which did not."""
    ended = [(end.seconds, end.rank) for host in hosts for end in host.saving.ended]
    open_hosts = [host for host in hosts if len(host.saving.ended) < len(host.saving.signalled)]
    total = sum(len(host.saving.signalled) for host in hosts)
    if not total:
        return "no rank received the signal"
    parts = []
    if ended:
        which = "all" if len(ended) == total and total > 1 else _format_ranks([rank for _, rank in ended])
        last = "the last one " if len(ended) > 1 else ""
        parts.append(f"{which} ended by themselves, {last}after {format_duration(max(ended)[0])}")
        parts[0] = parts[0].replace("themselves", "itself") if len(ended) == 1 else parts[0]
    if open_hosts:
        left = [rank for host in open_hosts for rank in _list_open_ranks(host)]
        parts.append(f"{_format_ranks(left)} on {fold_names(host.name for host in open_hosts)} did not end")
    return "; ".join(parts)


def _list_open_ranks(host: HostState) -> list[int]:
    left = list(host.saving.signalled)
    for end in host.saving.ended:
        if end.rank in left:
            left.remove(end.rank)
    return left


def _describe_silent(hosts: Sequence[HostState]) -> str:
    """Return which hosts have no rank with a handler, and what that means; "" if every host has one."""
    known = [host.saving.handlers for host in hosts if host.saving.handlers is not None]
    silent = [host.name for host in hosts if host.saving.lacks_handler]
    if not silent or not known:
        return ""
    where = "" if len(silent) == len(hosts) else f" on {fold_names(silent)}"
    means = "a planned stop saves nothing" if not where else "a planned stop cannot save there"
    return f"no rank{where} handles SIG{known[0].signal}: {means}"


def _format_ranks(ranks: Sequence[int]) -> str:
    named = [rank for rank in ranks if rank != NO_RANK]
    if len(named) < len(ranks):
        return count_noun(len(ranks), "process")
    return f"rank{'s' if len(named) > 1 else ''} {fold_numbers(named)}"


def _format_time(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
