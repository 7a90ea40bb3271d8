"""Evidence reference: write the generated tables of docs/diagnosis.md: levels, rules, doubts, and sets of signatures.

``python -m tests.diagnose.evidence_reference`` (or ``make diagnosis``) writes them; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources

from fanout.diagnose.evidence_order import DOUBTS, LEVELS
from fanout.diagnose.rules.rule_table import RULES
from fanout.diagnose.signatures import SETS
from tests.generated_pages import write_parts
from tests.sources import ROOT

PAGE = ROOT / "docs" / "diagnosis.md"


def format_levels() -> Iterator[str]:
    """Yield the table of the levels of evidence."""
    yield from ("| level | confidence | evidence |", "|---|---|---|")
    for level in LEVELS:
        yield f"| {level.name} | {level.confidence} | {level.evidence} |"


def format_rules() -> Iterator[str]:
    """Yield the table of the rules."""
    yield from ("| rule | level | condition |", "|---|---|---|")
    for rule in RULES:
        yield f"| `{rule.id}` | {rule.level} | {rule.condition} |"


def format_doubts() -> Iterator[str]:
    """Yield the table of the doubts, the strictest first."""
    yield from ("| doubt | at most |", "|---|---|")
    for doubt in DOUBTS:
        yield f"| {doubt.reason} | {doubt.limit} |"


def format_sets() -> Iterator[str]:
    """Yield the table of the sets of signatures."""
    yield from ("| file | |", "|---|---|")
    for name in SETS:
        link = f"[`{name}.toml`](../fanout/diagnose/signatures/{name}.toml)"
        yield f"| {link} | {_read_title(name)} |"


def _read_title(name: str) -> str:
    """Return the first line of the file without the comment sign."""
    text = resources.files("fanout.diagnose").joinpath(f"signatures/{name}.toml").read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ").partition(". ")[0].rstrip(".")


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "levels": format_levels,
    "rules": format_rules,
    "doubts": format_doubts,
    "sets": format_sets,
}


if __name__ == "__main__":
    PAGE.write_text(write_parts(PAGE.read_text(encoding="utf-8"), PARTS), encoding="utf-8")
