"""Prefix shapes: learn what stands before the text of every line, from lines whose text begins with a known word.

A known word begins a line of torch, Python or a shell (``[rank3]:``, ``Traceback``, ``train.sh: line 3:``). What stands
before it is one example of the prefix: words, and separators that are the same in every line. The shape counts if most
lines of the file have it. A column of words names the host if it fits the ranks: a rank writes on one host only. No I/O.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fanout.logs import glog
from fanout.logs.rank_prefix import has_rank
from fanout.model.frozen import frozen

MOST_SHAPES = 4  # tools write lines of several shapes, such as syslog with and without a process id
FEWEST_LINES = 3
SHARE = 0.7  # of the lines that have one of the shapes; a launcher's own lines have none
WIDEST = 200
_KNOWN = re.compile(
    r"^\[Rank \d{1,9}\] |\[(?:rank|default|trainer|worker|role)\d{1,9}\]:|Traceback \(most recent call last\)"
    rf"|(?<![A-Za-z0-9]){glog.HEAD} "
    r"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] \[[A-Z]{4,8}\] \[|(?<![\w./-])[\w./-]{1,100}: line \d{1,9}: "
)
_TOKEN = re.compile(r"(?P<word>[A-Za-z0-9_.-]+)|(?P<space>\s+)|(?P<mark>[^A-Za-z0-9_.\s-]+)")
_RANK = re.compile(r"\[rank(\d{1,9})\]:")
_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"\d{1,9}$")
_RANK_NAME = re.compile(r"(?i)(?<!local_)(?<!local)rank$")
_RANK_WORD = re.compile(r"(?i)(?:global_?)?rank[_-]?\d{1,9}")
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_NAME = re.compile(r"(?=.{0,252}[A-Za-z])[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_NUMBERED = re.compile(r"\d|-[a-z]$")  # gpu01, node-b
_FILE_ENDING = re.compile(r"\.(?:log|out|err|txt)$")
_CLOCK = re.compile(r"\d{4}-\d\d(?:-\d\d)?(?:T\d\d)?|T?\d\d(?:\.\d{1,9})?(?:Z|ms|s)?|\d{8}T?\d{0,6}Z?")
_CODE = re.compile(r"\.(?:py|pyx|cpp|cc|cu|c|h|hpp|go|rs|java|sh)$")
_NUMBERED_WORDS = frozenset(("rank", "local_rank", "localrank", "python", "python.", "gpu:", "step", "epoch", "iter"))
#: Words of a prefix that are no host: levels, streams, the tags of a container runtime, days, months, programs.
_NO_HOSTS = frozenset(
    "debug info information warn warning error err critical crit fatal trace notice log level "
    "d i w e f p stdout stderr stdin out console std rank local global node host worker trainer default main mainprocess "
    "root train training python python3 torchrun kernel systemd am pm utc gmt cet cst jst kst est edt pst pdt "
    "mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec".split()
)


@frozen
class PrefixShape:
    """One shape: its pattern with a group per word, and the place of the host among the words, or None.

    Spaces between the prefix and the text are not part of the pattern, because the text may begin with spaces. The text
    begins at ``column`` if it does so in every line, else after ``spaces`` characters.
    """

    pattern: re.Pattern[str]
    column: int | None
    spaces: int
    host: int | None = None
    rank: int | None = (
        None  # place of the rank among the words: `rank3`, or a number behind a word that ends with `rank`
    )
    hosts: frozenset[str] = frozenset()  # names in the lines of the sample
    masks: frozenset[str] = frozenset()  # these names with 0 for each number

    def split(self, line: str) -> tuple[str, str] | None:
        """Return (host or "", text without the prefix); None if the line has another shape."""
        match = self.pattern.match(line)
        if match is None:
            return None
        begin = match.end()
        end = begin + self.spaces if self.column is None or self.column < begin else self.column
        while end > begin and line[begin:end].strip():
            end -= 1
        text = line[end:]
        if self.rank is not None and (rank := _NUMBER.search(match[self.rank + 1])) and not has_rank(text):
            text = f"[rank{rank[0]}]: {text}"
        if self.host is None:
            return "", text
        host = _FILE_ENDING.sub("", match[self.host + 1])
        if host not in self.hosts and _mask_numbers(host) not in self.masks:
            return None
        return host, text


def learn_shapes(lines: Sequence[str], *, hosts: bool = True, own_host: str = "") -> tuple[PrefixShape, ...]:
    """Return the shapes of the prefixes of these lines; none if the lines have no common prefix.

    Without ``hosts`` no column names a host. A word that is the same in every line, such as the name of a logger, is a
    host only if it is an address or ``own_host``, the host of the file; "" if that is not known. A progress bar rewrites
    its line, so only the first state has the prefix.
    """
    lines = [line.rstrip("\r\n")[:2000].partition("\r")[0] for line in lines if line.strip()]
    if len(lines) < FEWEST_LINES:
        return ()
    examples: dict[str, list[str]] = {}
    for line in lines:
        if (found := _KNOWN.search(line)) is not None:
            prefix = line[: found.start()]
            examples.setdefault(_build_pattern(prefix), []).append(prefix)
    ranked = sorted(examples, key=lambda text: -len(examples[text]))
    if not ranked or ranked[0] == "":
        return ()
    patterns = {text: re.compile(text) for text in ranked[:MOST_SHAPES] if text}
    if sum(any(pattern.match(line) for pattern in patterns.values()) for line in lines) < SHARE * len(lines):
        return ()
    return tuple(
        _build_shape(pattern, examples[text], lines, own_host if hosts else None) for text, pattern in patterns.items()
    )


class ShapeSplitter:
    """Splitter of the lines of one file, for one pass over them.

    A line without the prefix continues the one above it, such as the traceback below the record of a logger.
    """

    def __init__(self, shapes: Sequence[PrefixShape]) -> None:
        self._shapes = shapes
        self._host = ""

    def __call__(self, line: str) -> tuple[str, str]:
        """Return (host or "", text)."""
        for shape in self._shapes:
            found = shape.split(line)
            if found is not None:
                self._host = found[0]
                return found
        return self._host, line


def _build_pattern(prefix: str) -> str:
    """Return the pattern of a prefix; "" without one. Every word becomes a group, separators stay as they are."""
    if not prefix.strip() or len(prefix) > WIDEST:
        return ""
    parts: list[str] = []
    for token in _TOKEN.finditer(prefix.rstrip()):
        if token["word"]:
            parts.append(r"(\d{1,19})" if token["word"].isdigit() else r"([A-Za-z0-9_.-]{1,253})")
        elif token["space"]:
            parts.append(r"\t" if "\t" in token["space"] else " {0,40}" if token.start() == 0 else " {1,40}")
        else:
            parts.append(re.escape(token["mark"]))
    return "".join(parts)


def _build_shape(
    pattern: re.Pattern[str], examples: Sequence[str], lines: Sequence[str], own_host: str | None
) -> PrefixShape:
    """Return the shape with the begin of its text, and with its host column, if a column fits."""
    widths = {len(example) for example in examples}
    shape = PrefixShape(
        pattern=pattern,
        column=widths.pop() if len(widths) == 1 else None,
        spaces=min(len(example) - len(example.rstrip()) for example in examples),
    )
    matches = [match for line in lines if (match := pattern.match(line))]
    shape = replace(shape, rank=_find_rank_column(matches))
    places = range(pattern.groups) if own_host is not None else ()
    columns = [column for column in places if _may_be_host(column, matches, own_host or "")]
    varied = [column for column in columns if len({match[column + 1] for match in matches}) > 1]
    if not columns:
        return shape
    column = min(varied or columns, key=lambda each: not all(_ADDRESS.fullmatch(match[each + 1]) for match in matches))
    values = Counter(_FILE_ENDING.sub("", match[column + 1]) for match in matches)
    known = {value for value, count in values.items() if count > 1 or len(values) == 1}
    return replace(shape, host=column, hosts=frozenset(known), masks=frozenset(map(_mask_numbers, known)))


def _find_rank_column(matches: Sequence[re.Match[str]]) -> int | None:
    """Return the place of the rank in the prefix; None without one."""
    for column in range(len(matches[0].groups()) if matches else 0):
        if all(_RANK_WORD.fullmatch(match[column + 1]) for match in matches):
            return column
        named = column > 0 and all(_RANK_NAME.search(match[column]) for match in matches)
        if named and all(match[column + 1].isdigit() for match in matches):
            return column
    return None


def _may_be_host(column: int, matches: Sequence[re.Match[str]], own_host: str) -> bool:
    """Return whether the words of a column are names of hosts, and each rank has only one of them."""
    values = [match[column + 1] for match in matches]
    if not values or len(set(values)) > max(2, len(values) // 2):
        return False
    if not all(is_host_name(value) for value in set(values)) or _is_program(matches[0], column):
        return False
    if len(set(values)) == 1 and not _ADDRESS.fullmatch(values[0]):
        plain = not _NUMBERED.search(values[0])
        if values[0] != own_host and (own_host or plain):
            return False
    ranks: dict[str, set[str]] = {}
    for match, value in zip(matches, values, strict=True):
        if (rank := _RANK.search(match.string, match.end() - 1)) is not None:
            ranks.setdefault(rank[1], set()).add(value)
    return all(len(names) == 1 for names in ranks.values())


def is_host_name(value: str) -> bool:
    """Return whether the word may be the name of a host: no level, time, rank, program or file of the code."""
    plain = value.casefold().strip("._-")
    if (
        plain in _NO_HOSTS
        or _CLOCK.fullmatch(value)
        or _CODE.search(value)
        or _DIGITS.sub("", plain) in _NUMBERED_WORDS
    ):
        return False
    return bool(_ADDRESS.fullmatch(value) or _NAME.fullmatch(value))


def _is_program(match: re.Match[str], column: int) -> bool:
    """Return whether a process id in brackets follows the word: ``python3[301]:``."""
    return re.match(r"\[\d{1,9}\]", match.string[match.end(column + 1) : match.end(column + 1) + 12]) is not None


def _mask_numbers(text: str) -> str:
    return _DIGITS.sub("0", text)
