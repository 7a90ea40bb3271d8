"""State of one log stream in the evidence collector: its matches, and open tracebacks and messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os.path import basename

from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.exception_chain import assess_chain
from fanout.diagnose.last_lines import StreamTail, TailBuffer
from fanout.diagnose.signatures import (
    ABORTS,
    DETAILED,
    GENERIC,
    REPEATS,
    WEAK,
    SignatureMatch,
    SignatureSet,
    extract_fields,
    fill_template,
)
from fanout.diagnose.torchrun_lines import TorchrunParser
from fanout.diagnose.tracebacks import Traceback, TracebackAssembler
from fanout.logs import rank_prefix
from fanout.logs.line_splitter import LineBuffer, split_last_lines
from fanout.logs.metric_line import parse_growing_number
from fanout.text.sanitize import strip_escapes

SURVIVED_SECONDS = 10.0
#: Growing step numbers after an error that show, without times, that its process continues: so many if steps came before
#: the error, so many otherwise. A buffered output may be written after a traceback, but it would begin inside a line.
SURVIVED_STEPS, SURVIVED_FIRST_STEPS = 10, 200
AHEAD_STEPS = 2.0  # by which one rank of a stream may be ahead of another
_START = ("store-", "socket-", "rendezvous-")  # errors of the start: without a connection there is no step
MESSAGE_LINES = 12  # of one exception, after the line that names it
MESSAGE_SPAN = 200  # lines of its stream in which they come

_WHAT = re.compile(r"\s{0,8}what\(\): {0,4}(?P<what>\S.{0,300})")
_CURRENT = re.compile(r"Current thread 0x\w{1,20}.{0,80} \(most recent call first\):")
_FRAME = re.compile(r'\s{1,8}File "(?P<path>[^"]{1,1024})", line (?P<line>\d{1,9}) in (?P<name>\S{1,200})')

RankKey = tuple[int | None, int | None]  # (global rank, local rank), as far as the line has them


@dataclass(slots=True)
class OpenMatch:
    """A match that may still change: its traceback grows, or the run continues after it."""

    sighting: LogMatch
    who: RankKey
    block: Traceback | None = None
    steps: int = 0
    reached: float = -1.0
    before: float | None = None  # the last step that its rank had logged; None without one


@dataclass(slots=True)
class OpenMessage:
    """An exception with a message of several lines; a later line may contain the reason."""

    seen: OpenMatch
    number: int  # of the line that names the exception
    left: int = MESSAGE_LINES
    inside: bool = False  # the next line is the innermost frame of the thread that crashed


@dataclass(slots=True)
class StreamState:
    """State of one stream: ``number`` is that of the line that is read; ``ended`` counts its line ends."""

    host: str
    file: str
    torchrun: TorchrunParser
    rank: int | None = None
    local: int | None = None
    err: bool = False  # the standard error of a rank
    last: TailBuffer = field(default_factory=TailBuffer)
    tracebacks: TracebackAssembler = field(default_factory=TracebackAssembler)
    unread: LineBuffer = field(default_factory=LineBuffer)
    number: int = 0
    ended: int = 0
    seen: list[OpenMatch] = field(default_factory=list)
    watched: list[OpenMatch] = field(default_factory=list)
    messages: dict[RankKey, OpenMessage] = field(default_factory=dict)
    counts: dict[tuple[RankKey, str], int] = field(default_factory=dict)
    stepped: dict[RankKey, float] = field(default_factory=dict)  # rank -> the first step that it has logged
    began: int = 0  # line at which the steps of a failed rank began again: the file holds more than one attempt

    def forget_attempt(self) -> None:
        """Drop what belongs to an attempt that torchrun restarted."""
        self.seen, self.watched, self.messages, self.counts = [], [], {}, {}
        self.torchrun.deaths.clear()

    def forget_earlier_attempt(self) -> None:
        """Drop the failures before the line at which the steps of a failed rank began again."""
        self.seen, self.watched = [
            [each for each in found if each.sighting.line >= self.began] for found in (self.seen, self.watched)
        ]
        deaths = self.torchrun.deaths
        for key in [key for key, death in deaths.items() if death.line < self.began]:
            del deaths[key]
        self.counts, self.began = {}, 0

    def find_last_step(self, who: RankKey) -> float | None:
        """Return the last step of the rank among the last lines; None if it has logged none."""
        if who not in self.stepped:
            return None
        steps = [parse_growing_number(text) for rank, text in self.last.split_lines(self.rank) if rank == who[0]]
        return next((step for step in reversed(steps) if step is not None), self.stepped[who])


def split_prefix(where: StreamState, text: str) -> tuple[str, RankKey]:
    """Return the line without its rank prefix, and its rank: from the prefix, else from the stream."""
    body, rank, local = rank_prefix.split_rank_prefix(strip_escapes(text))
    return body, (where.rank if rank is None else rank, where.local if local is None else local)


def check_progress(where: StreamState, data: bytes, at: float) -> None:
    """Check the end of a block without evidence for step numbers: its ranks may continue after an error."""
    for text in split_last_lines(data, 16 if where.watched else 1, most=4096):
        body, who = split_prefix(where, text)
        check_step(where, who, body, at)


def check_step(where: StreamState, who: RankKey, text: str, at: float) -> None:
    """Note that a rank logs steps, and drop its matches if its step numbers grow after them: they were no cause."""
    if who in where.stepped and not where.watched:
        return
    number = parse_growing_number(text)
    if number is None:
        return
    where.stepped.setdefault(who, number)
    for seen in list(where.watched):
        of_start = seen.sighting.signature.startswith(_START) and seen.before is None
        if seen.who != who and not (of_start and seen.who == (None, None)):
            continue
        if _begins_again(where, who, number, seen.before):
            where.began = where.number
        if number > seen.reached:
            seen.steps, seen.reached = seen.steps + 1, number
        needed = SURVIVED_STEPS if seen.before is not None or of_start else SURVIVED_FIRST_STEPS
        enough = at - seen.sighting.at >= SURVIVED_SECONDS or seen.steps >= needed
        if seen.steps >= 3 and enough:
            where.watched.remove(seen)
            where.seen.remove(seen)
            where.counts[seen.who, seen.sighting.signature] -= 1


def _begins_again(where: StreamState, who: RankKey, number: float, before: float | None) -> bool:
    """Return whether a rank that had logged ``before`` began again, as a loop or ``tee -a`` writes two attempts into one file.

    Lines without a rank may be of several ranks, which are not at the same step.
    """
    if before is None or number > before:
        return False
    return who[0] is not None or number <= where.stepped[who] <= before - AHEAD_STEPS


def read_message_line(where: StreamState, who: RankKey, found: SignatureMatch | None, text: str) -> bool:
    """Handle a further line of an exception's message; return whether it belongs to the exception.

    The line may contain the reason (``Last error:``, an ``EI…`` code). The match then gets the signature of that
    line, because a general library error may be a cause or the error of a victim.
    """
    message = where.messages.get(who)
    if message is None:
        return False
    message.left -= 1
    if message.left <= 0 or rank_prefix.is_log_record(text):
        del where.messages[who]
        return False
    seen = message.seen
    if _read_detail(message, text) or seen.sighting.signature in DETAILED - WEAK:
        return False
    repeats = seen.sighting.signature in REPEATS
    if not repeats and rank_prefix.is_exception(text):
        del where.messages[who]  # another exception, perhaps of another rank: it counts for itself
        return False
    if seen.block is not None:
        seen.block.lines.append(text)
    if found is None or found[0].role == "noise" or found[0].kind in ("kernel", "stated"):
        return False
    if found[0].id in ABORTS and seen.sighting.signature in DETAILED:
        return False  # the shell reports the abort that follows every uncaught C++ exception
    quoted = repeats and rank_prefix.is_exception(text)  # Ray prints the error of the task below its own
    if (repeats or found[0].id in WEAK) and not quoted:
        return True
    if quoted:
        seen.sighting = replace(seen.sighting, text=text.strip())
    if seen.sighting.signature == GENERIC and found[0].role != "root":
        seen.sighting = replace(seen.sighting, role="either")  # its message mentions the error of a victim
        return False
    signature, fields = found[0], extract_fields(found[1])
    seen.sighting = replace(
        seen.sighting,
        signature=signature.id,
        role=signature.role,
        kind=signature.kind,
        fields=fields,
        says=fill_template(signature.says, fields),
        advice=fill_template(signature.advice, fields),
    )
    del where.messages[who]
    return True


def _read_detail(message: OpenMessage, text: str) -> bool:
    """Add the detail of a crash to its match: the message of a C++ exception, or the innermost Python frame."""
    seen = message.seen
    if seen.sighting.signature not in DETAILED:
        return False
    detail = ""
    if what := _WHAT.match(text):
        detail = f": {what['what']}"
    elif message.inside and (frame := _FRAME.match(text)):
        detail = f" in {frame['name']} ({basename(frame['path'])}:{frame['line']})"
    message.inside = bool(_CURRENT.match(text))
    if detail:
        seen.sighting = replace(seen.sighting, says=seen.sighting.says + detail)
    elif text.startswith(("Thread 0x", "  File ", "Current thread 0x")):
        message.left += 1  # stacks of other threads may come before
    return bool(detail) and seen.sighting.signature not in WEAK


def has_open_message(where: StreamState) -> bool:
    """Return whether further lines of a message may follow; drop overdue messages."""
    if where.messages:
        where.messages = {
            who: each for who, each in where.messages.items() if where.number < each.number + MESSAGE_SPAN
        }
    return bool(where.messages)


def build_tail(where: StreamState, bases: Mapping[str, int]) -> StreamTail:
    """Build the tail of a stream as a value."""
    rank = where.rank
    if rank is None and where.local is not None and where.host in bases:
        rank = bases[where.host] + where.local
    return StreamTail(host=where.host, rank=rank, err=where.err, at=where.last.at, lines=where.last.split_lines(rank))


def freeze_match(seen: OpenMatch, bases: Mapping[str, int], book: SignatureSet) -> LogMatch:
    """Return the match as a value, with its rank, its traceback and the role that the traceback shows."""
    rank, (_, local) = seen.sighting.rank, seen.who
    if rank is None and local is not None and seen.sighting.host in bases:
        rank = bases[seen.sighting.host] + local
    if seen.block is None:
        return replace(seen.sighting, rank=rank, traceback=())
    match = assess_chain(seen.sighting, seen.block.lines, book)
    if seen.block.is_quoted and match.role == "root":
        match = replace(match, role="either")  # the owner may be on another host
    return replace(match, rank=rank, traceback=tuple(seen.block.lines))
