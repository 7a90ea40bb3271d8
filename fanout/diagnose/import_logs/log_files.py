"""Log files of other launchers: the host and rank from the file name, and the time of a line.

No I/O: names and lines in, values out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from fanout.logs import glog


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """One log file: its path, its host, and the rank or local rank if it belongs to one process."""

    path: str
    host: str
    rank: int | None = None
    local: int | None = None


_ENDING = re.compile(r"\.(?:log|out|err|txt|stdout|stderr|output|error|gz|bz2|xz|zst)(?:\.\d+)?$", re.IGNORECASE)
_RANK = re.compile(r"[._-]?\brank[._-]?(\d+)(?:[._-](?:out|err|attempt[._-]?\d+)\b)*", re.IGNORECASE)
_ANY = re.compile(r"^(?:std(?:out|err)|out|err|log|logs|output|error|train|training|console|main|run|torchrun|\d+|)$")
#: Names of files and folders that are no hosts: what schedulers, torchrun and people call a log of several hosts.
_GENERIC = re.compile(
    r"^(?:task\d+|slurm.*|job.*|std\w+|host|hosts|torchelastic_.*|none_.*|[\d_.-]+|all|combined|merged|mixed|compose"
    r"|syslog|messages|journal|kern|dmesg|driver|head|logs?|outputs?|errors?|out|err|train(?:ing)?|console|main|run|torchrun)$",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"^\d{1,3}(?:\.\d{1,3}){3}(?=$|[._-])")
_KIND = re.compile(
    r"[._-](?:dmesg|kern(?:el)?|journal|syslog|messages|train(?:ing)?|console|nvidia-smi)$", re.IGNORECASE
)
_LOCAL = re.compile(r"(?:^|/)attempt_\d+/(\d+)(?:/|$)")


def is_generic_name(name: str) -> bool:
    """Return whether a name of a file is not that of a host, or only an address, for which a report may have a name."""
    return bool(_GENERIC.match(name))


def read_host_name(name: str) -> str:
    """Return the host of a file by its name; "" if the name is not that of a host."""
    return "" if is_generic_name(name) and not _ADDRESS.match(name) else name


def identify_files(paths: Sequence[str]) -> tuple[LogSource, ...]:
    """Return host and rank of each file. If the name is generic (stdout.log, 0/), use the folder name."""
    stems = _strip_common_prefix({path: _strip_suffixes(path) for path in paths})
    common = Counter(stems.values())
    out = []
    for path in paths:
        rank, local = _RANK.search(PurePath(path).name), _LOCAL.search(path)
        host = stems[path]
        if _ANY.match(host) or local or (common[host] > 1 and len({str(PurePath(p).parent) for p in paths}) > 1):
            host = _find_distinct_folder(path, paths) or host
        number = int(rank[1]) if rank else None
        out.append(LogSource(path=path, host=host or "host", rank=number, local=int(local[1]) if local else None))
    return tuple(out)


def _strip_common_prefix(stems: dict[str, str]) -> dict[str, str]:
    """Remove the common prefix of all names: ``job.gpu01`` and ``job.gpu02`` become gpu01 and gpu02."""
    if any(_ADDRESS.match(stem) for stem in stems.values()):
        return {path: found[0] if (found := _ADDRESS.match(stem)) else stem for path, stem in stems.items()}
    split = {path: stem.split(".") for path, stem in stems.items()}
    while len(split) > 1 and all(len(parts) > 1 for parts in split.values()):
        if len({parts[0] for parts in split.values()}) > 1:
            break
        split = {path: parts[1:] for path, parts in split.items()}
    return {path: ".".join(parts) for path, parts in split.items()}


def _strip_suffixes(path: str) -> str:
    name = PurePath(path).name
    while _ENDING.search(name):
        name = _ENDING.sub("", name)
    name = _RANK.sub("", name).strip("._-")
    return _KIND.sub("", name) or name


def _find_distinct_folder(path: str, paths: Sequence[str]) -> str:
    """Return the first folder name in which this path differs from the others."""
    clean = _LOCAL.split(path)[0] if _LOCAL.search(path) else str(PurePath(path).parent)
    mine = PurePath(clean).parts
    others = [PurePath(_LOCAL.split(p)[0] if _LOCAL.search(p) else str(PurePath(p).parent)).parts for p in paths]
    for at, part in enumerate(mine):
        if any(len(other) <= at or other[at] != part for other in others):
            return part
    return mine[-1] if mine and mine[-1] not in (".", "/") else ""


# -------------------------------------------------------------------------------------------------------------- times

_MONTHS = {
    name: str(number) for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}
_TIMES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], float | None]], ...] = (
    (
        re.compile(r"^\W{0,2}(\d{4})-(\d\d)-(\d\d)[T _](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?"),
        lambda m: _to_seconds(m[2], m[3], m[4], m[5], m[6], m[7]),
    ),
    (
        glog.RECORD,
        lambda m: _to_seconds(m["month"], m["day"], m["hour"], m["minute"], m["second"], m["part"]),
    ),
    (
        re.compile(r"^\s+time\s+: \d{4}-(\d\d)-(\d\d)_(\d\d):(\d\d):(\d\d)"),
        lambda m: _to_seconds(m[1], m[2], m[3], m[4], m[5], None),
    ),
    (re.compile(r"^(\d{10}\.\d{1,9}) "), lambda m: float(m[1])),
    (  # syslog and journalctl, and dmesg -T
        re.compile(
            r"^\[?(?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?: \d{4}\])?"
        ),
        lambda m: _to_seconds(_MONTHS.get(m[1], ""), m[2], m[3], m[4], m[5], m[6]),
    ),
    (
        re.compile(r'^\{"log":.{0,100000}"time":"\d{4}-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?'),
        lambda m: _to_seconds(m[1], m[2], m[3], m[4], m[5], m[6]),
    ),
)
_STARTS = frozenset("0123456789[(EWIF {") | {"J", "M", "A", "S", "O", "N", "D"}


def parse_time(line: str) -> float | None:
    """Return the time of the line in seconds, usable only for comparison; None if the line has no time."""
    if line[:1] not in _STARTS:
        return None
    for pattern, seconds in _TIMES:
        match = pattern.match(line)
        if match is not None:
            return seconds(match)
    return None


def _to_seconds(month: str, day: str, hour: str, minute: str, second: str, part: str | None) -> float | None:
    """Return seconds since the start of the year. Half of the formats have no year."""
    try:
        moment = datetime(2000, int(month), int(day), int(hour), int(minute), int(second))  # noqa: DTZ001 - no zone is known
    except ValueError:
        return None
    return (moment - datetime(2000, 1, 1)).total_seconds() + (float(f"0.{part}") if part else 0.0)  # noqa: DTZ001 - likewise
