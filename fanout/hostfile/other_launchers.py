"""Models of five other launchers' hostfile parsers. Tests compare them with the real parsers.

A reading is a tuple of (host, slots); slots is None if the launcher counts by itself. () means that it ignores the
line, None that it refuses the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fanout.hostfile.node_sets import expand_node_set, expand_ranges, split_list
from fanout.hostfile.problems import ParseError

PeerReading = tuple[tuple[str, int | None], ...] | None

_DEEPSPEED = re.compile(r"^(\S+)\s+slots=(\d+)")
_OMPI_COMMENT = re.compile(r"/\*.{0,1024}?\*/|(?:#|//).*")
_OMPI_RANK = re.compile(r"rank *\d+ *= *")
_PDSH_RANGES = re.compile(r"[^\[\]]*(?:\[[\d,-]+\][^\[\]]*)+")
_OMPI_HOST = re.compile(r"[A-Za-z0-9_.:,-]+", re.ASCII)
_OMPI_WORD = re.compile(r"([a-z][a-z_-]*) *= *([A-Za-z0-9_.-]+)(?= |$)|[A-Za-z0-9_.:,-]+(?= |$)", re.ASCII)
_OMPI_COUNT = ("slots", "cpu", "count")
_OMPI_OTHER = re.compile(
    r"(?:max[-_]slots|slots[-_]max|max[-_]count|count[-_]max|max_cpu|slot|port|username|user[-_]name)"
)


def read_deepspeed(line: str) -> PeerReading:
    """Read ``host slots=N`` at the start of the line; the rest is ignored."""
    text = line.strip()
    if not text or text.startswith("#"):
        return ()
    match = _DEEPSPEED.match(text)
    return ((match[1], int(match[2])),) if match else None


def read_openmpi(line: str) -> PeerReading:
    """Read a host with known lower-case keys; other words are skipped, other keys and characters refused."""
    text = _OMPI_COMMENT.sub("", line).replace("\t", " ").strip(" ")
    if not text or text.startswith("^"):
        return ()
    text = _OMPI_RANK.sub("", text)
    word, _, rest = text.partition(" ")
    host = word.rpartition("@")[2]
    if not _OMPI_HOST.fullmatch(host) or word.count("@") > 1 or host == "0.0.0.0":  # noqa: S104 - a name, not bound
        return None
    slots: int | None = None
    at, rest = 0, rest.strip()
    while at < len(rest):
        match = _OMPI_WORD.match(rest, at)
        if match is None:
            return None
        key, value = match[1], match[2]
        if key in _OMPI_COUNT:
            if slots is not None or not value.isdigit() or int(value) < 1:
                return None
            slots = int(value)
        elif key is not None and not _OMPI_OTHER.fullmatch(key):
            return None
        at = match.end()
        while at < len(rest) and rest[at] == " ":
            at += 1
    return ((host if host[:1].isdigit() else host.partition(".")[0], slots),)


def read_mpich(line: str) -> PeerReading:
    """Read ``host[:N]``, then only ``user=`` and ``binding=``. No count is one process; a count of 0 crashes MPICH."""
    words = line.split()
    if not words or words[0].startswith("#"):
        return ()
    if any(not word.startswith(("user=", "binding=")) for word in words[1:]):
        return None
    host, *rest = [part for part in words[0].split(":") if part] or [""]
    number = re.match(r"\d*", rest[0]) if rest else None
    count = int(number[0] or 0) if number else 1
    return ((host, count),) if count else None


def read_pdsh(line: str) -> PeerReading:
    """Read every word as a host or a range (no steps). A comment begins at any '#'; an open bracket is a letter."""
    hosts: list[str] = []
    try:
        for _, _, word in split_list(line.partition("#")[0], ", \t\r"):
            if "]" in word and not _PDSH_RANGES.fullmatch(word):
                return None
            hosts += expand_ranges(word) if "]" in word else [word] if word else []
    except ParseError:
        return None
    return tuple((host, None) for host in hosts)


def read_clush(line: str) -> PeerReading:
    """Read every word as a node set. There are no comments; unknown groups and wildcards match no host."""
    hosts: list[str] = []
    try:
        for word in line.split():
            if re.search(r"\[[^\]]*:", word):
                return None
            hosts += expand_node_set(word) if not word.startswith("@") and "*" not in word else []
    except ParseError:
        return None
    return tuple((host, None) for host in dict.fromkeys(hosts))


PEERS: dict[str, Callable[[str], PeerReading]] = {
    "DeepSpeed": read_deepspeed,
    "Open MPI": read_openmpi,
    "MPICH": read_mpich,
    "pdsh": read_pdsh,
    "clush": read_clush,
}


def detect_dialect(line: str) -> str:
    """Return the dialect of a line, by its most specific pattern."""
    return next((name for pattern, name in _MARKS if pattern.search(line)), "a bare host")


_MARKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^\s*(?:#|//|;|$)"), "a comment"),
    (re.compile(r"^\s*@include\s"), "fanout"),
    (re.compile(r"ansible_|:(?:vars|children)\]|\[\w*:"), "Ansible"),
    (re.compile(r"^\s*\[[A-Za-z_][\w.-]*\]"), "a section (Ansible, fanout)"),
    (re.compile(r"\b(?:gpus|addr|iface|env\.\w+|python|workdir|tags?|hostname)\s*=|\sspare\b|^\s*@"), "fanout"),
    (re.compile(r"\btype="), "FlagScale"),
    (re.compile(r"\b(?:max[-_]slots|port|username|cpu|count)\s*=|^\s*\^|slots\s+=|slots=\s"), "Open MPI"),
    (re.compile(r"\sslots=\d+"), "DeepSpeed, Horovod and Open MPI"),
    (re.compile(r"\s(?:user|binding)="), "MPICH"),
    (re.compile(r"\[[\d,/-]+\]"), "pdsh, Slurm and ClusterShell"),
    (re.compile(r"^\s*[^\s:\[]+:(?:[1-9]|[1-5]\d|6[0-4])(?:\s|,|$)(?<!:22)"), "MPICH"),
    (re.compile(r"^\s*\S*[\]\w.]:\d+"), "pssh"),
    (re.compile(r"^\s*\S+\s+\d+\s*$"), "Metis and MS-MPI"),
    (re.compile(r"^\s*\S+@"), "ssh"),
)
