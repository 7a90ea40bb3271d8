"""Traceback assembler: join the lines of each traceback in a stream in which several ranks may alternate.

A chain ("During handling of the above exception …") is one traceback. Its first exception counts, because Python
prints the first one first. An exception may carry the traceback of another process (a data loader worker, a rank of
``mp.spawn``). Both are one traceback, and the carried exception counts. A syntax error of the program itself has no
head line. Folding keeps the frames of user code.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from fanout.text.units import count_noun

HEAD = "Traceback (most recent call last)"
_LINKS = ("During handling of the above exception", "The above exception was the direct cause")
_FILE = '  File "'
_HEADLESS = re.compile(r'  File "[^"]{1,1024}", line \d{1,9}$')  # of a syntax error, before the program runs
_CARRIED = re.compile(r"Original Traceback|-- Process (?P<local>\d{1,9}) terminated with the following error")
_IGNORED = "Exception ignored "  # Python prints the traceback and continues
_OWNER = re.compile(
    r" {0,4}\(RANK (?P<rank>\d{1,9})\)\s*$"
)  # torch.distributed.checkpoint prints errors of other ranks
NEEDLES = (HEAD, *_LINKS, "terminated with the following error", _FILE, _IGNORED)
_LAST = re.compile(r"[A-Za-z_][\w.]*(?:\([\w.]{1,100}\))?(?::|$)")  # Ray adds a second name in parentheses
_FRAME = re.compile(r'\s*File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?')
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python\d|<frozen |/bin/torchrun")
_REPORTED = re.compile(r"\s*traceback\s*: $")  # torchrun's summary of a rank that left an error file
_REPORT_MARGIN = 2
_LONGEST = 400
_WIDEST_PREFIX = 120
_DIGIT = re.compile(r"\d")
_FOREIGN = 8


@dataclass(slots=True)
class Traceback:
    """One traceback, possibly of several exceptions. ``last`` is the line that names the exception that counts.

    ``local`` is the local rank of the process whose traceback it carries, ``owner`` the rank that a head line names.
    """

    lines: list[str] = field(default_factory=list)
    last: str = ""
    number: int = 0
    carried: bool = False  # the traceback of another process follows, and its exception counts
    local: int | None = None
    owner: int | None = None
    is_quoted: bool = False  # the process that printed it may be another rank than its owner
    ignored: bool = False
    _margin: int = 0
    _prefix: str = ""  # a tool's prefix of every line, with 0 for each digit
    _foreign: int = 0


class TracebackAssembler:
    """Assembler of one stream; ``who`` is any key that separates its ranks."""

    def __init__(self) -> None:
        self._open: dict[Hashable, Traceback] = {}
        self._closed: dict[Hashable, Traceback] = {}
        self._linked: set[Hashable] = set()
        self._ignored: set[Hashable] = set()

    @property
    def is_busy(self) -> bool:
        """Return whether the assembler needs every line."""
        return bool(self._open or self._closed)

    def add_line(self, who: Hashable, text: str, number: int) -> tuple[bool, Traceback | None]:
        """Return whether the line is part of a traceback, and the block of which it names the exception that counts."""
        head = text.find(HEAD)
        if head < 0 and who not in self._open and _FILE in text and (plain := _HEADLESS.search(text)):
            head = plain.start()
        if head >= 0:
            self._open_traceback(who, text, head)
            return True, None
        block = self._open.get(who)
        if block is None:
            if text.startswith(_IGNORED):
                self._ignored.add(who)
            return self._read_after(who, text), None
        margin = text[: block._margin]
        body = text[block._margin :] if not margin.strip() or _mask_digits(margin) == block._prefix else text
        if not body.strip() or body[0] in " \t":
            if len(block.lines) < _LONGEST:
                block.lines.append(body)
            return True, None
        if not _LAST.match(body):
            block._foreign += 1
            if block._foreign > _FOREIGN:
                del self._open[who]
            return False, None
        block.lines.append(body)
        del self._open[who]
        self._closed[who] = block
        if block.last and not block.carried:
            return True, None
        block.carried = False
        block.last, block.number = body, number
        return True, None if block.ignored else block

    def _open_traceback(self, who: Hashable, text: str, head: int) -> None:
        closed = self._closed.pop(who, None)
        carries = closed is not None and (closed.carried or text[:head].strip() == "Original")
        block = closed if carries or who in self._linked else None
        self._linked.discard(who)
        if block is not None and carries:
            block.carried = True
            head = max(0, text.find("Original", 0, head)) if "Original" in text[:head] else head
        block = block or Traceback(ignored=who in self._ignored)
        self._ignored.discard(who)
        if (owner := _OWNER.match(text, head + len(HEAD) + 1)) is not None:
            block.owner = int(owner["rank"])
        before = text[:head]
        block._prefix = "" if not before.strip() or len(before) > _WIDEST_PREFIX else _mask_digits(before)
        block._margin = (
            _REPORT_MARGIN if _REPORTED.match(before) else head if not before.strip() or block._prefix else 0
        )
        block.lines.append(text[head:])
        self._open[who] = block

    def _read_after(self, who: Hashable, text: str) -> bool:
        """Handle a line after a traceback; return whether it belongs to it or links to a further one."""
        block = self._closed.get(who)
        if block is None or not text.strip():
            return block is not None
        if text.strip().startswith(_LINKS):
            block.lines.append(text.strip())
            self._linked.add(who)
            return True
        carried = _CARRIED.match(text.strip())
        if carried is not None:
            block.lines.append(text.strip())
            block.carried = True
            block.local = int(carried["local"]) if carried["local"] else None
            return True
        del self._closed[who]
        self._linked.discard(who)
        return False


def _mask_digits(prefix: str) -> str:
    """Return a prefix with 0 for each digit, because the time in it changes from line to line."""
    return _DIGIT.sub("0", prefix)


def fold_frames(lines: Sequence[str]) -> tuple[str, ...]:
    """Replace the library frames of a traceback with ``… 11 frames in torch folded``."""
    out: list[str] = []
    hidden: list[str] = []

    def flush() -> None:
        if hidden:
            whose = ", ".join(dict.fromkeys(_parse_package(path) for path in hidden))
            out.append(f"  … {count_noun(len(hidden), 'frame')} in {whose} folded")
            hidden.clear()

    inside = False
    for line in lines:
        frame = _FRAME.match(line)
        if frame is not None:
            inside = bool(_LIBRARY.search(frame["path"]))
            if inside:
                hidden.append(frame["path"])
                continue
        elif not line.startswith((" ", "\t")):
            inside = False
        if inside or not line.strip() or set(line.strip()) <= set("^~"):
            continue
        flush()
        out.append(line)
    flush()
    return tuple(out)


def _parse_package(path: str) -> str:
    match = re.search(r"/(?:site|dist)-packages/([^/]+)", path)
    return match[1].removesuffix(".py") if match else "python"
