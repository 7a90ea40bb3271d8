"""Print the verdicts on the corpus that are not right: ``python -m tests.diagnose.corpus [ID…]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fanout.diagnose import verdict_text
from tests.diagnose.corpus.cases import Case, load_cases
from tests.diagnose.corpus.scorer import Score, count_marks, score_case, score_without_each_host


def main() -> int:
    """Return 0 if no verdict is wrong with high confidence."""
    parser = argparse.ArgumentParser(prog="python -m tests.diagnose.corpus", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="print the logs and the whole verdict of these cases")
    parser.add_argument("--all", action="store_true", help="print the right verdicts too")
    options = parser.parse_args()
    cases = load_cases()
    if options.ids:
        for case in cases:
            if case.id in options.ids:
                print(_format_case(case))
        return 0
    scores = [score_case(case) for case in cases]
    without = [score for case in cases for score in score_without_each_host(case)]
    shown = [each for each in scores if options.all or each.mark != "right"]
    for score in (*shown, *(each for each in without if each.misleads)):
        print(format_row(score))
    print(format_summary(scores, without))
    return 1 if any(each.misleads for each in (*scores, *without)) else 0


def format_row(score: Score) -> str:
    """Format one line of the table."""
    where = f"{score.case.topic}/{score.case.id}" + (f" without {score.left_out}" if score.left_out else "")
    mark = f"{score.mark.upper()} HIGH" if score.misleads else score.mark
    return f"{mark:<10} {where:<44} {score.verdict.confidence:<12} {score.verdict.rule or '-':<12} {score.reason}"


def format_summary(scores: Sequence[Score], without: Sequence[Score]) -> str:
    """Format the counts."""
    counts, rest = count_marks(scores), count_marks(without)
    marks = ", ".join(f"{counts[mark]} {mark}" for mark in ("right", "partly", "wrong", "silent"))
    return (
        f"{len(scores)} cases: {marks}; {counts['misleads']} wrong with high confidence\n"
        f"{len(without)} runs without the log of one host: {rest['misleads']} wrong with high confidence"
    )


def _format_case(case: Case) -> str:
    score = score_case(case)
    logs = "".join(f"--- {name}\n{text}" for name, text in case.logs.items())
    verdict = "\n".join(verdict_text.render_lines(score.verdict))
    rows = "\n".join(format_row(each) for each in (score, *score_without_each_host(case)))
    return f"=== {case.id} ({case.source})\n{case.why}\n{case.expect}\n{logs}{verdict}\n{rows}\n"


if __name__ == "__main__":
    sys.exit(main())
