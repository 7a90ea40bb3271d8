"""Status messages: turn the important events of a run into short messages for the user.

Equal messages of many hosts are merged for 0.3 s, so that 64 hosts that end together give one message.
A failure is reported immediately.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fanout.events import (
    Acted,
    Cramped,
    Event,
    Exited,
    Gone,
    Interrupted,
    Kill,
    Linked,
    LinkLost,
    Lost,
    Refused,
    Started,
    Stop,
    Unreached,
)
from fanout.hosts import fold
from fanout.outcome import signal_name
from fanout.state import HostState, Phase, RunState
from fanout.views.causes import cause, whole
from fanout.views.sanitise import clean_lines, sentence
from fanout.views.units import seconds

Level = Literal["info", "good", "warning", "error"]
GATHER_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A status message. ``level`` selects its colour."""

    text: str
    level: Level = "info"


class Narrator:
    """Builder of status messages. It gets every event, and is flushed at the end."""

    def __init__(self) -> None:
        self._gathered: dict[str, list[str]] = {}
        self._refused: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (message, hint) -> hosts with their pids
        self._since = 0.0
        self._down: set[str] = set()
        self._stopping = False
        self._done: set[str] = set()  # milestones already reported: connected, started
        self._cramps: set[tuple[str, str]] = set()  # already reported: a host repeats them after a reconnect

    def tell(self, event: Event, state: RunState) -> list[Said]:
        """Return the messages about this event, and the merged messages that are due."""
        said = self._due(event.at)
        match event:
            case Unreached() | Refused() | Lost():
                said += self._out(event, state)
            case Linked():
                said += self._linked(event, state)
            case LinkLost():
                said += self._link_lost(event, state)
            case Started():
                said += self._milestone("started", state)
            case Exited():
                said += self._exited(event, state)
            case Gone():
                said += _left_behind(event)
            case Cramped():
                said += self._cramped(event)
            case Interrupted():
                said.append(Said(text=f"got {signal_name(event.signal)}", level="warning"))
            case Acted():
                said += self._acted(event, state)
            case _:
                pass
        return said

    def flush(self) -> list[Said]:
        """Return the messages that still wait to be merged."""
        return self._due(float("inf"))

    def _due(self, now: float) -> list[Said]:
        if not (self._gathered or self._refused) or now - self._since < GATHER_SECONDS:
            return []
        said = [Said(text=f"{fold(hosts)} {what}") for what, hosts in self._gathered.items()]
        for (message, hint), those in self._refused.items():
            hosts = fold(name for name, _ in those)
            said += _trouble(hosts, "refused", whole(message, [pid for _, pid in those]), hint)
        self._gathered.clear()
        self._refused.clear()
        return said

    def _gather(self, what: str, host: str, at: float) -> None:
        if not (self._gathered or self._refused):
            self._since = at
        self._gathered.setdefault(what, []).append(host)

    def _linked(self, event: Linked, state: RunState) -> list[Said]:
        if event.host in self._down:
            self._down.discard(event.host)
            return [Said(text=f"{event.host}: reconnected; its log resumes where it stopped", level="good")]
        return self._milestone("connected", state)

    def _link_lost(self, event: LinkLost, state: RunState) -> list[Said]:
        if event.host in self._down or state.hosts[event.host].phase in (Phase.GONE, Phase.FORGOTTEN):
            return []
        self._down.add(event.host)
        still = "; train.sh keeps running" if state.hosts[event.host].phase is Phase.RUNNING else ""
        return [Said(text=f"{event.host}: link lost ({sentence(event.why)}){still}; reconnecting", level="warning")]

    def _cramped(self, event: Cramped) -> list[Said]:
        known = (event.host, event.message) in self._cramps
        self._cramps.add((event.host, event.message))
        return [] if known else [Said(text=f"{event.host}: {sentence(event.message)}", level="warning")]

    def _milestone(self, what: str, state: RunState) -> list[Said]:
        """Return ``connected 4/4 in 0.6 s`` once, when the last host is connected or started."""
        there = [host for host in state.all if (host.linked if what == "connected" else host.started_at is not None)]
        if what in self._done or len(there) < len(state.order):
            return []
        self._done.add(what)
        since = max((host.go_at or state.began_at for host in state.all), default=state.began_at)
        took = state.now - (state.began_at if what == "connected" else since)
        return [Said(text=f"{what} {len(there)}/{len(state.order)} in {seconds(took)}")]

    def _out(self, event: Unreached | Refused | Lost, state: RunState) -> list[Said]:
        host = state.hosts[event.host]
        self._down.discard(event.host)
        trouble = host.trouble
        if trouble is not None and host.phase is Phase.REFUSED:
            if not (self._gathered or self._refused):
                self._since = event.at
            message, pid = cause(trouble.message)
            self._refused.setdefault((message, trouble.hint), []).append((event.host, pid))
            return []
        what = {Phase.UNREACHED: "unreachable", Phase.REFUSED: "refused", Phase.LOST: "lost"}.get(host.phase, "out")
        return _trouble(event.host, what, trouble.message if trouble else "", trouble.hint if trouble else "")

    def _exited(self, event: Exited, state: RunState) -> list[Said]:
        host = state.hosts[event.host]
        how = how_it_ended(host)
        first = bool(state.failures) and state.failures[0][0] == event.host
        if event.code == 0 or not first or was_stopped(host, state):
            self._gather(f"ended: {how}", event.host, event.at)
            return []
        return [Said(text=f"{event.host}: train.sh ended: {how}", level="error")]

    def _acted(self, event: Acted, state: RunState) -> list[Said]:
        action = event.action
        if isinstance(action, Stop) and not self._stopping:
            self._stopping = True
            if all(host.go_at is None for host in state.all):
                return [Said(text=f"not starting: {sentence(action.why)}", level="warning")]
            grace = f"TERM now, KILL after {seconds(action.grace)}"
            return [Said(text=f"stopping all hosts: {sentence(action.why)} ({grace})", level="warning")]
        if isinstance(action, Kill) and "kill" not in self._done:
            self._done.add("kill")
            return [Said(text="killing the remaining processes on all hosts", level="warning")]
        return []


