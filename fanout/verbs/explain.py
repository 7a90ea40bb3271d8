"""Diagnosis of a run, for the commands that end a run or show it again: collect evidence, and judge it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fanout import hangs, schema
from fanout.diagnose import hidden, stacks, words
from fanout.diagnose.judge import judge
from fanout.diagnose.signatures import Book, builtin, with_file
from fanout.diagnose.verdict import Verdict, as_dict
from fanout.diagnose.witness import Witness
from fanout.errors import UsageError
from fanout.events import Answered, Event
from fanout.outcome import RunOutcome
from fanout.plan import LaunchPlan
from fanout.schema import Each, Either, Maybe, Text, Whole
from fanout.settings import Settings
from fanout.state import RunState
from fanout.verbs.common import Edge
from fanout.views.base import Heading
from fanout.views.filenames import FileNames
from fanout.views.tail import LastWords, Tails

VERDICT = "verdict.json"
_NODE = {
    "host": Text(4096),
    "rank": Whole(0, 1 << 24),
    "nproc": Maybe(Whole(0, 1 << 24)),
    "gpus?": Each(Either((Text(200), Whole()))),
}
_PLAN = {"nodes": Each(_NODE)}
ARRIVAL_ERROR = 0.25  # seconds between a line on its host and its arrival here
RECORDED_ERROR = 0.5  # the record merges the log bytes of a quarter of a second


class HangTeller:
    """Subscriber that reports each hang once, with the stack of every rank.

    ``says`` are the functions that get the lines. ``muted``: report nothing while the past of a record is read, and then
    only a hang that still goes on.
    """

    broken = False

    def __init__(self, witness: Witness, *say: Callable[[str], None], muted: bool = False) -> None:
        self._witness = witness
        self.says = list(say)
        self._muted = muted
        self._told: float | None = None
        self._odd: dict[str, str] = {}  # host -> what its odd rank does

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, Answered) and not self._muted:
            self._look(state)

    def speak(self, state: RunState) -> None:
        """Report from now on, and report a hang that already goes on."""
        self._muted = False
        self._look(state)

    def brief(self, state: RunState) -> Mapping[str, str] | None:
        """Return the hosts that cause the hang, with the state of their rank; None while the run does not hang."""
        return self._odd if hangs.found(state) else None

    def _look(self, state: RunState) -> None:
        if self._told == hangs.asked_at(state) or not hangs.found(state):
            return
        self._told = hangs.asked_at(state)
        since = state.now - (state.said_at or state.began_at)
        self._say(f"the run hangs: no output for {since:.0f} s, and no rank moved between two samples")
        evidence = self._witness.evidence()
        verdict = judge(evidence)
        self._odd = _odd_hosts(verdict)
        for line in (*verdict.stands, *stacks.ways(evidence.stands)):
            self._say(f"  {line}")
        if verdict.cause is not None and not verdict.also:
            self._say(f"  {words.label(verdict)}: {verdict.cause.sentence}")

    def _say(self, text: str) -> None:
        for say in self.says:
            say(text)


def _odd_hosts(verdict: Verdict) -> dict[str, str]:
    """Return host -> what its rank does instead of waiting, for every candidate that the verdict names."""
    named = [each for each in (verdict.cause, *verdict.also) if each is not None and each.host is not None]
    return {each.host: each.sentence for each in named if each.host is not None}


def book_of(settings: Settings, edge: Edge) -> Book:
    """Return the error signatures: the user's own first, then the built-in ones. Raises UsageError."""
    if not settings.signatures:
        return builtin()
    path = os.path.join(edge.cwd, os.path.expanduser(settings.signatures))
    try:
        with open(path, encoding="utf-8") as file:
            return with_file(file.read(), settings.signatures)
    except OSError as error:
        raise UsageError(f"--signatures {settings.signatures}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--signatures {settings.signatures}: not UTF-8 text") from None


def witness_of(heading: Heading, book: Book, *, recorded: bool = False) -> Witness:
    """Return the evidence collector for this run; it must get every event."""
    names = FileNames(heading.hosts)
    error = RECORDED_ERROR if recorded else ARRIVAL_ERROR
    return Witness(heading.hosts, ranks=heading.ranks, book=book, file_of=names.of, name_file=names.name, error=error)


