"""State of one log stream in the evidence collector: its matches, and open tracebacks and messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fanout.diagnose import shapes
from fanout.diagnose.evidence import Sighting
from fanout.diagnose.lastlines import LastLines, Tail
from fanout.diagnose.signatures import GENERIC, REPEATS, WEAK, Found, fields_of, filled
from fanout.diagnose.torchrun import Torchrun
from fanout.diagnose.tracebacks import Block, Tracebacks

SURVIVED_SECONDS = 10.0
MESSAGE_LINES = 12  # of one exception, after the line that names it
MESSAGE_SPAN = 200  # lines of its stream in which they come

Who = tuple[int | None, int | None]  # (global rank, local rank), as far as the line tells


@dataclass(slots=True)
class Seen:
    """A match that may still change: its traceback grows, or the run continues after it."""

    sighting: Sighting
    who: Who
    block: Block | None = None
    steps: int = 0
    reached: int = -1


@dataclass(slots=True)
class Message:
    """An exception with a message of several lines; a later line may contain the reason."""

    seen: Seen
    number: int  # of the line that names the exception
    left: int = MESSAGE_LINES


@dataclass(slots=True)
class Stream:
    """State of one stream; ``number`` counts its lines."""

    host: str
    file: str
    torchrun: Torchrun
    rank: int | None = None
    local: int | None = None
    err: bool = False  # the standard error of a rank
    last: LastLines = field(default_factory=LastLines)
    tracebacks: Tracebacks = field(default_factory=Tracebacks)
    rest: bytes = b""
    number: int = 0
    seen: list[Seen] = field(default_factory=list)
    watched: list[Seen] = field(default_factory=list)
    messages: dict[Who, Message] = field(default_factory=dict)
    counts: dict[tuple[Who, str], int] = field(default_factory=dict)


def go_on(where: Stream, who: Who, text: str, at: float) -> None:
    """Drop the matches of a rank that continues to log growing step numbers: they were no cause."""
    number = shapes.progress(text)
    if number is None:
        return
    for seen in [seen for seen in where.watched if seen.who == who]:
        if number > seen.reached:
            seen.steps, seen.reached = seen.steps + 1, number
        enough = at - seen.sighting.at >= SURVIVED_SECONDS or seen.steps >= 200
        if seen.steps >= 3 and enough:
            where.watched.remove(seen)
            where.seen.remove(seen)
            where.counts[who, seen.sighting.signature] -= 1


def explains(where: Stream, who: Who, found: Found | None, text: str) -> bool:
    """Handle a further line of an exception's message; return whether it belongs to the exception.

    The line may contain the reason (``Last error:``, an ``EI…`` code). The match then gets the signature of that
    line, because a general library error may be a cause or the error of a victim.
    """
    message = where.messages.get(who)
    if message is None:
        return False
    message.left -= 1
    if message.left <= 0 or shapes.logged(text):
        del where.messages[who]
        return False
    seen = message.seen
    repeats = seen.sighting.signature in REPEATS
    if not repeats and shapes.raised(text):
        del where.messages[who]  # another exception, perhaps of another rank: it counts for itself
        return False
    if seen.block is not None:
        seen.block.lines.append(text)
    if found is None or found[0].role in ("noise", "proof", "stated"):
        return False
    if repeats or found[0].id in WEAK:
        return True
    if seen.sighting.signature == GENERIC and found[0].role != "root":
        return False  # a later line does not turn a user's exception into the error of a victim
    signature, fields = found[0], fields_of(found[1])
    seen.sighting = replace(
        seen.sighting, signature=signature.id, role=signature.role, kind=signature.kind, fields=fields,
        says=filled(signature.says, fields), advice=filled(signature.advice, fields),
    )  # fmt: skip
    del where.messages[who]
    return True


def pending(where: Stream) -> bool:
    """Return whether further lines of a message may follow; drop overdue messages."""
    if where.messages:
        where.messages = {
            who: each for who, each in where.messages.items() if where.number < each.number + MESSAGE_SPAN
        }
    return bool(where.messages)


def tail_of(where: Stream, bases: Mapping[str, int]) -> Tail:
    """Build the tail of a stream as a value."""
    rank = where.rank
    if rank is None and where.local is not None and where.host in bases:
        rank = bases[where.host] + where.local
    return Tail(host=where.host, rank=rank, err=where.err, at=where.last.at, lines=where.last.lines(rank))


def frozen(seen: Seen, bases: Mapping[str, int]) -> Sighting:
    rank, (_, local) = seen.sighting.rank, seen.who
    if rank is None and local is not None and seen.sighting.host in bases:
        rank = bases[seen.sighting.host] + local
    return replace(seen.sighting, rank=rank, traceback=tuple(seen.block.lines) if seen.block else ())
