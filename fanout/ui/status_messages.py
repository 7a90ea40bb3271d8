"""Status messages: turn the important events of a run into short messages for the user.

Equal messages of many hosts are merged for 0.3 s, so that 64 hosts that end together give one message.
A failure is reported immediately.
"""

from __future__ import annotations

from typing import Literal

from fanout.model.actions import Kill, Stop
from fanout.model.events import (
    ActionSent,
    BackgroundFound,
    CleanedUp,
    Connected,
    ConnectFailed,
    Disconnected,
    DiskPressure,
    Event,
    Exited,
    FirstStep,
    HostLost,
    Interrupted,
    RanksSeen,
    ReconnectFailed,
    Refused,
    Restarting,
    Started,
    StopRequested,
    StreamOpened,
)
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names
from fanout.model.outcome import signal_name
from fanout.model.process_names import get_container, name_process
from fanout.model.state import HostState, Phase, RunState
from fanout.text.sanitize import sanitize_lines, to_single_line
from fanout.text.units import format_duration
from fanout.ui.background_text import describe_found, warn_of_separate_groups
from fanout.ui.equal_messages import join_pids, split_pid
from fanout.ui.planned_stop_text import PlannedStopMessages
from fanout.ui.restart_text import describe_phase, describe_restart

Level = Literal["info", "good", "warning", "error"]
GATHER_SECONDS = 0.3


@frozen
class StatusMessage:
    """A status message. ``level`` selects its colour."""

    text: str
    level: Level = "info"


