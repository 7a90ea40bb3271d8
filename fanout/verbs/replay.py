"""``fanout replay``: play back a recorded run in the live view, from any time of the run and at any speed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from fanout.arguments import Request
from fanout.bounds import range_error
from fanout.errors import UsageError
from fanout.events import Chunk, Event, StreamOpened, Tick
from fanout.launch import Subscriber
from fanout.state import RunState
from fanout.verbs import explain, report
from fanout.verbs.common import Edge, runs_directory, settings_of
from fanout.verbs.runs import find
from fanout.verbs.showing import view_of, wishes_of
from fanout.views.base import View, choose
from fanout.views.lines import LIMIT
from fanout.views.recorded import Recorded

TICK_SECONDS = 0.1
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def replay(request: Request, edge: Edge) -> int:
    """Run the command; return 0 for any outcome of the run, or 141 if the view broke. Raises UsageError."""
    settings = settings_of(request, edge)
    begin, speed = moment(request.given["at"]), pace(request.given["speed"], tty=edge.stdout.isatty())
    recorded = Recorded(find(request.given["run"], runs_directory(settings, edge)))
    look = choose(
        edge.environ,
        isatty=edge.stdout.isatty(),
        encoding=getattr(edge.stdout, "encoding", None),
        output=settings.output,
        color=settings.color,
    )
    told = report.retold(recorded, settings, edge)
    witness = explain.witness_of(recorded.heading, explain.book_of(settings, edge), recorded=True)
    explain.learn_again(witness, recorded.path)
    hangs, so_far = explain.HangTeller(witness), partial(explain.so_far, witness)
    wishes = wishes_of(settings, metric=recorded.metric)
    view = view_of(recorded.heading, look, edge, wishes, so_far=so_far, hung=hangs.brief, viewing="replay")
    try:
        if hasattr(view, "begin"):
            view.begin(recorded.began_at)
        since = _since(begin, recorded.began_at, told.state.now)
        play(_paced(from_moment(recorded.told(), since), speed, time.monotonic, time.sleep), view, witness, hangs)
    finally:
        view.close()
    if view.broken:
        return 141
    text = told.text(look.colour and edge.stderr.isatty(), look.unicode)
    if hasattr(view, "finish"):
        view.finish(told.outcome, text)
    else:
        edge.stderr.write(text)
    report.say_unless_ended(recorded, edge)
    return 0


def _since(begin: float, first: float, last: float) -> float:
    """Return the start time on the clock of the run; a negative ``begin`` counts from the end."""
    return last + begin if begin < 0 else first + begin if begin > 0 else float("-inf")


def play(told: Iterable[tuple[Event, RunState]], view: View, *learners: Subscriber) -> None:
    """Show all events until the end, or until the view is broken; ``learners`` see each one first."""
    for event, state in told:
        for learner in learners:
            learner(event, state)
        view(event, state)
        if view.broken:
            return


def moment(text: str) -> float:
    """Parse ``90``, ``5m``, ``1h30m`` or ``1:02:03`` to seconds from the start; with ``-`` before it, from the end.

    Raises UsageError.
    """
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if ":" in rest and len(rest) < 40 and all(part.isdecimal() for part in rest.split(":")) and rest.count(":") < 3:
        total = 0
        for part in rest.split(":"):
            total = total * 60 + int(part)
        return sign * total
    match = _SPAN.fullmatch(rest) if len(rest) < 40 else None
    if match is None or not any(match.groups()):
        raise UsageError(f"--at {text[:40]}: not a time", hint="--at 90, --at 1h30m, --at 1:02:03 or --at=-30s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return sign * (hours * 3600 + minutes * 60 + seconds)


def pace(text: str, *, tty: bool) -> float:
    """Parse --speed to a factor; the default is 1 on a terminal and unlimited in a pipe. Raises UsageError."""
    if text == "":
        return 1.0 if tty else float("inf")
    if text == "max":
        return float("inf")
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if wrong := range_error("speed", speed):
        raise UsageError(f"--speed {text[:40]}: {wrong}", hint="--speed 10, --speed 0.5 or --speed max")
    return speed


@dataclass(slots=True)
class _Before:
    """Facts from before the start time that a view needs: names of streams, and incomplete lines."""

    opened: list[StreamOpened] = field(default_factory=list)
    begun: dict[tuple[str, int], Chunk] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        if isinstance(event, StreamOpened):
            self.opened.append(event)
        elif isinstance(event, Chunk):
            key = (event.host, event.stream)
            before = self.begun.get(key)
            data = (before.data if before is not None else b"") + event.data
            end = event.offset + len(event.data)
            rest = data[data.rfind(b"\n") + 1 :][-LIMIT:]
            self.begun[key] = replace(event, data=rest, offset=end - len(rest))

    def events(self, at: float) -> Iterator[Event]:
        for event in self.opened:
            yield replace(event, at=at)
        for chunk in self.begun.values():
            if chunk.data:
                yield replace(chunk, at=at)


def from_moment(told: Iterable[tuple[Event, RunState]], since: float) -> Iterator[tuple[Event, RunState]]:
    """Yield the events from ``since`` on; first the earlier facts that a view needs, with the state at that time."""
    before, state, begun = _Before(), None, False
    for event, after in told:
        if not begun and event.at < since:
            before.take(event)
            state = after
            continue
        if not begun and state is not None:
            state = replace(state, now=max(state.now, since))
            yield from ((early, state) for early in before.events(since))
            yield Tick(at=since), state
        begun = True
        yield event, after
    if not begun and state is not None:
        yield Tick(at=max(since, state.now)), state


def _paced(
    told: Iterable[tuple[Event, RunState]],
    speed: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[tuple[Event, RunState]]:
    """Yield each event when it is due, with ticks between them, so that views redraw."""
    began, first, before = clock(), None, None
    for event, state in told:
        first = event.at if first is None else first
        due = began + (event.at - first) / speed
        while (left := due - clock()) > 0:
            sleep(min(left, TICK_SECONDS))
            if before is not None and due > clock():
                now = replace(before, now=max(before.now, event.at - (due - clock()) * speed))
                yield Tick(at=now.now), now
        yield event, state
        before = state
