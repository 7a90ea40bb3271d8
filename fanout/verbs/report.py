"""``fanout report``: the last words about a run, told again from its record."""

from __future__ import annotations

import json
import os

from fanout.arguments import Request
from fanout.diagnose.verdict import as_dict
from fanout.outcome import of
from fanout.state import RunState, advance
from fanout.verbs import explain
from fanout.verbs.common import Edge, runs_directory, settings_of
from fanout.verbs.runs import find
from fanout.views import report as words
from fanout.views.base import choose
from fanout.views.recorded import Recorded
from fanout.views.tail import Tails


def report(request: Request, edge: Edge) -> int:
    """The verb: 0 whatever became of the run, because telling it went well."""
    settings = settings_of(request, edge)
    recorded = Recorded(find(request.given["run"], runs_directory(settings, edge)))
    tails = Tails()
    witness = explain.witness_of(recorded.heading, explain.book_of(settings, edge), recorded=True)
    explain.learn_again(witness, recorded.path)
    state = RunState.new(recorded.heading.hosts, at=recorded.began_at)
    for event in recorded.events():
        state = advance(state, event)
        witness(event, state)
        tails(event, state)
    outcome = of(state, refused=_refused(recorded.path))
    verdict = explain.verdict_of(witness, state, outcome)
    if request.given["as_json"]:
        told = as_dict(verdict) if verdict is not None else {"v": 1, "verdict": outcome.headline, "cause": None}
        edge.stdout.write(json.dumps({"run": recorded.heading.run_id, **told}, indent=2) + "\n")
        return 0
    if not recorded.ended:
        edge.say(f"run {recorded.heading.run_id} has no end in its record: it goes on, or its launcher was killed")
    look = choose(edge.environ, isatty=edge.stdout.isatty(), encoding=getattr(edge.stdout, "encoding", None))
    text = words.report(
        recorded.heading,
        state,
        outcome,
        explain.last_words(tails, outcome, verdict),
        diagnosis=explain.shown(verdict),
        colour=look.colour,
        unicode=look.unicode,
    )
    edge.stdout.write(text)
    return 0


def _refused(path: str) -> str:
    """Why fanout itself did not launch the run: no event says so, only its result."""
    try:
        with open(os.path.join(path, "result.json"), encoding="utf-8") as file:
            result = json.load(file)
        return str(result["headline"]) if result["exit_code"] == 125 and result["first"] is None else ""
    except (OSError, ValueError, KeyError):
        return ""
