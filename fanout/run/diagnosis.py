"""Diagnosis of a run, for the commands that end a run or show it again: collect evidence, and judge it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fanout.diagnose import hidden_failures, stack_groups, verdict_text
from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.first_cause import diagnose_evidence
from fanout.diagnose.signatures import SignatureSet, load_builtin, load_with_file
from fanout.diagnose.verdict import Verdict, to_dict
from fanout.logs.tail import LogTail, LogTails
from fanout.model import hang_detection, schema
from fanout.model.errors import UsageError
from fanout.model.events import Answered, Event
from fanout.model.exit_status import ExitStatus
from fanout.model.outcome import RunOutcome
from fanout.model.plan import LaunchPlan
from fanout.model.run_info import RunInfo
from fanout.model.schema import Integer, ListOf, Nullable, OneOf, Text
from fanout.model.state import RunState
from fanout.record.paths import LogFileNames
from fanout.run.command_context import CommandContext

VERDICT = "verdict.json"
_NODE = {
    "host": Text(4096),
    "rank": Integer(0, 1 << 24),
    "nproc": Nullable(Integer(0, 1 << 24)),
    "gpus?": ListOf(OneOf((Text(200), Integer()))),
}
_PLAN = {"nodes": ListOf(_NODE)}
ARRIVAL_ERROR = 0.25  # seconds between a line on its host and its arrival here
RECORDED_ERROR = 0.5  # the record merges the log bytes of a quarter of a second


class HangReporter:
    """Subscriber that reports each hang once, with the stack of every rank.

    ``outputs`` are the functions that get the lines. ``muted``: report nothing while the past of a record is read, and then
    only a hang that still goes on.
    """

    broken = False

    def __init__(self, collector: EvidenceCollector, *outputs: Callable[[str], None], muted: bool = False) -> None:
        self._collector = collector
        self.outputs = list(outputs)
        self._muted = muted
        self._watch = hang_detection.HangWatch()
        self._odd: dict[str, str] = {}  # host -> what its odd rank does

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, Answered) and not self._muted:
            self._report_hang(state)

    def start_reporting(self, state: RunState) -> None:
        """Report from now on, and report a hang that already goes on."""
        self._muted = False
        self._report_hang(state)

    def hung_hosts(self, state: RunState) -> Mapping[str, str] | None:
        """Return the hosts that cause the hang, with the state of their rank; None while the run does not hang."""
        return self._odd if hang_detection.is_hung(state) else None

    def _report_hang(self, state: RunState) -> None:
        if not self._watch.find_new(state):
            return
        since = state.now - (state.output_at or state.began_at)
        self._print_line(f"the run hangs: no output for {since:.0f} s, and no rank moved between two samples")
        evidence = self._collector.build_evidence()
        verdict = diagnose_evidence(evidence)
        self._odd = _find_odd_hosts(verdict)
        for line in (*verdict.stands, *stack_groups.describe_readers(evidence.stands)):
            self._print_line(f"  {line}")
        if verdict.cause is not None and not verdict.also:
            self._print_line(f"  {verdict_text.choose_label(verdict)}: {verdict.cause.sentence}")

    def _print_line(self, text: str) -> None:
        for output in self.outputs:
            output(text)


def _find_odd_hosts(verdict: Verdict) -> dict[str, str]:
    """Return host -> what its rank does instead of waiting, for every candidate that the verdict names."""
    named = [each for each in (verdict.cause, *verdict.also) if each is not None and each.host is not None]
    return {each.host: each.sentence for each in named if each.host is not None}


def load_signatures(context: CommandContext) -> SignatureSet:
    """Return the error signatures: the user's own first, then the built-in ones. Raises UsageError."""
    given = context.settings.signatures
    if not given:
        return load_builtin()
    path = os.path.join(context.process.cwd, os.path.expanduser(given))
    try:
        with open(path, encoding="utf-8") as file:
            return load_with_file(file.read(), given)
    except OSError as error:
        raise UsageError(f"--signatures {given}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--signatures {given}: not UTF-8 text") from None


def build_collector(heading: RunInfo, book: SignatureSet, *, recorded: bool = False) -> EvidenceCollector:
    """Return the evidence collector for this run; it must get every event."""
    names = LogFileNames(heading.hosts)
    error = RECORDED_ERROR if recorded else ARRIVAL_ERROR
    return EvidenceCollector(
        heading.hosts, ranks=heading.ranks, book=book, file_of=names.get_path, name_file=names.set_name, error=error
    )


