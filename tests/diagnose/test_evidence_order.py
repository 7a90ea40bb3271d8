"""Order of evidence: rules stand in the order of their levels, and the confidence follows from level and doubts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fanout.diagnose import evidence_order
from fanout.diagnose.evidence_order import DOUBTS, LEVELS, Doubt, compare_levels, rate_confidence
from fanout.diagnose.rules.rule_table import RULES
from tests.diagnose.evidence_reference import PAGE, PARTS
from tests.generated_pages import list_parts, write_parts


def test_the_tables_of_the_page_are_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(list_parts(page)) == sorted(PARTS)
    assert page == write_parts(page, PARTS), "run: make diagnosis"


def test_rules_stand_in_the_order_of_their_levels() -> None:
    assert all(compare_levels(one.level, two.level) <= 0 for one, two in pairwise(RULES))
    assert {rule.level for rule in RULES} == {level.name for level in LEVELS}


def test_no_weaker_level_has_a_higher_confidence() -> None:
    scale = ("low", "medium", "high")
    steps = [scale.index(level.confidence) for level in LEVELS]
    assert steps == sorted(steps, reverse=True)


def test_every_doubt_is_in_the_table_and_lowers_the_best_confidence() -> None:
    defined = {value for value in vars(evidence_order).values() if isinstance(value, Doubt)}
    assert defined == {*DOUBTS}
    assert len({doubt.name for doubt in DOUBTS}) == len(DOUBTS)
    assert all(rate_confidence("proof", [doubt]) == doubt.limit != "high" for doubt in DOUBTS)


@pytest.mark.parametrize(
    ("level", "doubts", "confidence"),
    [
        ("proof", (), "high"),
        ("own", (evidence_order.ANONYMOUS,), "medium"),
        ("own", (evidence_order.ANONYMOUS, evidence_order.ORDER), "low"),
        ("absence", (evidence_order.SAME_HOST,), "medium"),
        ("either", (evidence_order.SAME_HOST,), "low"),
    ],
)
def test_a_doubt_only_lowers_the_confidence(
    level: evidence_order.LevelName, doubts: tuple[Doubt, ...], confidence: str
) -> None:
    assert rate_confidence(level, doubts) == confidence
