"""Line labels: split off the prefix by which tools mark the lines of several hosts or tasks in one file.

No I/O. A file has one kind of label or none; its first lines show which one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from fanout.diagnose.import_logs.prefix_shapes import PrefixShape, ShapeSplitter, is_host_name, learn_shapes
from fanout.diagnose.import_logs.section_labels import SectionSplitter, has_sections
from fanout.model import schema
from fanout.model.frozen import frozen

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
    r"^(?:(?:srun|slurmstepd(?:-\S{1,253})?|salloc|pdsh@\S{1,253}|clush|mpirun|mpiexec|prterun|parallel): "
    r"|\S{1,253} exited with code \d{1,3}\b|Attaching to |-{20,}$|={20,}$)"
)  # these tools do not label their own lines
#: Labels that no other lines have.
_CERTAIN = (
    _SYSLOG,
    _SYSLOG_ISO,
    re.compile(r"^\[pod/(?P<host>[^/\]]{1,253})/[^\]]{1,253}\] ?"),  # kubectl logs --prefix
    re.compile(
        r"^(?:\w{3} \w{3} +\d{1,2} [\d:]{8} \d{4})?\[[\w@.-]{1,253},(?P<task>\d{1,6})\](?:<std\w{1,6}>: ?|<stddiag>: ?)"
    ),  # mpirun --tag-output
    re.compile(r"^(?:\w{3} \w{3} +\d{1,2} [\d:]{8} \d{4})?\[(?P<task>\d{1,6})\]<std\w{1,6}>: ?"),  # horovodrun
)
#: Labels that ordinary lines may have, too: they count if no prefix can be learned.
_LIKELY = (
    re.compile(rf"^{_HOST} +\| ?"),  # docker compose, fanout logs
    re.compile(r"^\[(?P<task>\d{1,6})\] "),  # mpiexec -prepend-rank
    re.compile(r"^\[(?P<host>\d{1,3}(?:\.\d{1,3}){3})\] ?"),  # HOSTS | xargs ssh, Horovod, colossalai
    re.compile(r"^(?P<host>[A-Za-z0-9][\w.-]{0,252})\t"),  # parallel --tag
    re.compile(r"^ *(?P<task>\d{1,5}): "),  # srun --label
    re.compile(r"^(?P<host>[A-Za-z][\w.-]{0,62}\d[\w.-]{0,62}|\d{1,3}(?:\.\d{1,3}){3}|[a-z][\w-]{0,62}(?:\.[\w-]{1,62})+): ?"),  # pdsh, clush
)  # fmt: skip
_DOCKER_JSON = re.compile(r'^\{"log":')
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d) (?:std(?:out|err) [FP] )?")
_MOST, _HALF = 0.9, 0.5
_FEWEST = 3  # fewest lines for a decision


@frozen
class LabelPlan:
    """How the lines of a file are split. ``own_lines``: a line without a label belongs to the machine of the file."""

    build: Callable[[], LineSplitter]
    own_lines: bool = False


def detect_labels(lines: Sequence[str], own_host: str = "") -> LabelPlan | None:
    """Return how the file that has these lines is split; None if its lines have neither a label nor a prefix.

    ``own_host`` is the host of the file by its name, "" if the name is not that of a host.
    """
    seen = [line.rstrip("\n") for line in lines if line.strip() and not _TOOLS.match(line)]
    if any((_RAY.match(line) and " pid=" in line[:200]) or line.startswith("(raylet") for line in seen):
        return _nest_plan(LabelPlan(build=partial(_build_splitter, _RAY), own_lines=True), seen)
    if len(seen) < _FEWEST or _matches_most(_DOCKER_JSON, seen, _HALF):
        return None  # strip_timestamp reads docker's JSON
    for pattern in _CERTAIN:
        if _matches_most(pattern, seen, _HALF):
            return _nest_plan(LabelPlan(build=partial(_build_splitter, pattern)), seen)
    if has_sections(seen[0], seen[2]):
        return _nest_plan(LabelPlan(build=SectionSplitter), seen)
    shapes = learn_shapes(seen, own_host=own_host)
    if not any(shape.host is not None for shape in shapes):
        for pattern in _LIKELY:
            if _matches_most(pattern, seen, _MOST):
                numbers = _is_numbering(pattern, seen)
                build = partial(_build_number_splitter if numbers else _build_splitter, pattern)
                return _nest_plan(LabelPlan(build=build, own_lines=numbers), seen)
    if shapes:
        return LabelPlan(build=partial(ShapeSplitter, shapes), own_lines=True)
    return None


def _nest_plan(plan: LabelPlan, seen: Sequence[str]) -> LabelPlan:
    """Return a plan that also removes a prefix behind the label, if the texts have one."""
    split = plan.build()
    shapes = learn_shapes([strip_timestamp(split(line)[1]) for line in seen], hosts=False)
    return replace(plan, build=partial(_NestedSplitter, plan.build, shapes)) if shapes else plan


class _NestedSplitter:
    """Splitter of a label and, behind it, a prefix that was learned."""

    def __init__(self, outer: Callable[[], LineSplitter], inner: Sequence[PrefixShape]) -> None:
        self._outer, self._inner = outer(), inner

    def __call__(self, line: str) -> tuple[str, str]:
        label, text = self._outer(line)
        text = strip_timestamp(text)
        for shape in self._inner:
            found = shape.split(text)
            if found is not None:
                return label, found[1]
        return label, text


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


def _is_numbering(pattern: re.Pattern[str], seen: Sequence[str]) -> bool:
    """Return whether the labels only number the lines."""
    numbers = [int(match["task"]) for line in seen if (match := pattern.match(line)) and "task" in match.groupdict()]
    return len(numbers) > 2 and all(after == before + 1 for before, after in pairwise(numbers))


def _build_number_splitter(pattern: re.Pattern[str]) -> LineSplitter:
    """Return a splitter that removes the line number, which names no host."""
    return lambda line: ("", pattern.sub("", line, count=1))


def _matches_most(pattern: re.Pattern[str], seen: Sequence[str], share: float) -> bool:
    """Return whether this share of the lines has the label, and each label may be the name of a host."""
    found = [match for line in seen if (match := pattern.match(line))]
    hosts = {match["host"] for match in found} if "host" in pattern.groupindex else set()
    return len(found) >= share * len(seen) and all(is_host_name(host) for host in hosts if host)


def _build_splitter(pattern: re.Pattern[str]) -> LineSplitter:
    return partial(_split_label, pattern)


def _split_label(pattern: re.Pattern[str], line: str) -> tuple[str, str]:
    match = pattern.match(line)
    if match is None:
        return "", line
    found = match.groupdict()
    label = found.get("host") or (f"task{found['task']}" if "task" in found else "")
    return label, line[match.end() :]
