"""Node sets: expand ``gpu[01-16]`` and unions, differences and intersections, in written order."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from fanout.hostfile.problems import ParseError
from fanout.text.parse_ranges import NumberRange, parse_range

MOST_HOSTS = 100_000

_COLON_STEP = re.compile(r"(\d{1,18}):(\d{1,18})(?::(\d{1,9}))?", re.ASCII)
_LETTERS = re.compile(r"([a-z]):([a-z])|([A-Z]):([A-Z])")


def split_list(text: str, separators: str = ",") -> Iterator[tuple[int, str, str]]:
    """Yield the parts between separators outside brackets: (column, separator before it, part)."""
    if "[" not in text and len(separators) == 1:
        at = 0
        for part in text.split(separators):
            yield at, separators if at else "", part
            at += len(part) + 1
        return
    depth, start, before = 0, 0, ""
    for at, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif depth <= 0 and char in separators:
            yield start, before, text[start:at]
            start, before = at + 1, char
    yield start, before, text[start:]


def expand_ranges(word: str) -> list[str]:
    """Expand one word with any number of bracket ranges; the leftmost range changes slowest."""
    if "[" not in word and "]" not in word:
        return [word]
    axes: list[list[str]] = []
    count, at = 1, 0
    while at < len(word):
        opened = word.find("[", at)
        stray = word.find("]", at, opened if opened >= 0 else len(word))
        if stray >= 0:
            raise ParseError("']' without '['", start=stray, end=stray + 1)
        if opened < 0:
            axes.append([word[at:]])
            break
        closed = word.find("]", opened)
        if closed < 0:
            raise ParseError("'[' is not closed", "write gpu[01-16]", start=opened)
        if opened > at:
            axes.append([word[at:opened]])
        axes.append(_expand_numbers(word[opened + 1 : closed], at=opened + 1))
        count *= len(axes[-1])
        if count > MOST_HOSTS:
            raise ParseError(f"more than {MOST_HOSTS:,} hosts", start=opened, end=closed + 1)
        at = closed + 1
    return ["".join(parts) for parts in itertools.product(*axes)]


def _expand_numbers(inside: str, *, at: int) -> list[str]:
    """Expand ``01-03,7`` (or Ansible's ``01:03``, ``a:c``) to 01 02 03 7."""
    found: list[str] = []
    for start, _, part in split_list(inside):
        begin, end = at + start, at + start + max(len(part), 1)
        letters = _LETTERS.fullmatch(part)
        if letters:
            low, high = (letters[1], letters[2]) if letters[1] else (letters[3], letters[4])
            if low > high:
                raise ParseError(f"the range {part} runs backwards", f"write {high}:{low}", start=begin, end=end)
            found += [chr(code) for code in range(ord(low), ord(high) + 1)]
            continue
        run = parse_range(part) if part == part.strip() else None
        colons = _COLON_STEP.fullmatch(part)
        if colons is not None:
            run = NumberRange(colons[1], colons[2], int(colons[3] or 1))
        if run is None:
            what = "an empty range" if not part.strip() else f"{part!r} is not a range"
            raise ParseError(what, "write [01-16], [1,3,7-9] or [0-8/2]", start=begin, end=end)
        found += _expand_run(run, part, start=begin, end=end)
        if len(found) > MOST_HOSTS:
            raise ParseError(f"more than {MOST_HOSTS:,} hosts", start=begin, end=end)
    return found


def _expand_run(run: NumberRange, part: str, *, start: int, end: int) -> list[str]:
    low, high, step = run
    if step < 1:
        raise ParseError(f"a step of {step}", "a step is at least 1", start=start, end=end)
    if int(low) > int(high):
        raise ParseError(f"the range {part} runs backwards", f"write [{high}-{low}]", start=start, end=end)
    if len(low) != len(high) and (high[0] == "0" or len(low) > len(high)):
        raise ParseError(
            f"{low} and {high} are padded to different widths", "write [08-12] or [8-12]", start=start, end=end
        )
    if (int(high) - int(low)) // step >= MOST_HOSTS:
        raise ParseError(f"more than {MOST_HOSTS:,} hosts", start=start, end=end)
    width = len(low) if low[0] == "0" else 0
    return [f"{number:0{width}d}" for number in run.numbers]


def expand_node_set(expression: str, spelled: Mapping[str, list[str]] | None = None) -> list[str]:
    """Expand a node set with ``,`` (union), ``!`` (difference), ``&`` (intersection), ``^`` (symmetric difference).

    Operators apply from left to right. ``spelled`` has the names of groups and wildcards.
    """
    names: dict[str, None] = {}
    for start, operator, part in split_list(expression, ",!&^"):
        word = part.strip()
        if not word:
            raise ParseError("a host name is missing", start=start, end=start + 1)
        if any(char.isspace() for char in word):
            raise ParseError("a space in a node set", "separate hosts with commas", start=start, end=start + len(part))
        try:
            these = dict.fromkeys(spelled[word] if spelled and word in spelled else expand_ranges(word))
        except ParseError as error:
            lead = start + len(part) - len(part.lstrip())
            end = len(word) if error.end is None else error.end
            raise ParseError(error.what, error.fix, start=lead + error.start, end=lead + end) from None
        if operator in ("", ","):
            names |= these
        elif operator == "!":
            names = {name: None for name in names if name not in these}
        elif operator == "&":
            names = {name: None for name in names if name in these}
        else:
            names = {name: None for name in [*names, *these] if (name in names) != (name in these)}
        if len(names) > MOST_HOSTS:
            raise ParseError(f"more than {MOST_HOSTS:,} hosts", start=start, end=start + len(part))
    return list(names)
