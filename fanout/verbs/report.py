"""``fanout report``: make the report of a recorded run again, as text, JSON or an HTML page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fanout.arguments import Request
from fanout.diagnose.verdict import Verdict, as_dict
from fanout.errors import UsageError
from fanout.events import Event
from fanout.outcome import RunOutcome, of
from fanout.settings import Settings
from fanout.state import RunState
from fanout.verbs import explain, retest
from fanout.verbs.common import Edge, runs_directory, settings_of
from fanout.verbs.pacing import PaceTeller
from fanout.verbs.runs import find
from fanout.verbs.showing import wishes_of
from fanout.views import report as words
from fanout.views.base import Heading, choose
from fanout.views.recorded import Recorded
from fanout.views.tail import LastWords, Tails
from fanout.views.units import size

Subscriber = Callable[[Event, RunState], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Result of a recorded run: state, outcome, verdict, and the data of the report."""

    heading: Heading
    state: RunState
    outcome: RunOutcome
    verdict: Verdict | None
    words: Mapping[str, LastWords]
    slow: tuple[str, ...]
    steps: Sequence[Mapping[str, Any]]  # seconds per step of each rank

    def text(self, colour: bool, unicode: bool) -> str:
        """Return the text of the report, as at the end of the run."""
        return words.report(
            self.heading,
            self.state,
            self.outcome,
            self.words,
            diagnosis=explain.shown(self.verdict),
            blamed=explain.blamed(self.verdict),
            slow=self.slow,
            colour=colour,
            unicode=unicode,
        )


def report(request: Request, edge: Edge) -> int:
    """Run the command; return 0 for any outcome of the run. Raises UsageError."""
    settings = settings_of(request, edge)
    recorded = Recorded(find(request.given["run"], runs_directory(settings, edge)))
    if request.given["html"]:
        return _page(request.given["html"], recorded, settings, edge)
    told = retold(recorded, settings, edge)
    if request.given["as_json"]:
        verdict = told.verdict
        answer = as_dict(verdict) if verdict is not None else {"v": 1, "verdict": told.outcome.headline, "cause": None}
        edge.stdout.write(
            json.dumps({"run": recorded.heading.run_id, **answer, "slow": told.slow, "steps": told.steps}, indent=2)
            + "\n"
        )
        return 0
    say_unless_ended(recorded, edge)
    look = choose(edge.environ, isatty=edge.stdout.isatty(), encoding=getattr(edge.stdout, "encoding", None))
    edge.stdout.write(told.text(look.colour, look.unicode))
    return 0


def retold(recorded: Recorded, settings: Settings, edge: Edge, *subscribers: Subscriber) -> Told:
    """Read the whole record, fold its events, and diagnose the run; ``subscribers`` get every event too."""
    tails, pace = Tails(), PaceTeller()
    witness = explain.witness_of(recorded.heading, explain.book_of(settings, edge), recorded=True)
    explain.learn_again(witness, recorded.path)
    everybody: tuple[Subscriber, ...] = (witness, tails, pace, *subscribers)
    state = RunState.new(recorded.heading.hosts, at=recorded.began_at)
    for event, state in recorded.told():
        for subscriber in everybody:
            subscriber(event, state)
    outcome, verdict = explain.judged(witness, state, of(state, refused=_refused(recorded)))
    if verdict is not None and retest.worth(verdict):
        verdict = retest.as_kept(verdict, recorded.path)
    last = explain.last_words(tails, outcome, verdict)
    return Told(
        heading=recorded.heading,
        state=state,
        outcome=outcome,
        verdict=verdict,
        words=last,
        slow=pace.slow(),
        steps=pace.times(),
    )


def say_unless_ended(recorded: Recorded, edge: Edge) -> None:
    if recorded.damage:
        edge.say(recorded.damage)
    if not recorded.ended:
        edge.say(f"run {recorded.heading.run_id}: the record has no end: the run is active, or its launcher was killed")


def _page(path: str, recorded: Recorded, settings: Settings, edge: Edge) -> int:
    """Write the HTML page, one file that needs no network; return 0. Raises UsageError."""
    from fanout.views.page import Story

    place = os.path.join(edge.cwd, os.path.expanduser(path))
    if not os.path.isdir(os.path.dirname(place)):
        raise UsageError(f"--html {path}: no such directory")
    if not _may_be_overwritten(place):
        raise UsageError(f"--html {path}: this file exists and is not an HTML page", hint="name another file")
    story = Story(recorded.heading, recorded.began_at, wishes_of(settings, metric=recorded.metric).metric)
    told = retold(recorded, settings, edge, story)
    report = told.text(colour=False, unicode=True)
    text = story.page(told.outcome, report, ended=recorded.ended, directory=recorded.path)
    try:
        with open(place, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}") from None
    edge.say(f"wrote {path} ({size(len(text))}): open it in a browser")
    return 0


def _may_be_overwritten(path: str) -> bool:
    """Return whether the file is absent, empty, not a regular file (/dev/stdout), or an HTML page."""
    if not os.path.isfile(path):
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(100)
    except OSError:
        return True  # the write then reports the same error
    return not start.strip() or start.lstrip().lower().startswith(b"<!doctype html")


def _refused(recorded: Recorded) -> str:
    """Return why fanout did not launch the run, or "". No event has this reason, only the recorded result."""
    result = recorded.result()
    return str(result["headline"]) if result and result["exit_code"] == 125 and result["first"] is None else ""
