"""Line labels: split off the prefix by which tools mark the lines of several hosts or tasks in one file.

No I/O. A file has one kind of label or none; its first lines show which one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from fanout.logs import glog
from fanout.model import schema

_DOCKER = {"log": schema.Text(schema.LONGEST_TEXT)}
LineSplitter = Callable[[str], tuple[str, str]]  # a line -> (its label, or "", the line without the label)

_HOST = r"(?P<host>[A-Za-z0-9][\w.:-]{0,62})"
#: syslog, rsyslog, journalctl: time, host, and the program, which is left out of the text.
_SYSLOG = re.compile(
    r"^[A-Z][a-z]{2} {1,2}\d{1,2} [\d:]{8}(?:\.\d{1,9})? (?P<host>[\w.-]{1,253}) [^\s:\[]{1,64}(?:\[\d{1,9}\])?: ?"
)
_SYSLOG_ISO = re.compile(
    r"^\d{4}-\d\d-\d\dT[\d:]{8}(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d) (?P<host>[\w.-]{1,253}) [^\s:\[]{1,64}(?:\[\d{1,9}\])?: ?"
)
#: Ray's driver prints its own lines without a label: they belong to the machine that has the file.
_RAY = re.compile(
    r"^\((?P<actor>[\w.:<>-]{1,128})(?: pid=\d{1,9})?(?:, ip=(?P<host>[\d.]{7,15}))?\) ?(?:\[repeated \d{1,9}x[^\]]{0,80}\] ?)?"
)
_TOOLS = re.compile(
    r"^(?:srun|slurmstepd|pdsh@\S{1,253}|clush|mpirun|mpiexec|prterun|parallel): "
)  # these tools do not label their own lines
_PATTERNS = (
    re.compile(r"^\[pod/(?P<host>[^/\]]+)/[^\]]+\] ?"),  # kubectl logs --prefix
    re.compile(rf"^{_HOST} +\| ?"),  # docker compose, fanout logs
    re.compile(r"^(?:\w{3} \w{3} +\d+ [\d:]{8} \d{4})?\[[\w@.-]+,(?P<task>\d{1,6})\](?:<std\w+>: ?|<stddiag>: ?)"),  # mpirun --tag-output
    re.compile(r"^\[(?P<task>\d{1,6})\] "),  # mpiexec -prepend-rank
    re.compile(r"^\[(?P<host>\d{1,3}(?:\.\d{1,3}){3})\] ?"),  # HOSTS | xargs ssh, Horovod, colossalai
    re.compile(r"^(?P<host>[A-Za-z0-9][\w.-]{0,252})\t"),  # parallel --tag
    _SYSLOG, _SYSLOG_ISO,
    re.compile(r"^ *(?P<task>\d{1,5}): "),  # srun --label
    re.compile(r"^(?P<host>[A-Za-z][\w.-]{0,62}\d[\w.-]*|\d{1,3}(?:\.\d{1,3}){3}|[a-z][\w-]*(?:\.[\w-]+)+): ?"),  # pdsh, clush
)  # fmt: skip
_WORD = re.compile(r"^(?P<host>[a-z][\w-]{0,62}): ?")  # a host without a digit looks like any word
_STERN = re.compile(r"^(?P<host>[a-z0-9]+(?:-[a-z0-9]+)+) [a-z][a-z0-9-]* ")  # pod, container
_LAUNCHED = re.compile(rf"^\[(?:rank|default)\d+\]:|^{glog.HEAD} |^Traceback \(most")
_RULE = re.compile(r"^-{4,}\s*$")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d) (?:std(?:out|err) [FP] )?")
_MOST = 0.9
_FEWEST = 3  # fewest lines for a decision


def detect_splitter(lines: Sequence[str]) -> Callable[[], LineSplitter] | None:
    """Return a factory of the splitter for the file that begins with these lines; None without labels."""
    seen = [line.rstrip("\n") for line in lines if line.strip() and not _TOOLS.match(line)]
    if any((_RAY.match(line) and " pid=" in line[:200]) or line.startswith("(raylet") for line in seen):
        return partial(_build_splitter, _RAY)
    if len(seen) < _FEWEST:
        return None
    for pattern in _PATTERNS:
        if _matches_most(pattern, seen):
            return (
                partial(_build_number_splitter, pattern)
                if _is_numbering(pattern, seen)
                else partial(_build_splitter, pattern)
            )
    for pattern in (_WORD, _STERN):
        if _matches_most(pattern, seen) and _is_launcher_output(pattern, seen):
            return partial(_build_splitter, pattern)
    if _RULE.match(seen[0]) and _RULE.match(seen[2]):
        return _SectionSplitter
    return None


def strip_timestamp(text: str) -> str:
    """Return a line without the prefix of a container runtime: a time, CRI tags, docker's JSON."""
    if text.startswith('{"log":'):
        return _parse_docker_line(text)
    match = _STAMP.match(text) if text[:2] == "20" else None
    return text[match.end() :] if match else text


def _parse_docker_line(text: str) -> str:
    """Return the text of a line of docker's json-file log; other lines unchanged."""
    try:
        said: str = schema.parse_json(text, _DOCKER)["log"]
    except schema.InvalidValue:
        return text
    return said.rstrip("\n")


def has_own_lines(lines: Sequence[str]) -> bool:
    """Return whether lines without a label belong to the machine of the file, as with Ray's driver."""
    split = detect_splitter(lines)
    return (
        isinstance(split, partial)
        and bool(split.args)
        and (split.func is _build_number_splitter or split.args[0] is _RAY)
    )


def _is_numbering(pattern: re.Pattern[str], seen: Sequence[str]) -> bool:
    """Return whether the labels only number the lines."""
    numbers = [int(match["task"]) for line in seen if (match := pattern.match(line)) and "task" in match.groupdict()]
    return len(numbers) > 2 and all(after == before + 1 for before, after in pairwise(numbers))


def _build_number_splitter(pattern: re.Pattern[str]) -> LineSplitter:
    """Return a splitter that removes the line number, which names no host."""
    return lambda line: ("", pattern.sub("", line, count=1))


def _matches_most(pattern: re.Pattern[str], seen: Sequence[str]) -> bool:
    return sum(bool(pattern.match(line)) for line in seen) >= _MOST * len(seen)


def _is_launcher_output(pattern: re.Pattern[str], seen: Sequence[str]) -> bool:
    """Return whether every label precedes a line of torch or Python. ``loss: 1`` is not a labelled line."""
    labels, spoke = set(), set()
    for line in seen:
        label, text = _split_label(pattern, line)
        if label:
            labels.add(label)
            spoke |= {label} if _LAUNCHED.match(strip_timestamp(text)) else set()
    return labels == spoke


def _build_splitter(pattern: re.Pattern[str]) -> LineSplitter:
    return partial(_split_label, pattern)


def _split_label(pattern: re.Pattern[str], line: str) -> tuple[str, str]:
    match = pattern.match(line)
    if match is None:
        return "", line
    found = match.groupdict()
    label = found.get("host") or (f"task{found['task']}" if "task" in found else "")
    return label, line[match.end() :]


class _SectionSplitter:
    """Splitter for ``clush -b`` and ``dshbak``: a host name between two lines of dashes, then its output."""

    def __init__(self) -> None:
        self._host = ""
        self._name: str | None = None  # between two lines of dashes: the text so far
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