class StatusReporter:
    """Builder of status messages. It gets every event, and is flushed at the end."""

    def __init__(self) -> None:
        self._gathered: dict[str, list[str]] = {}
        self._refused: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (message, hint) -> hosts with their pids
        self._since = 0.0
        self._down: set[str] = set()
        self._stopping = False
        self._planned_stop = PlannedStopMessages()
        self._exited: set[str] = set()  # hosts already reported: a relay that attaches again repeats the exit
        self._done: set[str] = set()  # milestones already reported: connected, started
        self._cramps: set[tuple[str, str]] = set()  # already reported: a host repeats them after a reconnect

    def handle_event(self, event: Event, state: RunState) -> list[StatusMessage]:
        """Return the messages about this event, and the merged messages that are due."""
        messages = self._take_due(event.at)
        warnings = [*self._planned_stop.handle_event(event, state), *self._warn_of_groups(event, state)]
        messages += [StatusMessage(text=text, level="warning") for text in warnings]
        match event:
            case ConnectFailed() | Refused() | HostLost():
                messages += self._handle_host_failed(event, state)
            case Connected() | Disconnected() | ReconnectFailed():
                messages += self._handle_connection(event, state)
            case Started():
                messages += self._build_milestone("started", state)
            case Exited():
                messages += self._handle_exited(event, state)
            case BackgroundFound():
                self._handle_background(event, state)
            case CleanedUp():
                messages += _build_leftovers(event, state)
            case DiskPressure():
                messages += self._handle_disk_pressure(event)
            case Interrupted() | StopRequested():
                messages += self._handle_user_stop(event)
            case ActionSent():
                messages += self._handle_action(event, state)
            case Restarting():
                messages += self._handle_restart(event)
            case _:  # no message
                pass
        return messages

    def flush_messages(self) -> list[StatusMessage]:
        """Return the messages that still wait to be merged."""
        return self._take_due(float("inf"))

    def _take_due(self, now: float) -> list[StatusMessage]:
        if not (self._gathered or self._refused) or now - self._since < GATHER_SECONDS:
            return []
        messages = [StatusMessage(text=f"{fold_names(hosts)}{what}") for what, hosts in self._gathered.items()]
        for (message, hint), those in self._refused.items():
            hosts = fold_names(name for name, _ in those)
            messages += _build_failure(hosts, "refused", join_pids(message, [pid for _, pid in those]), hint)
        self._gathered.clear()
        self._refused.clear()
        return messages

    def _add_to_group(self, what: str, host: str, at: float) -> None:
        if not (self._gathered or self._refused):
            self._since = at
        self._gathered.setdefault(what, []).append(host)

    def _handle_user_stop(self, event: Interrupted | StopRequested) -> list[StatusMessage]:
        """Report each signal, and once each user: several hosts receive the request of one command."""
        text = describe_stop_signal(event)
        if event.by and text in self._done:
            return []
        self._done.add(text)
        return [StatusMessage(text=text, level="warning")]

    def _handle_background(self, event: BackgroundFound, state: RunState) -> None:
        how = state.hosts[event.host].exit
        if text := describe_found(event, failed=how is not None and how.code != 0):
            self._add_to_group(text, event.host, event.at)

    def _warn_of_groups(self, event: Event, state: RunState) -> list[str]:
        """Return the warning about separate groups once. In one group, all ranks exist before the first step."""
        is_news = isinstance(event, (RanksSeen, StreamOpened, FirstStep)) and "groups" not in self._done
        text = warn_of_separate_groups(state) if is_news else ""
        self._done.update({"groups"} if text else ())
        return [text] if text else []

    def _handle_connection(
        self, event: Connected | Disconnected | ReconnectFailed, state: RunState
    ) -> list[StatusMessage]:
        match event:
            case Connected():
                return self._handle_connected(event, state)
            case Disconnected():
                return self._handle_disconnected(event, state)
            case ReconnectFailed():
                return _build_failure(event.host, "cannot reconnect", event.why, event.hint, "warning")

    def _handle_connected(self, event: Connected, state: RunState) -> list[StatusMessage]:
        if event.host in self._down:
            self._down.discard(event.host)
            return [StatusMessage(text=f"{event.host}: reconnected; its log resumes where it stopped", level="good")]
        return self._build_milestone("connected", state)

    def _handle_disconnected(self, event: Disconnected, state: RunState) -> list[StatusMessage]:
        if event.host in self._down or state.hosts[event.host].phase in (Phase.CLEANED_UP, Phase.RELEASED):
            return []
        self._down.add(event.host)
        still = "; this alone does not stop train.sh" if state.hosts[event.host].phase is Phase.RUNNING else ""
        text = f"{event.host}: link lost ({to_single_line(event.why)}); reconnecting{still}"
        return [StatusMessage(text=text, level="warning")]

    def _handle_disk_pressure(self, event: DiskPressure) -> list[StatusMessage]:
        known = (event.host, event.message) in self._cramps
        self._cramps.add((event.host, event.message))
        return [] if known else [StatusMessage(text=f"{event.host}: {to_single_line(event.message)}", level="warning")]

    def _handle_restart(self, event: Restarting) -> list[StatusMessage]:
        """Return the cause and the action once, and each phase that takes time; first the messages that wait."""
        waiting = self.flush_messages()
        lines = [] if "restart" in self._done else describe_restart(event)
        self._done.add("restart")
        lines += [describe_phase(event, event.at)] if event.phase != "start" else []
        return waiting + [StatusMessage(text=line, level="warning") for line in lines]

    def _build_milestone(self, what: str, state: RunState) -> list[StatusMessage]:
        """Return ``connected 4/4 in 0.6 s`` once, when the last host is connected or started."""
        there = [
            host for host in state.all_hosts if (host.connected if what == "connected" else host.started_at is not None)
        ]
        if what in self._done or len(there) < len(state.order):
            return []
        self._done.add(what)
        since = max((host.go_at or state.began_at for host in state.all_hosts), default=state.began_at)
        took = state.now - (state.began_at if what == "connected" else since)
        return [StatusMessage(text=f"{what} {len(there)}/{len(state.order)} in {format_duration(took)}")]

    def _handle_host_failed(self, event: ConnectFailed | Refused | HostLost, state: RunState) -> list[StatusMessage]:
        host = state.hosts[event.host]
        self._down.discard(event.host)
        trouble = host.trouble
        if trouble is not None and host.phase is Phase.REFUSED:
            if not (self._gathered or self._refused):
                self._since = event.at
            message, pid = split_pid(trouble.message)
            self._refused.setdefault((message, trouble.hint), []).append((event.host, pid))
            return []
        what = {Phase.CONNECT_FAILED: "unreachable", Phase.REFUSED: "refused", Phase.LOST: "lost"}.get(
            host.phase, "out"
        )
        return _build_failure(event.host, what, trouble.message if trouble else "", trouble.hint if trouble else "")

    def _handle_exited(self, event: Exited, state: RunState) -> list[StatusMessage]:
        if event.host in self._exited:
            return []
        self._exited.add(event.host)
        host = state.hosts[event.host]
        how = describe_exit(host)
        first = bool(state.failures) and state.failures[0][0] == event.host
        if event.code == 0 or not first or was_stopped(host, state):
            self._add_to_group(f" ended: {how}", event.host, event.at)
            return []
        return [StatusMessage(text=f"{event.host}: train.sh ended: {how}", level="error")]

    def _handle_action(self, event: ActionSent, state: RunState) -> list[StatusMessage]:
        action = event.action
        if isinstance(action, Stop) and not self._stopping:
            self._stopping = True
            if not any(host.may_have_started for host in state.all_hosts):
                return [StatusMessage(text=f"not starting: {to_single_line(action.why)}", level="warning")]
            grace = f"TERM now, KILL after {format_duration(action.grace)}"
            return [StatusMessage(text=f"stopping all hosts: {to_single_line(action.why)} ({grace})", level="warning")]
        if isinstance(action, Kill) and "kill" not in self._done:
            self._done.add("kill")
            return [StatusMessage(text="killing the remaining processes on all hosts", level="warning")]
        return []