def _trouble(hosts: str, what: str, message: str, hint: str) -> list[Said]:
    words = clean_lines(message) or ["no reason given"]
    lines = [f"{what}: {words[0]}", *words[1:], *(f"try: {line}" for line in clean_lines(hint))]
    return [Said(text=f"{hosts}: {line}", level="error") for line in lines]


def _left_behind(event: Gone) -> list[Said]:
    said = [
        Said(
            text=f"{event.host}: left behind: pid {p.pid} ({p.state}, {sentence(p.wchan)}) {sentence(p.command)}",
            level="error",
        )
        for p in event.left
    ]
    if event.dropped:
        text = f"{event.host}: disk full: {event.dropped} bytes of its log were dropped"
        said.append(Said(text=text, level="warning"))
    elif not event.whole:
        said.append(Said(text=f"{event.host}: log incomplete: some bytes did not reach the launcher", level="warning"))
    return said


def how_it_ended(host: HostState) -> str:
    """Return how train.sh ended on this host, such as ``exit 3`` or ``killed by SIGTERM``; "" while it has not ended."""
    end = host.exit
    if end is None:
        return ""
    oom = " (out of memory)" if end.oom and (end.signal is not None or end.code) else ""
    why = f": {sentence(end.why)}" if end.why else ""
    if end.signal is not None:
        return f"killed by {signal_name(end.signal)}{oom}{why}"
    return f"exit {end.code}{oom}{why}" if end.code is not None else f"unknown{why}"


def was_stopped(host: HostState, state: RunState) -> bool:
    """Return whether train.sh ended after fanout sent it a stop; the end is then not a failure of this host."""
    failed_at = next((at for name, at in state.failures if name == host.name), None)
    return host.stop_at is not None and failed_at is not None and host.stop_at < failed_at


def status(state: RunState) -> str:
    """Return the states of all hosts in one line: ``63/64 running · 1/64 link lost (gpu52)``."""
    counts: dict[str, list[str]] = {}
    for host in state.all:
        word = "link lost" if host.link_lost_at is not None and not host.phase.over else host.phase.value
        counts.setdefault(word, []).append(host.name)
    total = len(state.order)
    parts = [
        f"{len(names)}/{total} {word}" + (f" ({fold(names)})" if len(counts) > 1 and len(names) * 2 < total else "")
        for word, names in counts.items()
    ]
    return " · ".join(parts)
