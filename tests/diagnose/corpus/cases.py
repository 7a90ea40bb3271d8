"""The cases of the corpus: read the TOML files, and expand the directives in their logs.

A case has the logs of one failed run and the expected verdict. Its author wrote the verdict from the logs alone. A line
of a log that begins with ``@`` is a directive:

=====================================  ==================================================================
``@NAME key=value | key=value``        a form of forms.toml with these fields; ``rank=3`` also sets the mark
``@report host=H | ranks=R:L:CODE:PID …``  torchrun's failure report; its first rank is the root cause
``@each 0-3,7 TEXT``                   TEXT once for each number, which replaces ``%n``
``@times 500 TEXT``                    TEXT 500 times; ``%n`` counts from 1
``@prefix TEXT`` … ``@end``            TEXT before each line; ``%i70`` counts from 70, ``\\t`` is a tab
``@docker`` … ``@end``                 each line in a JSON object, as docker's json-file driver writes it
=====================================  ==================================================================

The character ``␛`` stands for ESC, which TOML does not allow in a text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent
FORMS = "forms.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The verdict that the logs justify.

    ``hosts`` are the acceptable names of the host, "" means the run; none means that no host may be named. ``ranks``: none means that no
    rank may be named. ``confidence`` is the highest that is justified. ``shows`` is a pattern in the text of the cause.
    """

    kinds: tuple[str, ...]
    confidence: str
    hosts: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    any_rank: bool = False
    shows: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One failed run.

    ``labels`` give for each host of a common log the pattern of its lines; ``file_prefixes`` the files of each host, if
    it has several.
    """

    id: str
    topic: str
    source: str
    why: str
    logs: Mapping[str, str]
    expect: Expectation
    labels: Mapping[str, str] = field(default_factory=dict)
    file_prefixes: tuple[str, ...] = ()

    def leave_out_hosts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield (what is missing, the other logs), with the log of each host removed in turn."""
        for prefix in self.file_prefixes or tuple(self.logs):
            if others := {name: text for name, text in self.logs.items() if not name.startswith(prefix)}:
                yield prefix, others
        for host, pattern in self.labels.items():
            line = re.compile(pattern)
            rest = {
                name: "".join(each for each in text.splitlines(keepends=True) if not line.search(each))
                for name, text in self.logs.items()
            }
            if any(rest.values()):
                yield host, rest


@cache
def load_cases() -> tuple[Case, ...]:
    """Return all cases. Raises ValueError if two have the same id."""
    cases: dict[str, Case] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        if path.name == FORMS:
            continue
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["case"]:
            case = _build_case(entry, path.stem)
            if case.id in cases:
                raise ValueError(f"{path.name}: two cases have the id {case.id}")
            cases[case.id] = case
    return tuple(cases.values())


def _build_case(entry: Mapping[str, Any], topic: str) -> Case:
    expect = dict(entry["expect"])
    ranks = expect.get("rank", ())
    return Case(
        id=entry["id"],
        topic=topic,
        source=entry["source"],
        why=entry["why"],
        logs={name: expand_log(text) for name, text in entry["logs"].items()},
        labels=entry.get("labels", {}),
        file_prefixes=tuple(entry.get("file_prefixes", ())),
        expect=Expectation(
            kinds=_make_tuple(expect["kind"]),
            confidence=expect["confidence"],
            hosts=_make_tuple(expect.get("host", ())),
            ranks=() if ranks == "any" else tuple(_make_tuple(ranks)),
            any_rank=ranks == "any",
            shows=expect.get("shows", ""),
        ),
    )


def _make_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


# ---------------------------------------------------------------------------------------------------------- directives


def expand_log(text: str) -> str:
    """Return the log that a text with directives describes."""
    lines = text.removeprefix("\n").replace("␛", "\x1b").splitlines()
    return "".join(f"{line}\n" for line in _expand_lines(lines))


def _expand_lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines; a block directive applies to all lines before its ``@end``."""
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith(("@prefix ", "@docker")):
            end = _find_end(lines, at)
            inner = list(_expand_lines(lines[at:end]))
            yield from _wrap_lines(line, inner)
            at = end + 1
        else:
            yield from _expand_line(line)


def _find_end(lines: Sequence[str], start: int) -> int:
    depth = 1
    for number in range(start, len(lines)):
        depth += lines[number].startswith(("@prefix ", "@docker"))
        depth -= lines[number] == "@end"
        if depth == 0:
            return number
    raise ValueError(f"no @end after {lines[start - 1]}")


def _wrap_lines(directive: str, inner: Sequence[str]) -> Iterator[str]:
    if directive.startswith("@prefix "):
        prefix = directive.removeprefix("@prefix ").replace("\\t", "\t")
        counter = re.search(r"%i(\d+)", prefix)
        for number, line in enumerate(inner):
            yield prefix.replace(counter[0], str(int(counter[1]) + number)) + line if counter else prefix + line
        return
    for number, line in enumerate(inner):
        at = f"2025-05-08T10:11:{13 + number // 100:02}.{number % 100:02}3456789Z"
        yield json.dumps({"log": f"{line}\n", "stream": "stderr", "time": at}, ensure_ascii=False)


def _expand_line(line: str) -> Iterator[str]:
    if not line.startswith("@"):
        yield line
        return
    name, _, rest = line[1:].partition(" ")
    if name in ("each", "times"):
        numbers, _, text = rest.partition(" ")
        for number in _parse_numbers(numbers) if name == "each" else range(1, int(numbers) + 1):
            yield from _expand_line(text.replace("%n", str(number)))
        return
    fields = dict(pair.split("=", 1) for pair in rest.split(" | ") if pair)
    if name == "report":
        yield from _build_report(fields)
        return
    if "rank" in fields:
        fields.setdefault("m", f"[rank{fields['rank']}]: ")
    form = load_forms()[name]
    text = form["text"].format_map({**form.get("defaults", {}), **fields})
    yield from text.removeprefix("\n").splitlines()


def _parse_numbers(text: str) -> list[int]:
    out: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


@cache
def load_forms() -> dict[str, dict[str, Any]]:
    forms: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / FORMS).read_text(encoding="utf-8"))
    return forms


def _build_report(fields: Mapping[str, str]) -> Iterator[str]:
    """Yield torchrun's report of one host."""
    entries = [each.split(":") for each in fields["ranks"].split()]
    yield from ("=" * 60, "train.py FAILED", "-" * 60, "Failures:")
    if len(entries) == 1:
        yield "  <NO_OTHER_FAILURES>"
    for number, entry in enumerate(entries[1:], 1):
        yield from _build_report_entry(number, entry, fields)
    yield from ("-" * 60, "Root Cause (first observed failure):")
    yield from _build_report_entry(0, entries[0], fields)
    yield "=" * 60


def _build_report_entry(number: int, entry: Sequence[str], fields: Mapping[str, str]) -> Iterator[str]:
    rank, local, code, pid = entry
    signals = {"-6": "SIGABRT", "-7": "SIGBUS", "-9": "SIGKILL", "-11": "SIGSEGV", "-15": "SIGTERM"}
    reason = "To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html"
    if code in signals:
        reason = f"Signal {code[1:]} ({signals[code]}) received by PID {pid}"
    yield f"[{number}]:"
    yield f"  time      : {fields.get('at', '2025-06-12_03:14:09')}"
    yield f"  host      : {fields['host']}"
    yield f"  rank      : {rank} (local_rank: {local})"
    yield f"  exitcode  : {code} (pid: {pid})"
    yield "  error_file: <N/A>"
    yield f"  traceback : {reason}"
