"""The verdicts on the corpus: how many are right, and that none is wrong with high confidence.

The limits only tighten. ``python -m tests.diagnose.corpus`` prints the verdicts that are not right.
"""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.diagnose.corpus.__main__ import format_row
from tests.diagnose.corpus.cases import expand_log, load_cases
from tests.diagnose.corpus.kinds import KINDS
from tests.diagnose.corpus.scorer import STEPS, Score, count_marks, score_case, score_without_each_host
from tests.sources import ROOT

#: Percent of the cases whose verdict is right, at least.
LEAST_RIGHT = 99
#: Wrong verdicts with high confidence, at most: with all logs, and with the log of each host removed in turn.
MOST_MISLEADING = 0
MOST_MISLEADING_WITHOUT_A_HOST = 0


@cache
def score_all() -> tuple[Score, ...]:
    return tuple(score_case(case) for case in load_cases())


def list_scores(scores: list[Score]) -> str:
    return "".join(f"\n{format_row(each)}" for each in scores)


def test_enough_verdicts_are_right() -> None:
    scores = score_all()
    right = count_marks(scores)["right"]
    assert 100 * right >= LEAST_RIGHT * len(scores), list_scores([each for each in scores if each.mark != "right"])


def test_the_page_states_the_limits() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    assert re.search(rf"At\s+least {LEAST_RIGHT} % are right, and none is wrong with high confidence\.", page)
    assert (MOST_MISLEADING, MOST_MISLEADING_WITHOUT_A_HOST) == (0, 0)
    assert len(load_cases()) > 300


def test_no_more_verdicts_than_the_limit_are_wrong_with_high_confidence() -> None:
    misleading = [each for each in score_all() if each.misleads]
    assert len(misleading) <= MOST_MISLEADING, list_scores(misleading)


def test_without_the_log_of_one_host_no_more_verdicts_are_wrong_with_high_confidence() -> None:
    scores = [score for case in load_cases() for score in score_without_each_host(case)]
    misleading = [each for each in scores if each.misleads]
    assert len(scores) > len(load_cases()) / 2
    assert len(misleading) <= MOST_MISLEADING_WITHOUT_A_HOST, list_scores(misleading)


def test_each_case_expects_something_that_a_verdict_can_state() -> None:
    for case in load_cases():
        assert set(case.expect.kinds) <= {*KINDS, "none", "unknown"}, case.id
        assert case.expect.confidence in STEPS, case.id
        assert case.why, case.id
        assert case.source, case.id
        assert all(text.strip() for text in case.logs.values()), case.id


def test_directives_expand_to_the_lines_of_a_log() -> None:
    log = expand_log(
        "@each 0-1,5 rank %n\n@prefix [%i7] \na\n@times 2 b%n\n@end\n@trace rank=3 | error=KeyError: 'x'\n"
    )
    lines = log.splitlines()
    assert lines[:6] == ["rank 0", "rank 1", "rank 5", "[7] a", "[8] b1", "[9] b2"]
    assert (lines[6], lines[-1]) == ("[rank3]: Traceback (most recent call last):", "[rank3]: KeyError: 'x'")
    with pytest.raises(ValueError, match="no @end"):
        expand_log("@docker\na\n")
