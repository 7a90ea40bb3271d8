"""Names of log files: the host, the rank and the local rank of a file. No I/O: paths in, values out.

A name has words between dots, dashes and underscores. Words that name the content of the file, a job or a date stand
before or after the host. Names of hosts have dots and dashes too, so only words at both ends are removed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from fanout.model.frozen import frozen


@frozen
class LogSource:
    """One log file: its path, its host, and the rank or local rank if it belongs to one process."""

    path: str
    host: str
    rank: int | None = None
    local: int | None = None


_ENDING = re.compile(
    r"\.(?:log|out|err|txt|stdout|stderr|output|error|gz|bz2|xz|zst|[oe]\d{2,12})(?:\.\d{1,9})?$", re.IGNORECASE
)  # `.o4412` and `.e4412` are those of PBS and SGE
_RANK = re.compile(
    r"(?:^|[._-])(?P<local>local[._-]?)?rank[._-]?(?P<number>\d{1,9})(?:[._-](?:out|err|attempt[._-]?\d{1,9}))*(?=$|[._-])",
    re.IGNORECASE,
)
_LOCAL = re.compile(r"(?:^|/)attempt_\d{1,9}/(\d{1,9})(?:/|$)")  # torchrun's folders
_ADDRESS = re.compile(r"(?:^|(?<=[^\d.]))\d{1,3}(?:\.\d{1,3}){3}(?=$|[^\d.]|\.[A-Za-z])")
_NUMBERED = re.compile(r"[A-Za-z][A-Za-z-]{0,60}\d[A-Za-z0-9-]{0,60}")
_WORD = re.compile(r"[^._-]+")
#: Words at the ends of a name that are no part of the host: the content of the file, the program, a scheduler.
_CONTENT = frozenset(
    "dmesg kern kernel journal journalctl syslog messages train training console nvidia smi bug report log logs out err "
    "stdout stderr std output error errors torchrun run main nohup slurm lsf pbs sge host describe previous events".split()
)
_STREAMS = frozenset(("", "std", "stdout", "stderr", "out", "err", "log", "logs"))
_DATE = re.compile(r"\d{4}[._-]\d{2}[._-]\d{2}(?:[T._-]?\d{2}[._:-]?\d{2}(?:[._:-]?\d{2})?)?|\d{8}T?\d{0,6}Z?")
_SCHEDULED = re.compile(r"^(?:slurm|job|lsf|pbs|sge)[._-]?\d{1,12}[._-]", re.IGNORECASE)
#: Names of files and folders that are no hosts: what schedulers, torchrun and people call a log of several hosts.
_GENERIC = re.compile(
    r"^(?:task\d+|slurm.*|job.*|std\w+|host|hosts|torchelastic_.*|none_.*|attempt_\d+|[\d_.-]+|all|combined|merged|mixed"
    r"|compose|syslog|messages|journal|kern|dmesg|driver|head|logs?|outputs?|errors?|out|err|nohup|train(?:ing)?|console"
    r"|main|run|torchrun|tmp|home|var|data|work|mnt|runs?)$",
    re.IGNORECASE,
)


def is_generic_name(name: str) -> bool:
    """Return whether a name of a file is not that of a host, or only an address, for which a report may have a name."""
    return bool(_GENERIC.match(name))


def read_host_name(name: str) -> str:
    """Return the host of a file by its name; "" if the name is not that of a host."""
    return "" if is_generic_name(name) and not _ADDRESS.match(name) else name


def choose_host_name(name: str, reported: str) -> str:
    """Return the host that torchrun reports, or the address in the name of its file if torchrun knows no better name."""
    return name if read_host_name(name) and reported.partition(".")[0] == "localhost" else reported


def identify_files(paths: Sequence[str]) -> tuple[LogSource, ...]:
    """Return host and rank of each file. If the name is generic (stdout.log, 0/), use the folder name."""
    stems = _strip_common_prefix({path: _read_stem(PurePath(path).name) for path in paths})
    common = Counter(stems.values())
    several = len({str(PurePath(path).parent) for path in paths}) > 1
    out = []
    for path in paths:
        host = stems[path]
        if not read_host_name(host) or _LOCAL.search(path) or (common[host] > 1 and several):
            host = _find_distinct_folder(path, paths) or ("host" if host.casefold() in _STREAMS else host)
        rank, local = _read_ranks(path)
        out.append(LogSource(path=path, host=host, rank=rank, local=local))
    return tuple(out)


def _read_ranks(path: str) -> tuple[int | None, int | None]:
    """Return rank and local rank from the name of the file or of its folder."""
    folder = _LOCAL.search(path)
    local = int(folder[1]) if folder else None
    for name in (PurePath(path).name, PurePath(path).parent.name):
        found = _RANK.search(_strip_endings(name))
        if found is not None:
            number = int(found["number"])
            return (None, number) if found["local"] else (number, local)
    return None, local


def _read_stem(name: str) -> str:
    """Return the part of a file name that may be a host; the name without its endings if no part may be one."""
    name = _RANK.sub("", _strip_endings(name)).strip("._-[]()")
    if (address := _ADDRESS.search(name)) is not None:
        return address[0]
    stem = _SCHEDULED.sub("", _DATE.sub("", name.rpartition("=")[2])).strip("._-")
    words = list(_WORD.finditer(stem))
    while len(words) > 1 and _is_no_host(words[0][0], first=True):
        words.pop(0)
    while len(words) > 1 and _is_no_host(words[-1][0], first=False):
        words.pop()
    stem = stem[words[0].start() : words[-1].end()] if words else ""
    numbered = [part for part in stem.split("_") if _NUMBERED.fullmatch(part)]
    if len(numbered) == 1:  # an underscore is no part of a host name: `pretrain_gpu07`
        return numbered[0]
    return stem if any(char.isalpha() for char in stem) else name


def _is_no_host(word: str, *, first: bool) -> bool:
    """Return whether a word at an end of a name is no part of a host: a trailing number may be one (``node-03``)."""
    return word.casefold() in _CONTENT or (word.isdigit() and (first or len(word) > 5))


def _strip_endings(name: str) -> str:
    while _ENDING.search(name):
        name = _ENDING.sub("", name)
    return name


def _strip_common_prefix(stems: dict[str, str]) -> dict[str, str]:
    """Remove the common prefix of all names: ``exp.gpu01`` and ``exp.gpu02`` become gpu01 and gpu02."""
    split = {path: stem.split(".") for path, stem in stems.items() if not _ADDRESS.match(stem)}
    while len(split) > 1 and all(len(parts) > 1 for parts in split.values()):
        rests = [parts[1] for parts in split.values()]
        if len({parts[0] for parts in split.values()}) > 1 or not all(any(map(str.isalpha, rest)) for rest in rests):
            break
        split = {path: parts[1:] for path, parts in split.items()}
    return stems | {path: ".".join(parts) for path, parts in split.items()}


def _find_distinct_folder(path: str, paths: Sequence[str]) -> str:
    """Return the first folder name in which this path differs from the others; "" if no folder may be a host."""
    mine, others = _list_folders(path), [_list_folders(other) for other in paths]
    for at, part in enumerate(mine):
        if any(len(other) <= at or other[at] != part for other in others):
            return part
    return read_host_name(mine[-1]) if mine else ""


def _list_folders(path: str) -> tuple[str, ...]:
    """Return the folders above a file that may be hosts: not torchrun's, and not those of a rank or a job."""
    clean = _LOCAL.split(path)[0] if _LOCAL.search(path) else str(PurePath(path).parent)
    return tuple(part for part in PurePath(clean).parts if part not in (".", "/") and _read_folder(part))


def _read_folder(part: str) -> bool:
    return not (part.isdigit() or _RANK.fullmatch(part))
