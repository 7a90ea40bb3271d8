"""Intended differences between fanout and other launchers: the launcher, the kind, the lines, and the reason."""

from __future__ import annotations

import re
from typing import NamedTuple

THEY_REFUSE = "they refuse, we read"
WE_REFUSE = "they read, we refuse"
WE_SKIP = "they read, we see no host"
OTHERWISE = "both read, not the same"

WORD_READERS = ("pdsh", "clush")
ALL = ("DeepSpeed", "Open MPI", "MPICH", "pdsh", "clush")


class Intended(NamedTuple):
    """One intended difference; ``lines`` is searched in the line."""

    peers: tuple[str, ...]
    way: str
    lines: str
    reason: str

    def covers_line(self, peer: str, way: str, line: str) -> bool:
        return peer in self.peers and way == self.way and re.search(self.lines, line) is not None


INTENDED = (
    Intended(ALL[:1], THEY_REFUSE, r"^(?!.*slots=\d)[^/\[]", "slots= may be left out (one process per GPU) or said otherwise"),
    Intended(ALL[:1], THEY_REFUSE, r"max-slots=8 slots|slots_max=8 slots", "attributes may stand in any order"),
    Intended(ALL[:1], THEY_REFUSE, r"^[^=]*\[.*\d\]", "ranges and IPv6 without slots="),
    Intended(ALL[:3], THEY_REFUSE, r"^(//|/\*)", "// and /* */ are comments, as Open MPI has them"),
    Intended(("DeepSpeed", "Open MPI", "pdsh", "clush"), THEY_REFUSE, r"^\[lab\]", "[name] begins a section, as in Ansible"),
    Intended(ALL[:1], OTHERWISE, r"^alice@", "user@ is the ssh user, not a part of the host's name"),
    Intended(ALL[:1], OTHERWISE, r"^h\[1-3\] slots", "brackets are ranges, not a part of the host's name"),
    Intended(ALL[:1], WE_REFUSE, r"slots=(0|4x)|slots=4 slots=4", "a count is a whole number from 1, said once"),
    Intended(("Open MPI",), THEY_REFUSE, r"\[", "ranges and bracketed IPv6"),
    Intended(
        ("Open MPI",), THEY_REFUSE, r"SLOTS|\w (gpus|boards|foo|type|addr|user|ansible_host)=|env\.|type=",
        "keys in any case; keys of fanout and other dialects; unknown keys are kept with a warning",
    ),
    Intended(("Open MPI",), THEY_REFUSE, r"^a@b@c$", "the last @ counts, as for ssh: a user may be alice@corp.local"),
    Intended(("Open MPI",), THEY_REFUSE, r"ü", "a name in another script is dialled by its punycode"),
    Intended(("Open MPI",), OTHERWISE, r"^(alice@)?h1:\d", ":N is a count or a port, not a part of the host's name"),
    Intended(("Open MPI",), OTHERWISE, r"^h1, ?h2", "a comma separates hosts"),
    Intended(("Open MPI",), OTHERWISE, r"\.lab\.", "names stay whole: two hosts may share their first label"),
    Intended(("Open MPI",), WE_REFUSE, r"^h1 (alice|h2)|^mpirun", "a second word may be a host, a user or a note"),
    Intended(("Open MPI",), WE_REFUSE, r"^h1:(0|128|70000|abc)", "a count or port that is ambiguous or impossible"),
    Intended(("Open MPI",), WE_REFUSE, r"^rank ", "a rankfile is no hostfile"),
    Intended(("MPICH",), THEY_REFUSE, r"\S[ \t]+(?!user=\w+$|binding=)\S", "attributes of other dialects and inline comments"),
    Intended(("MPICH",), OTHERWISE, r"^(?![^ ]*:[1-6]?\d\b(?!\]))\S+( user=bob)?$", "no count is one process per GPU, not one; names are read"),
    Intended(("MPICH",), OTHERWISE, r"^(alice@)?h1:(22|2222)$", "22 and what is from 1024 up is a port"),
    Intended(("MPICH",), OTHERWISE, r"^(h\[1:3\]|\[?::1|fe80)", "colons of IPv6 and of Ansible's ranges are not counts"),
    Intended(("MPICH",), WE_REFUSE, r"^h1:(128|70000)$", "128 may be a count or a port; no port is above 65535"),
    Intended(("MPICH",), WE_SKIP, r"^\[lab\]", "[name] begins a section, as in Ansible"),
    Intended(("pdsh", "MPICH"), WE_REFUSE, r"^h\[1-3$", "a bracket that stays open is a slip"),
    Intended(("MPICH",), WE_REFUSE, r"^h\[(3-1)?\]", "a range that is empty or runs backwards is a slip"),
    Intended(WORD_READERS, OTHERWISE, r"=|spare", "key=value (and spare) is an attribute, not a host"),
    Intended(WORD_READERS, OTHERWISE, r" 4$", "a number after the host is its count"),
    Intended(WORD_READERS, OTHERWISE, r"^\S*[@:]|ü|\.$", "user@, :N, a closing dot and other scripts are read, not kept"),
    Intended(WORD_READERS, THEY_REFUSE, r"^h\[1:3\]|^\[::1\]|^h\[1-9/4\]|^h1, h2", "more ranges, IPv6 and spaces after commas"),
    Intended(WORD_READERS, WE_SKIP, r"^(//|/\*|#)", "these are comments"),
    Intended(("clush",), OTHERWISE, r"#", "'#' begins a comment"),
    Intended(WORD_READERS, WE_REFUSE, r"slots=(0|-1|4x|$)|slots=4 slots=4", "a count is a whole number from 1, said once"),
    Intended(("MPICH", *WORD_READERS), WE_REFUSE, r"^h1 (alice|h2)|^mpirun|^rank", "a second word is ambiguous; commands and rankfiles are none"),
    Intended(WORD_READERS, WE_REFUSE, r"^h1:(0|128|70000|abc)$", "a count or port that is ambiguous or impossible"),
    Intended(ALL, WE_REFUSE, r"^-|[;$!]|^a@b@c|^0\.0\.0\.0|^10\.0\.0$", "nothing that ssh or a shell could take for more than a name"),
    Intended(ALL, WE_REFUSE, r"^@lab$", "a group must exist"),
    Intended(ALL, WE_REFUSE, r"^\^h1$", "a host that is left out must be in the file"),
)  # fmt: skip
