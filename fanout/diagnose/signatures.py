"""Signatures: known failure messages, read from TOML and matched line by line. One file of ``signatures/`` per program.

The search is cheap: a line is checked only if it contains a literal word of some signature, and a pattern is tried
only if one of its own words is there. The first match decides. Signatures of the user come before the built-in ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from itertools import chain
from typing import Any, Literal

from fanout.diagnose.translations import load_table, read_data_file, translate_line
from fanout.logs.prefilter import digest_chunk, strip_digits
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen

#: Part of the process that logs the message: root (it failed by itself), victim (another process failed before), either.
Role = Literal["root", "either", "victim", "noise"]
#: Of a root: kernel, end, stated. Of a victim: timeout, closed, meeting, names. docs/diagnosis.md explains them.
Kind = Literal["", "kernel", "end", "stated", "timeout", "closed", "meeting", "names"]
KINDS: Mapping[str, tuple[Kind, ...]] = {
    "root": ("", "kernel", "end", "stated"),
    "either": ("", "end"),
    "victim": ("timeout", "closed", "meeting", "names"),
    "noise": ("",),
}
#: The built-in sets in order of precedence. The sets of programs come before the general ones.
SETS = (
    "shells", "launchers", "deepspeed", "mpi", "torchrun", "ray", "slurm", "batch", "kubernetes", "hccl", "rccl", "nccl", "gloo",
    "torch-nccl", "store", "gpu", "kernel", "native", "python", "ssh", "programs", "exceptions",
)  # fmt: skip
LONGEST = 2048
GENERIC = "python-exception"  # the signature of exceptions that match no other signature
#: Signatures of exceptions with messages of several lines: a later line may decide.
WEAK = frozenset(
    {
        GENERIC,
        "dist-backend",
        "hccl-operation",
        "peer-trouble",
        "nccl-system-error",
        "nccl-cuda-error",
        "rccl-cuda-error",
        "cpp-exception",
        "cpp-library-exception",
        "hydra-termination",
    }
)


@frozen
class Signature:
    """One known message: its pattern, its role in a failure, its meaning, and advice."""

    id: str
    role: Role
    pattern: str
    words: tuple[str, ...]
    says: str
    advice: str
    sample: str
    kind: Kind = ""
    source: str = ""
    versions: str = ""

    @property
    def regex(self) -> re.Pattern[str]:
        """Return the compiled pattern. Most runs need few of them, and compiling all would delay every start."""
        return _compile_pattern(self.pattern)


#: Signatures of crashes with a detail in a later line: what() of a C++ exception, the frame of a Python crash.
DETAILED = frozenset({"cpp-exception", "cpp-library-exception", "fatal-python-error", "fatal-python-abort"})
#: Faults of a host on which its ranks wait: a cause, if the ranks of the other hosts timed out or lost a peer.
STALLS = frozenset({"kernel-hung-task", "nfs-silent", "link-down"})
#: An abort without an error of its own. A watchdog aborts its process after the error of another rank.
ABORTS = frozenset({"shell-aborted", "fatal-python-abort", "deepspeed-aborted"})
#: Signatures of a stop from outside. After another failure they are its consequence.
STOPS = frozenset(
    {"torchrun-death-signal", "torchrun-hangup", "torchrun-stop-request", "shell-terminated", "shell-hangup"}
)
#: Signatures that count only if there is no other evidence: they report an end, never its cause.
LAST_RESORTS = frozenset({"slurm-cancelled"})
#: Exceptions whose message quotes the error of another process.
REPEATS = frozenset({"ray-reports"})
SignatureMatch = tuple[Signature, "re.Match[str]"]
REMEMBERED_BYTES = 1 << 20


class SignatureSet:
    """Signatures in order of precedence. ``match_line`` runs for every line of a run, so it must be fast."""

    def __init__(self, signatures: Iterable[Signature]) -> None:
        """Note the signatures. The iterable is read at the first use, so that it may be expensive."""
        self._source = signatures
        self._behind: dict[str, tuple[int, ...]] = {}  # word -> the signatures of lines with it, for words seen so far
        self._harmless: set[bytes] = set()  # lines without digits that contain none of the words
        self._size = 0

    def prepare(self) -> None:
        """Read the signatures now, and not when the first line arrives."""
        self.may_match(b"\n")

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """Return all signatures."""
        return tuple(self._source)

    @cached_property
    def _by_id(self) -> dict[str, Signature]:
        return {signature.id: signature for signature in self.signatures}

    @cached_property
    def _words(self) -> tuple[str, ...]:
        """Return the words to search for: a word that contains another one adds nothing."""
        shortest: list[str] = []
        for word in sorted({word for signature in self.signatures for word in signature.words}, key=len):
            if not any(short in word for short in shortest):
                shortest.append(word)
        return tuple(shortest)

    @cached_property
    def _needles(self) -> tuple[bytes, ...]:
        return tuple(word.encode() for word in (*self._words, *load_table().words))

    @cached_property
    def _bare(self) -> tuple[bytes, ...]:
        return tuple({strip_digits(word) for word in self._needles})

    def __getitem__(self, name: str) -> Signature:
        return self._by_id[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_id

    def may_match(self, data: bytes) -> bool:
        """Return False if no line of these bytes can match."""
        lines = digest_chunk(data).lines - self._harmless
        if not lines:
            return False
        text = b"\n".join(lines)
        if any(needle in text for needle in self._bare):
            return any(needle in data for needle in self._needles)
        self._cache_harmless(lines, len(text))
        return False

    def _cache_harmless(self, lines: frozenset[bytes], size: int) -> None:
        if self._size + size > REMEMBERED_BYTES:
            self._harmless.clear()
            self._size = 0
        if size <= REMEMBERED_BYTES // 16:
            self._harmless |= lines
            self._size += size

    def match_line(self, text: str) -> SignatureMatch | None:
        """Return the first signature that matches the line. Only the first ``LONGEST`` characters are searched."""
        text = translate_line(text[:LONGEST])
        numbers: set[int] = set()
        for word in self._words:
            if word in text:
                numbers.update(self._find_signatures(word))
        for number in sorted(numbers):
            signature = self.signatures[number]
            match = signature.regex.search(text)
            if match:
                return signature, match
        return None

    def _find_signatures(self, word: str) -> tuple[int, ...]:
        """Return the numbers of the signatures that have this word, or a longer one that contains it."""
        if word not in self._behind:
            named = (number for number, each in enumerate(self.signatures) if any(word in mine for mine in each.words))
            self._behind[word] = tuple(named)
        return self._behind[word]

    def match_exception(self, text: str) -> tuple[Signature, dict[str, str]] | None:
        """Return the signature and fields of a line that names an exception, ``GENERIC`` if no other one matches."""
        found = self.match_line(text)
        if found is not None:
            return found[0], extract_fields(found[1])
        if GENERIC not in self:
            return None
        kind, _, message = text.partition(": ")
        return self[GENERIC], {"type": kind.rstrip(":"), "message": message}


@cache
def _compile_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def extract_fields(match: re.Match[str]) -> dict[str, str]:
    """Return the groups of the match that took part."""
    return {name: value for name, value in match.groupdict().items() if value is not None}


class _Blank(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def fill_template(text: str, fields: Mapping[str, str]) -> str:
    """Fill the fields of a match into a template of the signature; missing fields become empty."""
    try:
        return text.format_map(_Blank(fields)).replace(" ()", "").rstrip(" :")
    except (ValueError, IndexError, AttributeError):
        return text  # a user's file may contain other braces


def parse_signatures(text: str, source: str, *, trusted: bool = False) -> tuple[Signature, ...]:
    """Parse a TOML file of signatures. Raise UsageError with the file and the signature.

    The patterns of a ``trusted`` file are valid, so they are not compiled here.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        rows = tomllib.loads(text).get("signature", [])
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{source}: signatures are tables that begin with [[signature]]")
    places = (f"{source}: signature {number}" for number in range(1, len(rows) + 1))
    return tuple(_parse_signature(row, place, trusted=trusted) for row, place in zip(rows, places, strict=True))


