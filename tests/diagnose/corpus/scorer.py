"""Score the verdicts of fanout on the cases: right, partly, wrong or silent. No process is started and no file is read."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from fanout.commands.why import collect_lines
from fanout.diagnose.first_cause import diagnose_evidence
from fanout.diagnose.import_logs.log_files import identify_files
from fanout.diagnose.import_logs.log_import import LogFile, assign_hosts
from fanout.diagnose.signatures import load_builtin
from fanout.diagnose.verdict import Cause, Verdict
from tests.diagnose.corpus.cases import Case, Expectation
from tests.diagnose.corpus.kinds import classify_cause

Mark = Literal["right", "partly", "wrong", "silent"]
STEPS = ("undetermined", "low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The mark of one verdict. ``misleads``: it is wrong, and its confidence is high."""

    case: Case
    verdict: Verdict
    mark: Mark
    reason: str
    left_out: str = ""

    @property
    def misleads(self) -> bool:
        return self.mark == "wrong" and self.verdict.confidence == "high"


def diagnose_logs(logs: Mapping[str, str]) -> Verdict:
    """Return the verdict of ``fanout why`` on these files."""

    def make_opener(path: str) -> Callable[[], BinaryIO]:
        return lambda: io.BytesIO(logs[path].encode())

    files = [LogFile(each, make_opener(each.path)) for each in identify_files(list(logs))]
    assign_hosts(files)
    return diagnose_evidence(collect_lines(files, load_builtin()).build_evidence())


def score_case(case: Case) -> Score:
    """Score the verdict on all logs of a case."""
    verdict = diagnose_logs(case.logs)
    mark, reason = _judge_verdict(verdict, case.expect)
    return Score(case=case, verdict=verdict, mark=mark, reason=reason)


def score_without_each_host(case: Case) -> list[Score]:
    """Score the verdicts with the log of each host removed in turn. Only a high confidence can be wrong there."""
    scores = []
    for left_out, logs in case.leave_out_hosts():
        verdict = diagnose_logs(logs)
        mark, reason = _judge_verdict(verdict, case.expect)
        if verdict.confidence != "high" and mark == "wrong":
            mark = "partly"
        scores.append(Score(case=case, verdict=verdict, mark=mark, reason=reason, left_out=left_out))
    return scores


def count_marks(scores: Iterable[Score]) -> Counter[str]:
    """Return the number of each mark, and of the wrong verdicts with high confidence as ``misleads``."""
    counts: Counter[str] = Counter()
    for score in scores:
        counts[score.mark] += 1
        counts["misleads"] += score.misleads
    return counts


def _judge_verdict(verdict: Verdict, expect: Expectation) -> tuple[Mark, str]:
    """Return the mark and the reason for it."""
    cause = verdict.cause
    if not expect.hosts and expect.kinds[0] in ("none", "unknown"):
        return _judge_restraint(verdict, expect)
    if cause is None:
        return "silent", "no cause is named"
    mark, reason = _judge_cause(cause, verdict.confidence, expect)
    if mark == "wrong" and any(_judge_cause(each, "low", expect)[0] != "wrong" for each in verdict.also):
        return ("wrong" if verdict.confidence == "high" else "partly"), f"only a candidate beside another: {reason}"
    if mark != "right":
        return mark, reason
    return _judge_confidence(verdict, expect)


def _judge_restraint(verdict: Verdict, expect: Expectation) -> tuple[Mark, str]:
    """Judge where the logs show no failure (none), or do not show which rank failed first (unknown)."""
    if verdict.cause is None:
        return "right", ""
    if classify_cause(verdict.cause) in expect.kinds[1:]:  # a stop that the log states is no failure
        return _judge_confidence(verdict, expect)
    if verdict.confidence == "low":
        right = expect.kinds[0] == "unknown"
        return ("right", "") if right else ("partly", "a cause is named though no failure is logged")
    return "wrong", f"a cause is named with {verdict.confidence} confidence though the logs do not show it"


def _judge_cause(cause: Cause, confidence: str, expect: Expectation) -> tuple[Mark, str]:
    if not expect.hosts and cause.host is not None:
        return "wrong", f"{cause.subject} is named, no host is at fault"
    if expect.hosts and cause.host is None and "" not in expect.hosts:
        return ("wrong" if cause.rank is None else "partly"), f"{cause.subject} is named, not {expect.hosts[0]}"
    if expect.hosts and (cause.host or "") not in expect.hosts:
        in_a_file_name = expect.hosts[0] in (cause.host or "")
        return "partly" if in_a_file_name else "wrong", f"{cause.subject} is named, not {expect.hosts[0]}"
    kind = classify_cause(cause)
    if kind and kind not in expect.kinds:
        mark: Mark = "wrong" if confidence == "high" else "partly"
        return mark, f"the kind is {kind} ({cause.signature}), not {expect.kinds[0]}"
    if not expect.any_rank:
        if cause.rank is not None and expect.ranks and cause.rank not in expect.ranks:
            return "wrong", f"rank {cause.rank} is named, not {expect.ranks[0]}"
        if cause.rank is not None and not expect.ranks:
            return "partly", f"rank {cause.rank} is named, the logs do not show a rank"
        if cause.rank is None and expect.ranks:
            return "partly", f"no rank is named, it is {expect.ranks[0]}"
    text = "\n".join((cause.says, cause.text, *cause.traceback, *cause.quote))
    if expect.shows and not re.search(expect.shows, text):
        return "partly", f"the cause does not show {expect.shows!r} ({cause.signature}: {cause.says[:80]})"
    return "right", ""


def _judge_confidence(verdict: Verdict, expect: Expectation) -> tuple[Mark, str]:
    """Accept the justified confidence and one step below it."""
    given, justified = STEPS.index(verdict.confidence), STEPS.index(expect.confidence)
    if given > justified:
        return "partly", f"the confidence is {verdict.confidence}, only {expect.confidence} is justified"
    if given < justified - 1:
        return "partly", f"the confidence is {verdict.confidence}, {expect.confidence} is justified"
    return "right", ""
