"""``fanout replay``: play back a recorded run in the live view, from any time of the run and at any speed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from fanout.commands.report import warn_unless_ended
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
from fanout.record.index import read_run_info, split_attempt_path
from fanout.record.recorded_attempts import find_reported_attempt
from fanout.record.run_reader import RunReader
from fanout.run import closing_report, diagnosis
from fanout.run.attempt_reporters import AttemptReporters, CurrentReporters
from fanout.run.choose_view import build_view, choose_look
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.process_context import ProcessContext
from fanout.run.recorded_report import rebuild_report
from fanout.run.replay_clock import ReplayClock
from fanout.run.replay_index import MomentIndex, StepFinder
from fanout.run.replay_player import ReplayPlayer
from fanout.text.parse_units import parse_duration
from fanout.ui.replay_view import ReplayView
from fanout.ui.run_report import build_report


def run_replay(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 for any outcome of the run, or 141 if the view broke. Raises UsageError."""
    context = load_command_context(request, process)
    begin, step = parse_start(request.given["begin"], request.given["at"])
    speed = parse_speed(request.given["speed"], tty=process.stdout.isatty())
    recorded = RunReader(_choose_attempt(context))
    look = choose_look(context)
    filters = parse_display_filters(context.settings, metric=recorded.metric)
    index, finder = MomentIndex(), StepFinder(step if step is not None else 0, filters.metric)
    events = rebuild_report(recorded, context, index, *([finder] if step is not None else []))
    total = max(0.0, events.facts.state.now - recorded.began_at)
    since = _find_start(begin, step, finder, total)
    clock = ReplayClock(total, speed, index.moments, time.monotonic)
    current = CurrentReporters(_build_reporters(recorded, context))
    heading = read_run_info(recorded.path, recorded.heading)
    view = build_view(
        heading, look, process, filters, reporters=current, detach=clock.quit, replay=clock, viewing="replay"
    )
    try:
        view.begin(recorded.began_at)
        _play(recorded, context, view, clock, current, since)
    finally:
        view.close()
    if view.broken:
        return ExitStatus.BROKEN_PIPE
    if clock.left:
        process.print_message(f"left the replay; the report:  fanout report {recorded.heading.run_id}")
        return ExitStatus.SUCCESS
    view.finish(events.outcome, build_report(events.facts, unicode=look.unicode))
    if look.mode != "json":
        closing_report.print_report(events.facts, context, process.stderr, full=False)
    warn_unless_ended(recorded, process)
    return ExitStatus.SUCCESS


def _choose_attempt(context: CommandContext) -> str:
    """Return the attempt to play: the last one that was launched. Report which other attempts the run has."""
    paths = context.find_attempts()
    chosen = find_reported_attempt(paths)
    if len(paths) > 1:
        run, number = os.path.basename(paths[0]), split_attempt_path(chosen)[1]
        others = ", ".join(f"{run}.{split_attempt_path(path)[1]}" for path in paths if path != chosen)
        context.process.print_message(f"playing attempt {number}; the others:  fanout replay {others}")
    return chosen


def _play(
    recorded: RunReader,
    context: CommandContext,
    view: View,
    clock: ReplayClock,
    current: CurrentReporters,
    since: float,
) -> None:
    """Play the run from ``since``, in seconds after its start. Only the live view takes the events before it."""
    is_live = isinstance(view, ReplayView)

    def read_events() -> Iterable[tuple[Event, RunState]]:
        states = recorded.iter_states()
        return states if is_live or not since else skip_events_before(states, recorded.began_at + since)

    def build_learners() -> list[Subscriber]:
        current.current = _build_reporters(recorded, context)
        return [current.current.collector, current.current.hangs, current.current.pace]

    if is_live and since:
        clock.target = since
    else:
        clock.move(since)
    ReplayPlayer(read_events, view, clock, build_learners, began_at=recorded.began_at, delay=time.sleep).play()


def _build_reporters(recorded: RunReader, context: CommandContext) -> AttemptReporters:
    collector = diagnosis.build_collector(recorded.heading, diagnosis.load_signatures(context), recorded=True)
    diagnosis.add_recorded_facts(collector, recorded.path)
    return AttemptReporters.build(collector)


def _find_start(begin: float, step: int | None, finder: StepFinder, total: float) -> float:
    """Return the start in seconds after that of the run; a negative ``begin`` counts from the end. Raises UsageError."""
    if step is None:
        return max(0.0, total + begin) if begin < 0 else begin
    if finder.at is None:
        reached = "no step is recorded" if finder.highest is None else f"the highest recorded step is {finder.highest}"
        raise UsageError(f"--at {step}: {reached}", hint="fanout replay --from 1h30m   # starts at a time")
    return finder.at


def parse_start(begin: str, at: str) -> tuple[float, int | None]:
    """Parse --from to seconds and --at to a step. Raises UsageError if both are given or one is invalid."""
    if at and begin:
        raise UsageError(f"--from {begin[:40]} and --at {at[:40]}: give one start", hint="fanout replay --at 500")
    if at and not (at.isdecimal() and at.isascii() and len(at) < 16):
        raise UsageError(f"--at {at[:40]}: not a step", hint="--at 500 starts at step 500; --from 1h30m at a time")
    return parse_offset(begin) if begin else 0.0, int(at) if at else None


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
        raise UsageError(
            f"--from {text[:40]}: not a time", hint="--from 90, --from 1h30m, --from 1:02:03 or --from=-30s"
        )
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
