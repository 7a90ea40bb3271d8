"""``fanout replay``: play back a recorded run in the live view, from any time of the run and at any speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from fanout.commands import report
from fanout.logs.line_filters import parse_display_filters
from fanout.logs.line_splitter import LIMIT
from fanout.model.errors import UsageError
from fanout.model.events import Chunk, Event, StreamOpened, Tick
from fanout.model.exit_status import ExitStatus
from fanout.model.option_table import BOUNDED
from fanout.model.option_values import range_error
from fanout.model.request import Request
from fanout.model.state import RunState
from fanout.model.subscriber import Subscriber, View
from fanout.record.index import read_run_info
from fanout.record.run_reader import RunReader
from fanout.run import diagnosis
from fanout.run.attempt_reporters import AttemptReporters, CurrentReporters
from fanout.run.choose_view import build_view, choose_look
from fanout.run.command_context import load_command_context
from fanout.run.process_context import ProcessContext
from fanout.text.parse_units import parse_duration

TICK_SECONDS = 0.1


def run_replay(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 for any outcome of the run, or 141 if the view broke. Raises UsageError."""
    context = load_command_context(request, process)
    begin, speed = parse_offset(request.given["at"]), parse_speed(request.given["speed"], tty=process.stdout.isatty())
    recorded = RunReader(context.find_run())
    look = choose_look(context)
    events = report.rebuild_report(recorded, context)
    collector = diagnosis.build_collector(recorded.heading, diagnosis.load_signatures(context), recorded=True)
    diagnosis.add_recorded_facts(collector, recorded.path)
    reporters = AttemptReporters.build(collector)
    filters = parse_display_filters(context.settings, metric=recorded.metric)
    current = CurrentReporters(reporters)
    heading = read_run_info(recorded.path, recorded.heading)
    view = build_view(heading, look, process, filters, reporters=current, viewing="replay")
    try:
        view.begin(recorded.began_at)
        since = _find_start(begin, recorded.began_at, events.state.now)
        play_events(
            _pace_events(skip_events_before(recorded.iter_states(), since), speed, time.monotonic, time.sleep),
            view,
            collector,
            reporters.hangs,
            reporters.pace,
        )
    finally:
        view.close()
    if view.broken:
        return ExitStatus.BROKEN_PIPE
    text = events.render(look.colour and process.stderr.isatty(), look.unicode)
    view.finish(events.outcome, text)
    if look.mode != "json":
        process.stderr.write(text)
    report.warn_unless_ended(recorded, process)
    return ExitStatus.SUCCESS


def _find_start(begin: float, first: float, last: float) -> float:
    """Return the start time on the clock of the run; a negative ``begin`` counts from the end."""
    return last + begin if begin < 0 else first + begin if begin > 0 else float("-inf")


def play_events(events: Iterable[tuple[Event, RunState]], view: View, *learners: Subscriber) -> None:
    """Show all events until the end, or until the view is broken; ``learners`` see each one first."""
    for event, state in events:
        for learner in learners:
            learner(event, state)
        view(event, state)
        if view.broken:
            return


def parse_offset(text: str) -> float:
    """Parse ``90``, ``5m``, ``1h30m`` or ``1:02:03`` to seconds from the start; with ``-`` before it, from the end.

    Raises UsageError.
    """
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if ":" in rest and len(rest) < 40 and all(part.isdecimal() for part in rest.split(":")) and rest.count(":") < 3:
        total = 0
        for part in rest.split(":"):
            total = total * 60 + int(part)
        return sign * total
    seconds = parse_duration(rest)
    if seconds is None:
        raise UsageError(f"--at {text[:40]}: not a time", hint="--at 90, --at 1h30m, --at 1:02:03 or --at=-30s")
    return sign * seconds


def parse_speed(text: str, *, tty: bool) -> float:
    """Parse --speed to a factor; the default is 1 on a terminal and unlimited in a pipe. Raises UsageError."""
    if text == "":
        return 1.0 if tty else float("inf")
    if text == "max":
        return float("inf")
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if wrong := range_error(BOUNDED["speed"], speed, text):
        raise UsageError(f"--speed {text[:40]}: {wrong}", hint="--speed 10, --speed 0.5 or --speed max")
    return speed


@dataclass(slots=True)
class _EarlierFacts:
    """Facts from before the start time that a view needs: names of streams, and incomplete lines."""

    opened: list[StreamOpened] = field(default_factory=list)
    begun: dict[tuple[str, int], Chunk] = field(default_factory=dict)

    def add_event(self, event: Event) -> None:
        if isinstance(event, StreamOpened):
            self.opened.append(event)
        elif isinstance(event, Chunk):
            key = (event.host, event.stream)
            before = self.begun.get(key)
            data = (before.data if before is not None else b"") + event.data
            end = event.offset + len(event.data)
            rest = data[data.rfind(b"\n") + 1 :][-LIMIT:]
            self.begun[key] = replace(event, data=rest, offset=end - len(rest))

    def build_events(self, at: float) -> Iterator[Event]:
        for event in self.opened:
            yield replace(event, at=at)
        for chunk in self.begun.values():
            if chunk.data:
                yield replace(chunk, at=at)


def skip_events_before(events: Iterable[tuple[Event, RunState]], since: float) -> Iterator[tuple[Event, RunState]]:
    """Yield the events from ``since`` on; first the earlier facts that a view needs, with the state at that time."""
    before, state, begun = _EarlierFacts(), None, False
    for event, after in events:
        if not begun and event.at < since:
            before.add_event(event)
            state = after
            continue
        if not begun and state is not None:
            state = replace(state, now=max(state.now, since))
            yield from ((early, state) for early in before.build_events(since))
            yield Tick(at=since), state
        begun = True
        yield event, after
    if not begun and state is not None:
        yield Tick(at=max(since, state.now)), state


def _pace_events(
    events: Iterable[tuple[Event, RunState]],
    speed: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[tuple[Event, RunState]]:
    """Yield each event when it is due, with ticks between them, so that views redraw."""
    began, first, before = clock(), None, None
    for event, state in events:
        first = event.at if first is None else first
        due = began + (event.at - first) / speed
        while (left := due - clock()) > 0:
            sleep(min(left, TICK_SECONDS))
            if before is not None and due > clock():
                now = replace(before, now=max(before.now, event.at - (due - clock()) * speed))
                yield Tick(at=now.now), now
        yield event, state
        before = state