def learn(witness: Witness, plan: LaunchPlan, addresses: Mapping[str, str]) -> None:
    """Give the collector the facts of the plan and the check: ranks, GPUs, and the address of each host."""
    witness.ranks.update({node.host.name: (node.rank, node.nproc) for node in plan.nodes})
    witness.gpus.update({node.host.name: node.gpus for node in plan.nodes})
    witness.know(addresses)


def learn_again(witness: Witness, path: str) -> None:
    """Give the collector the facts of the recorded plan, if there is one. Raises UsageError."""
    try:
        with open(os.path.join(path, "plan.json"), "rb") as file:
            nodes = schema.parsed(file.read(), _PLAN)["nodes"]
        witness.ranks.update({node["host"]: (node["rank"], node["nproc"]) for node in nodes})
        witness.gpus.update({node["host"]: tuple(map(str, node.get("gpus", ()))) for node in nodes})
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}/plan.json: cannot read it: {error}") from None


def judged(witness: Witness, state: RunState, outcome: RunOutcome) -> tuple[RunOutcome, Verdict | None]:
    """Return the outcome with the findings of the diagnosis, and the verdict.

    A run gets no verdict if it did not start, succeeded, or was healthy when the user stopped it. If a run hung or could
    not resolve MASTER_ADDR, only evidence from before its stop counts. Later events are effects of the stop.
    """
    if not any(host.started_at is not None for host in state.all):
        return outcome, None
    if outcome.ok:
        return _unhidden(witness, outcome)
    if outcome.first is None and hangs.found(state) and state.ending_at is not None:
        own = state.first_stop is not None and state.first_stop.why.startswith(hangs.HANG)
        headline = outcome.headline if own and not state.interrupts else f"hung, {outcome.headline}"
        return replace(outcome, hung=True, headline=headline), judge(witness.evidence().until(state.ending_at))
    if outcome.first is None and state.ending_at is not None and any(host.unresolved_at for host in state.all):
        return outcome, judge(witness.evidence().until(state.ending_at))
    if outcome.first is None:
        return outcome, None
    return outcome, judge(witness.evidence())


def _unhidden(witness: Witness, outcome: RunOutcome) -> tuple[RunOutcome, Verdict | None]:
    """Return a successful outcome unchanged, or a failure if torchrun reported one although train.sh exited with 0."""
    evidence = witness.evidence()
    failed = hidden.failures(evidence)
    if not failed:
        return outcome, None
    headline = f"{failed[0].host}: train.sh exited with 0, although torchrun reported a failure"
    return replace(outcome, exit_code=1, headline=headline, first=failed[0].host), judge(evidence)


def blamed(verdict: Verdict | None) -> tuple[str, int | None]:
    """Return the host and the rank that the verdict blames; "" if it names no host."""
    cause = verdict.cause if verdict is not None else None
    if cause is None or cause.host is None:
        return "", None
    return cause.host, cause.rank if len(cause.ranks) < 2 else None


def so_far(witness: Witness, state: RunState) -> Sequence[str]:
    """Return the lines of the verdict on an active run, as if it ended now."""
    if not state.failures and not hangs.found(state):
        return ("nothing has failed so far, and no hang was found",)
    return words.lines(judge(witness.evidence()))


def shown(verdict: Verdict | None) -> Sequence[str]:
    """Return the lines of the verdict for the report."""
    return words.lines(verdict) if verdict is not None else ()


def last_words(tails: Tails, outcome: RunOutcome, verdict: Verdict | None) -> dict[str, LastWords]:
    """Return the last log lines of the first failing host, for the report; {} if the verdict quotes a line already."""
    cause = verdict.cause if verdict is not None else None
    if outcome.first is None or (cause is not None and (cause.text or cause.quote or cause.rank is not None)):
        return {}
    if cause is not None and cause.host not in (None, outcome.first):
        return {}
    return {outcome.first: tails.last_words(outcome.first)}


def as_json(verdict: Verdict) -> str:
    """Return the text of ``verdict.json``."""
    return json.dumps(as_dict(verdict), indent=2, ensure_ascii=False) + "\n"