_NEEDED = ("id", "role", "regex", "says")
_OPTIONAL = ("kind", "words", "advice", "sample", "source", "versions")
_KEYS = (*_NEEDED, *_OPTIONAL)


def _parse_signature(row: Mapping[str, Any], where: str, *, trusted: bool) -> Signature:
    where = f"{where} ({row['id']})" if "id" in row else where
    missing, unknown = [key for key in _NEEDED if key not in row], sorted(set(row) - {*_KEYS})
    if missing or unknown:
        word = f"has no {missing[0]}" if missing else f"has an unknown key {unknown[0]!r}"
        raise UsageError(f"{where} {word}", hint=f"keys: {', '.join(_KEYS)}")
    if row["role"] not in KINDS:
        raise UsageError(f"{where}: role {row['role']!r}", hint=f"one of {', '.join(KINDS)}")
    kinds = KINDS[row["role"]]
    if row.get("kind", "") not in kinds:
        named = ", ".join(filter(None, kinds))
        hint = f"a {row['role']} has one of the kinds {named}" if named else f"{row['role']} has no kind"
        raise UsageError(f"{where}: kind {row.get('kind', '')!r}", hint=hint)
    try:
        if not trusted:
            _compile_pattern(row["regex"])
    except (re.error, TypeError) as error:
        raise UsageError(f"{where}: regex: {error}") from None
    return Signature(
        id=str(row["id"]),
        role=row["role"],
        pattern=row["regex"],
        words=tuple(map(str, row.get("words", ()))) or ("",),  # no words: every line is searched
        says=str(row["says"]),
        advice=str(row.get("advice", "")),
        sample=str(row.get("sample", "")),
        kind=row.get("kind", ""),
        source=str(row.get("source", "")),
        versions=str(row.get("versions", "")),
    )


@cache
def load_builtin() -> SignatureSet:
    """Return the built-in signatures."""
    return SignatureSet(_iter_builtin())


def load_with_file(text: str, source: str) -> SignatureSet:
    """Return the user's signatures followed by the built-in ones. Raises UsageError for the user's."""
    return SignatureSet(chain(parse_signatures(text, source), _iter_builtin()))


def parse_set(name: str) -> tuple[Signature, ...]:
    """Return the signatures of one built-in set."""
    return parse_signatures(read_data_file(f"signatures/{name}.toml"), f"{name}.toml", trusted=True)


def _iter_builtin() -> Iterator[Signature]:
    return (signature for name in SETS for signature in parse_set(name))