def add_plan_facts(collector: EvidenceCollector, plan: LaunchPlan, addresses: Mapping[str, str]) -> None:
    """Give the collector the facts of the plan and the check: ranks, GPUs, and the address of each host."""
    collector.ranks.update({node.host.name: (node.rank, node.nproc) for node in plan.nodes})
    collector.gpus.update({node.host.name: node.gpu_ids for node in plan.nodes})
    collector.add_addresses(addresses)


def add_recorded_facts(collector: EvidenceCollector, path: str) -> None:
    """Give the collector the facts of the recorded plan, if there is one. Raises UsageError."""
    try:
        with open(os.path.join(path, "plan.json"), "rb") as file:
            nodes = schema.parse_json(file.read(), _PLAN)["nodes"]
        collector.ranks.update({node["host"]: (node["rank"], node["nproc"]) for node in nodes})
        collector.gpus.update({node["host"]: tuple(map(str, node.get("gpus", ()))) for node in nodes})
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}/plan.json: cannot read it: {error}") from None


def diagnose_run(
    collector: EvidenceCollector, state: RunState, outcome: RunOutcome
) -> tuple[RunOutcome, Verdict | None]:
    """Return the outcome with the findings of the diagnosis, and the verdict.

    A run gets no verdict if it did not start, succeeded, or was healthy when the user stopped it. If a run hung or could
    not resolve MASTER_ADDR, only evidence from before its stop counts. Later events are effects of the stop.
    """
    if not any(host.started_at is not None for host in state.all_hosts):
        return outcome, None
    if outcome.is_success:
        return _reveal_failure(collector, outcome)
    if outcome.first is None and hang_detection.is_hung(state) and state.ending_at is not None:
        own = state.first_stop is not None and state.first_stop.reason == "hang"
        headline = outcome.headline if own and not state.interrupts else f"hung, {outcome.headline}"
        return replace(outcome, hung=True, headline=headline), diagnose_evidence(
            collector.build_evidence().limit_to(state.ending_at)
        )
    if outcome.first is None and state.ending_at is not None and any(host.unresolved_at for host in state.all_hosts):
        return outcome, diagnose_evidence(collector.build_evidence().limit_to(state.ending_at))
    if outcome.first is None:
        return outcome, None
    return outcome, diagnose_evidence(collector.build_evidence())


def _reveal_failure(collector: EvidenceCollector, outcome: RunOutcome) -> tuple[RunOutcome, Verdict | None]:
    """Return a successful outcome unchanged, or a failure if torchrun reported one although train.sh exited with 0."""
    evidence = collector.build_evidence()
    failed = hidden_failures.find_hidden_failures(evidence)
    if not failed:
        return outcome, None
    headline = f"{failed[0].host}: train.sh exited with 0, although torchrun reported a failure"
    ended = replace(outcome, exit_code=ExitStatus.NEGATIVE, headline=headline, first=failed[0].host)
    return ended, diagnose_evidence(evidence)


def find_blamed_rank(verdict: Verdict | None) -> tuple[str, int | None]:
    """Return the host and the rank that the verdict blames; "" if it names no host."""
    cause = verdict.cause if verdict is not None else None
    if cause is None or cause.host is None:
        return "", None
    return cause.host, cause.rank if len(cause.ranks) < 2 else None


def diagnose_active_run(collector: EvidenceCollector, state: RunState) -> Verdict | None:
    """Return the verdict on an active run, as if it ended now; None if nothing has failed and nothing hangs."""
    if not state.failures and not hang_detection.is_hung(state):
        return None
    return diagnose_evidence(collector.build_evidence())


def preview_verdict(collector: EvidenceCollector, state: RunState) -> Sequence[str]:
    """Return the lines of the verdict on an active run, as if it ended now."""
    verdict = diagnose_active_run(collector, state)
    return ("nothing has failed so far, and no hang was found",) if verdict is None else render_verdict(verdict)


def render_verdict(verdict: Verdict | None) -> Sequence[str]:
    """Return the lines of the verdict for the report."""
    return verdict_text.render_lines(verdict) if verdict is not None else ()


def select_last_lines(tails: LogTails, outcome: RunOutcome, verdict: Verdict | None) -> dict[str, LogTail]:
    """Return the last log lines of the first failing host, for the report; {} if the verdict quotes a line already."""
    cause = verdict.cause if verdict is not None else None
    if outcome.first is None or (cause is not None and (cause.text or cause.quote or cause.rank is not None)):
        return {}
    if cause is not None and cause.host not in (None, outcome.first):
        return {}
    return {outcome.first: tails.get_tail(outcome.first)}


def verdict_to_json(verdict: Verdict) -> str:
    """Return the text of ``verdict.json``."""
    return json.dumps(to_dict(verdict), indent=2, ensure_ascii=False) + "\n"
