"""Class reference: write the generated tables of docs/restarts.md, what fanout does after each kind of first cause.

``python -m tests.recovery.class_reference`` (or ``make restart-table``) writes them; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fanout.recovery.failure_classes import (
    FAILURE_CLASSES,
    HARDWARE_XIDS,
    RECOVERY_WORDS,
    RECOVERY_XID,
    REQUESTED_RESTART,
    TRANSIENT_TEXTS,
    UNDETERMINED,
    USAGE_CODES,
    USAGE_ERROR,
    FailureClass,
)
from tests.generated_pages import write_parts
from tests.sources import ROOT

PAGE = ROOT / "docs" / "restarts.md"
_ANSWERS = {"restart": "restarts", "replace": "replaces the host", "stop": "stops"}
_WAITS = {"none": "", "repeated": "waits from the second time on", "always": "waits first"}
_CONDITIONS = (
    ("repeats_ever", "replaces the host if it causes this again, also after progress, and a spare is left"),
    ("replaces_repeat", "replaces the host if it causes this again and a spare is left"),
    ("replaces_single", "replaces the host if only one host has the fault"),
    ("in_place_if_clean", "keeps the host if it is clean and no spare is left"),
    ("needs_progress", "stops before the first step"),
    ("stops_at_same_place", "stops at the same error after the same step"),
)


def format_decisions() -> Iterator[str]:
    """Yield the table of decisions."""
    yield from ("| class | what fanout does | at most | reason |", "|---|---|---|---|")
    for row in (REQUESTED_RESTART, USAGE_ERROR, *FAILURE_CLASSES, UNDETERMINED):
        yield f"| `{row.name}` | {describe_answer(row)} | {describe_limit(row)} | {row.why} |"


def describe_answer(row: FailureClass) -> str:
    """Return the answer of a class and its conditions."""
    named = [name for name, _ in _CONDITIONS if getattr(row, name)]
    if row.repeats_ever:
        named.remove("replaces_repeat")
    conditions = [_WAITS[row.wait], *(text for name, text in _CONDITIONS if name in named)]
    return "; ".join(filter(None, [_ANSWERS[row.answer], *conditions]))


def describe_limit(row: FailureClass) -> str:
    """Return how many restarts in a row may follow this class."""
    if row is REQUESTED_RESTART:
        return "the rate limit"
    if row.answer == "stop" and not row.replaces_single:
        return "-"
    return "the budget" if row.limit is None else str(row.limit)


def format_causes() -> Iterator[str]:
    """Yield the table of the first causes of each class."""
    yield from ("| class | first causes |", "|---|---|")
    yield f"| `{REQUESTED_RESTART.name}` | an exit status of `--restart-codes`, without a known error |"
    codes = ", ".join(map(str, USAGE_CODES))
    yield f"| `{USAGE_ERROR.name}` | exit status {codes}, without a known error |"
    notes = {
        "gpu-broken": f"`xid` {', '.join(map(str, HARDWARE_XIDS))}, and {RECOVERY_XID} if it asks for a {' or a '.join(RECOVERY_WORDS)}",
        "gpu-fault": "all other numbers of `xid`",
        "ended-outside": "an end by SIGTERM, SIGINT or SIGHUP without a known error",
        "file-server": "an exception that names one of: " + ", ".join(f"`{text.strip()}`" for text in TRANSIENT_TEXTS),
    }
    for row in FAILURE_CLASSES:
        names = [f"`{name}`" for name in sorted(row.signatures) if name != "xid"]
        yield f"| `{row.name}` | {', '.join([*names, *filter(None, [notes.get(row.name)])])} |"


PARTS: dict[str, Callable[[], Iterator[str]]] = {"decisions": format_decisions, "causes": format_causes}


if __name__ == "__main__":
    PAGE.write_text(write_parts(PAGE.read_text(encoding="utf-8"), PARTS), encoding="utf-8")
