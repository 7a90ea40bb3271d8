"""Failure classes: every first cause that the diagnosis can name is in exactly one class, and no class names another."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from fanout.diagnose.signatures import load_builtin
from fanout.recovery.failure_classes import FAILURE_CLASSES
from tests.generated_pages import list_parts, write_parts
from tests.recovery.class_reference import PAGE, PARTS
from tests.sources import ROOT

RULES = (*sorted((ROOT / "fanout/diagnose").rglob("*.py")), ROOT / "fanout/run/network_retest.py")
STOPS = ROOT / "fanout/run/attempt_end.py"
CLASSED = Counter(name for row in FAILURE_CLASSES for name in row.signatures)


def list_signature_causes() -> set[str]:
    """Return the signatures that can be a first cause. A victim and noise never are."""
    return {each.id for each in load_builtin().signatures if each.role in ("root", "either")}


def list_rule_causes() -> set[str]:
    """Return the ids of causes that a rule states itself: the words of ``signature=`` and of ``build_cause``."""
    return {word for path in RULES for word in find_cause_ids(path.read_text(encoding="utf-8"))}


def list_stop_causes() -> set[str]:
    """Return the ids of causes for stops that the launcher decided."""
    tree = ast.parse(STOPS.read_text(encoding="utf-8"))
    (table,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "_STOPS"
    )
    assert isinstance(table, ast.Dict)
    return {str(ast.literal_eval(value)) for value in table.values}


def find_cause_ids(source: str) -> Iterator[str]:
    """Yield the constant ids of causes in a module."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        given = [word.value for word in call.keywords if word.arg == "signature"]
        if isinstance(call.func, ast.Attribute) and call.func.attr == "build_cause":
            given += call.args[2:3]
        for value in given:
            branches = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
            yield from (
                str(branch.value)
                for branch in branches
                if isinstance(branch, ast.Constant) and isinstance(branch.value, str)
            )


def test_search_finds_the_causes_of_rules_and_stops() -> None:
    assert {
        "apart",
        "silent",
        "missing",
        "mismatch",
        "lost",
        "exit",
        "signal",
        "rebooted",
        "cut-off",
    } <= list_rule_causes()
    assert list_stop_causes() == {"early-exit", "start-timeout", "hang"}
    assert len(list_signature_causes()) > 100


def test_every_first_cause_is_in_a_failure_class() -> None:
    missing = (list_signature_causes() | list_rule_causes() | list_stop_causes()) - {*CLASSED}
    assert not missing, f"add to a class of fanout/recovery/failure_classes.py: {sorted(missing)}"


def test_no_first_cause_is_in_two_failure_classes() -> None:
    assert not [name for name, count in CLASSED.items() if count > 1]


def test_every_name_in_a_failure_class_is_a_first_cause() -> None:
    known = list_signature_causes() | list_rule_causes() | list_stop_causes()
    assert not {*CLASSED} - known, f"remove or rename: {sorted({*CLASSED} - known)}"


def test_every_failure_class_has_its_own_name() -> None:
    assert len({row.name for row in FAILURE_CLASSES}) == len(FAILURE_CLASSES)


def test_the_tables_of_the_page_are_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert sorted(list_parts(page)) == sorted(PARTS)
    assert page == write_parts(page, PARTS), "run: make restart-table"
