"""What stands before the lines of several hosts or tasks in one file: the labels of the tools that wrote them together.

Pure. A file has one kind of label or none, which its first lines show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

Split = Callable[[str], tuple[str, str]]  # a line -> (whose it is, or "", the line without that)

_HOST = r"(?P<host>[A-Za-z0-9][\w.:-]{0,62})"
_PATTERNS = (
    re.compile(r"^\[pod/(?P<host>[^/\]]+)/[^\]]+\] ?"),  # kubectl logs --prefix
    re.compile(rf"^{_HOST} +\| ?"),  # docker compose, fanout logs
    re.compile(r"^(?:\w{3} \w{3} +\d+ [\d:]{8} \d{4})?\[[\w@.-]+,(?P<task>\d{1,6})\](?:<std\w+>: ?|<stddiag>: ?)"),  # mpirun --tag-output
    re.compile(r"^\[(?P<task>\d{1,6})\] "),  # mpiexec -prepend-rank
    re.compile(r"^ *(?P<task>\d{1,5}): "),  # srun --label
    re.compile(r"^(?P<host>[A-Za-z][\w.-]{0,62}\d[\w.-]*|\d{1,3}(?:\.\d{1,3}){3}|[a-z][\w-]*(?:\.[\w-]+)+): ?"),  # pdsh, clush
)  # fmt: skip
_WORD = re.compile(r"^(?P<host>[a-z][\w-]{0,62}): ?")  # a host without a digit looks like any word
_STERN = re.compile(r"^(?P<host>[a-z0-9]+(?:-[a-z0-9]+)+) [a-z][a-z0-9-]* ")  # pod, container
_LAUNCHED = re.compile(r"^\[(?:rank|default)\d+\]:|^[EWI]\d{4} [\d:.]{8,15} +\d+ |^Traceback \(most|^\[[WE]\d{4} ")
_RULE = re.compile(r"^-{4,}\s*$")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d) ")
_MOST = 0.9
_FEWEST = 3  # lines that are enough to judge by


def split_of(lines: Sequence[str]) -> Callable[[], Split] | None:
    """How the file that begins with these lines is to be split, each time that it is read; None without labels."""
    seen = [line.rstrip("\n") for line in lines if line.strip()]
    if len(seen) < _FEWEST:
        return None
    for pattern in _PATTERNS:
        if _nearly_all(pattern, seen):
            return partial(_by, pattern)
    for pattern in (_WORD, _STERN):
        if _nearly_all(pattern, seen) and _launched(pattern, seen):
            return partial(_by, pattern)
    if _RULE.match(seen[0]) and _RULE.match(seen[2]):
        return _Sections
    return None


def unstamped(text: str) -> str:
    """Without the time that ``kubectl logs --timestamps`` or ``docker logs -t`` puts before a line."""
    match = _STAMP.match(text) if text[:2] == "20" else None
    return text[match.end() :] if match else text


def _nearly_all(pattern: re.Pattern[str], seen: Sequence[str]) -> bool:
    return sum(bool(pattern.match(line)) for line in seen) >= _MOST * len(seen)


def _launched(pattern: re.Pattern[str], seen: Sequence[str]) -> bool:
    """Does every label stand before something that torch or Python says? ``loss: 1`` is no line of a host."""
    labels, spoke = set(), set()
    for line in seen:
        label, text = _labelled(pattern, line)
        if label:
            labels.add(label)
            spoke |= {label} if _LAUNCHED.match(unstamped(text)) else set()
    return labels == spoke


def _by(pattern: re.Pattern[str]) -> Split:
    return partial(_labelled, pattern)


def _labelled(pattern: re.Pattern[str], line: str) -> tuple[str, str]:
    match = pattern.match(line)
    if match is None:
        return "", line
    found = match.groupdict()
    return found.get("host") or f"task{found['task']}", line[match.end() :]


class _Sections:
    """``clush -b``, ``dshbak``: the host between two rules, below them what it said."""

    def __init__(self) -> None:
        self._host = ""
        self._name: str | None = None  # between two rules: what stood there so far
        self._held = ""

    def __call__(self, line: str) -> tuple[str, str]:
        if _RULE.match(line):
            if self._name:  # the lower rule
                self._host, self._name = self._name, None
            else:
                self._name = ""
            return self._host, ""
        if self._name == "" and line.strip() and " " not in line.strip():
            self._name = line.strip().partition(" ")[0]
            return self._host, ""
        self._name = None
        return self._host, line