def _build_failure(hosts: str, what: str, message: str, hint: str, level: Level = "error") -> list[StatusMessage]:
    words = sanitize_lines(message) or ["no reason given"]
    lines = [f"{what}: {words[0]}", *words[1:], *(f"try: {line}" for line in sanitize_lines(hint))]
    return [StatusMessage(text=f"{hosts}: {line}", level=level) for line in lines]


def _build_leftovers(event: CleanedUp, state: RunState) -> list[StatusMessage]:
    messages = []
    if "kept" not in state.hosts[event.host].background:
        container = get_container(state.hosts[event.host].hello)
        texts = (
            f"left behind: {name_process(p.pid, container)} ({p.state}, {to_single_line(p.wchan)}) {to_single_line(p.command)}"
            for p in event.left
        )
        messages = [StatusMessage(text=f"{event.host}: {text}", level="error") for text in texts]
    if event.dropped:
        text = f"{event.host}: disk full: {event.dropped} bytes of its log were dropped"
        messages.append(StatusMessage(text=text, level="warning"))
    elif not event.whole:
        messages.append(
            StatusMessage(text=f"{event.host}: log incomplete: some bytes did not reach the launcher", level="warning")
        )
    return messages


def describe_stop_signal(event: Interrupted | StopRequested) -> str:
    """Return who stops the run, or the signal if its sender is not known."""
    if event.by or isinstance(event, StopRequested):
        return f"{to_single_line(event.by)} stops the run with fanout stop"
    return f"got {signal_name(event.signal)}"


def describe_exit(host: HostState) -> str:
    """Return how train.sh ended on this host, such as ``exit 3`` or ``killed by SIGTERM``; "" while it has not ended."""
    end = host.exit
    if end is None:
        return ""
    oom = " (out of memory)" if end.oom and (end.signal is not None or end.code) else ""
    why = f": {to_single_line(end.why)}" if end.why else ""
    if end.signal is not None:
        return f"killed by {signal_name(end.signal)}{oom}{why}"
    return f"exit {end.code}{oom}{why}" if end.code is not None else f"unknown{why}"


def was_stopped(host: HostState, state: RunState) -> bool:
    """Return whether train.sh ended after a request to stop or to save; the end is then not a failure of this host."""
    failed_at = next((at for name, at in state.failures if name == host.name), None)
    asked = [at for at in (host.stop_at, host.saving.requested_at) if at is not None]
    return bool(asked) and failed_at is not None and min(asked) < failed_at


def format_status(state: RunState) -> str:
    """Return the states of all hosts in one line: ``63/64 running · 1/64 link lost (gpu52)``."""
    counts: dict[str, list[str]] = {}
    for host in state.all_hosts:
        word = "link lost" if host.disconnected_at is not None and not host.phase.is_final else host.phase.value
        counts.setdefault(word, []).append(host.name)
    total = len(state.order)
    parts = [
        f"{len(names)}/{total} {word}"
        + (f" ({fold_names(names)})" if len(counts) > 1 and len(names) * 2 < total else "")
        for word, names in counts.items()
    ]
    return " · ".join(parts)
