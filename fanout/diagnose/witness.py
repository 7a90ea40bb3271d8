"""Evidence collector: read every event of a run and keep the evidence in bounded memory.

Bytes without a known word cost one search. Only bytes that may contain evidence are split into lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fanout.diagnose import aftermath, shapes, torchrun
from fanout.diagnose.dumps import Collected
from fanout.diagnose.evidence import Death, Evidence, Sighting, Stand
from fanout.diagnose.links import Links
from fanout.diagnose.processes import planned
from fanout.diagnose.signatures import GENERIC, REPEATS, WEAK, Book, Signature, builtin, fields_of, filled
from fanout.diagnose.streams import Message, Seen, Stream, Who, explains, frozen, go_on, pending, tail_of
from fanout.diagnose.torchrun import Torchrun
from fanout.diagnose.tracebacks import NEEDLES, Block
from fanout.events import Acted, Answered, Chunk, Event, Examine, Linked, StreamOpened, Tick
from fanout.gist import bare, gist
from fanout.state import RunState

LONGEST_LINE = 8192
KEEP_EACH = 3  # matches of one signature by one rank of one stream
_ALIKE = 400  # compared characters of two texts
KEEP_ALL = 400  # matches of one stream
_ALSO = tuple(bare(word.encode()) for word in (*NEEDLES, *torchrun.NEEDLES))


class Witness:
    """Event subscriber that collects evidence; ``evidence`` works at any time."""

    broken = False

    def __init__(
        self,
        hosts: tuple[str, ...],
        *,
        ranks: Mapping[str, tuple[int, int | None]] | None = None,
        book: Book | None = None,
        file_of: Callable[[str, int], str] = lambda host, stream: host,
        name_file: Callable[[str, int, str], None] = lambda host, stream, name: None,
        error: float = 0.25,
        live: bool = True,
    ) -> None:
        self.hosts = hosts
        self.ranks = dict(ranks or {})
        self.gpus: dict[str, tuple[str, ...]] = {}  # host -> ids, in the order of its processes
        self._addresses: dict[str, set[str]] = {host: {host} for host in hosts}
        self._book = book or builtin()
        self._file_of, self._name_file = file_of, name_file
        self._error, self._live = error, live
        self._streams: dict[tuple[str, int], Stream] = {}
        self._links = Links()
        self._away = 0.0
        self._last: float | None = None  # time of the last event
        self._ticks = False
        self._asked: dict[tuple[str, int], str] = {}
        self._stands: dict[tuple[str, int], Stand] = {}
        self.dumps = Collected()
        self._proofs: list[Sighting] = []
        self._told: dict[str, tuple[Mapping[str, Any], float]] = {}
        self._notes: dict[str, tuple[str, ...]] = {}

    def __call__(self, event: Event, state: RunState) -> None:
        self.take(event)

    def take(self, event: Event) -> None:
        """Process one event."""
        last = event.at if self._last is None else self._last
        self._ticks = self._ticks or isinstance(event, Tick)
        if self._ticks:  # a record has no ticks before a takeover, so its gaps are no absence of the launcher
            self._away = max(self._away, event.at - last)
        self._last = max(last, event.at)
        self._links.take(event)
        match event:
            case Chunk():
                self.feed(event.host, event.data, at=event.at, stream=event.stream)
            case StreamOpened():
                self._name_file(event.host, event.stream, event.name)  # before the first use of the file name
                where = self._stream(event.host, event.stream)
                where.rank, where.err = shapes.rank_of(event.name), event.name.endswith(" err")
            case Acted(action=Examine() as question):
                self._asked[question.host, question.ask] = question.what
            case Answered() if (event.host, event.ask) in self._asked and isinstance(event.value, Mapping):
                self._examined(event.host, self._asked[event.host, event.ask], event.value, event.at)
            case Linked():
                names = (event.hello.get("hostname"), event.hello.get("peer"))
                for name in names:
                    self.know({event.host: str(name)} if name else {})
            case _:
                pass

    def _examined(self, host: str, what: str, value: Mapping[str, Any], at: float) -> None:
        """Store the answer of a host; a later stack of a process replaces an earlier one."""
        entries = value.get("ranks") if what == "stacks" else value.get("stacks")
        for stand in (*aftermath.stands(host, entries), *aftermath.stands(host, value.get("ends"))):
            before = self._stands.get((host, stand.pid))
            if before is not None and stand.moved is None and stand.frames == before.frames:
                stand = replace(stand, moved=before.moved)  # one sample shows no movement
            self._stands[host, stand.pid] = stand
        if what == "aftermath":
            self._told[host] = value, at
            self._proofs += aftermath.sightings(host, value, at, self._book)
            if isinstance(value.get("flights"), list):
                self.dumps.add(host, value["flights"])
            self._notes[host] = aftermath.notes(host, value, boot_id=self._links.boot_id(host))
            for address in aftermath.addresses(value):
                self.know({host: address})

    def know(self, addresses: Mapping[str, str]) -> None:
        """Add host -> a name or address by which other hosts may name it."""
        for host, address in addresses.items():
            self._addresses.setdefault(address, set()).add(host)

    def note(self, text: str) -> None:
        """Ignore a note: messages of the launcher are no evidence."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def feed(self, host: str, data: bytes, *, at: float, stream: int = 0) -> None:
        """Process bytes of a stream that arrived at a time."""
        where = self._stream(host, stream)
        where.last.feed(data, at)
        begun, cut = where.rest, data.rfind(b"\n")
        where.rest = begun + data if cut < 0 else data[cut + 1 :]
        if len(where.rest) > LONGEST_LINE:
            where.rest, cut = b"", len(data)  # too long: drop the line
        if cut < 0:
            return
        seam = begun + data[: data.find(b"\n") + 1 or None] if begun else b""  # a word may be cut in two
        if self._worth(where, data) or self._worth(where, seam):
            self._lines(where, begun + data[:cut], at)
        else:
            where.number += gist(data).ends + (cut == len(data))
            if where.watched:
                self._go_on(where, begun + data[:cut], at)

    def name(self, host: str, stream: int, *, rank: int | None = None, local: int | None = None) -> None:
        """Set the rank of a stream, by its global or its local number."""
        where = self._stream(host, stream)
        where.rank, where.local = rank, local

    def doubt(self, host: str, seconds: float) -> None:
        """Record that the times of this host may be wrong by so many seconds."""
        self._links.doubt(host, seconds)

    def line(self, host: str, text: str, *, at: float, number: int, stream: int = 0) -> None:
        """Process one line of a file, with its number."""
        where = self._stream(host, stream)
        where.number = number
        where.last.feed(text.encode("utf-8", "replace") + b"\n", at)
        self._line(where, text, at)

    def pass_over(self, host: str, data: bytes, *, at: float, stream: int = 0) -> None:
        """Keep only the end of bytes without evidence."""
        self._stream(host, stream).last.feed(data, at)

    def worth(self, host: str, data: bytes, stream: int = 0) -> bool:
        """Return whether these bytes may contain evidence."""
        return self._worth(self._stream(host, stream), data)

    def evidence(self) -> Evidence:
        """Return the evidence collected so far."""
        for where in self._streams.values():
            rest, where.rest = where.rest, b""
            if rest:
                self._lines(where, rest, self._links.heard.get(where.host, 0.0))
        deaths = [death for where in self._streams.values() for death in where.torchrun.deaths.values()]
        bases = {host: ranks[0] for host, ranks in planned(self.ranks).items() if ranks}
        bases |= {d.host: d.rank - d.local_rank for d in deaths if d.rank is not None and d.local_rank is not None}
        sightings = [frozen(seen, bases) for where in self._streams.values() for seen in where.seen] + self._proofs
        sightings += self._unsaid(bases)
        return Evidence(
            hosts=self.hosts,
            ranks=self.ranks,
            gpus=dict(self.gpus),
            sightings=tuple(sorted(sightings, key=lambda each: (each.at, each.file, each.line))),
            deaths=tuple(sorted((_placed(death, bases) for death in deaths), key=lambda each: (each.at, each.line))),
            ends=dict(self._links.ends),
            addresses={name: next(iter(hosts)) for name, hosts in self._addresses.items() if len(hosts) == 1},
            gaps=dict(self._links.gaps),
            silences=self._links.silences,
            rebooted=dict(self._links.rebooted),
            tails=tuple(tail_of(where, bases) for where in self._streams.values()),
            away=self._away,
            stands=tuple(self._stands.values()),
            flights=tuple(self.dumps.flights.values()),
            looked=frozenset(self.dumps.looked) if self._live else frozenset(),
            notes=(*(note for notes in self._notes.values() for note in notes), *self.dumps.unread),
            error=self._error,
            live=self._live,
        )

    def _stream(self, host: str, stream: int) -> Stream:
        where = self._streams.get((host, stream))
        if where is None:
            file = self._file_of(host, stream)
            where = self._streams[host, stream] = Stream(host, file, Torchrun(host, file))
        return where

    def _worth(self, where: Stream, data: bytes) -> bool:
        if where.tracebacks.busy or where.torchrun.reading or pending(where):
            return True
        text = gist(data).text
        return any(needle in text for needle in _ALSO) or self._book.may_speak(data)

    def _go_on(self, where: Stream, data: bytes, at: float) -> None:
        """Check the end of a block without evidence for step numbers: its ranks may continue."""
        for line in data[-4096:].split(b"\n")[-16:]:
            body, who = _speaker(where, line.decode("utf-8", "replace"))
            go_on(where, who, body, at)

    def _lines(self, where: Stream, data: bytes, at: float) -> None:
        for line in data.split(b"\n"):
            where.number += 1
            for part in line.split(b"\r") if b"\r" in line else (line,):
                if part:
                    self._line(where, part[:LONGEST_LINE].decode("utf-8", "replace"), at)

    def _line(self, where: Stream, text: str, at: float) -> None:
        body, who = _speaker(where, text)
        where.torchrun.feed(body, at, where.number)
        if where.watched:
            go_on(where, who, body, at)
        who = where.torchrun.about or who
        inside, named = where.tracebacks.feed(who, body, where.number)
        if named is not None:
            self._named(where, who, named, at)
        elif not inside:
            found = self._book.look(body)
            if not explains(where, who, found, body) and found is not None:
                self._note(where, who, found[0], fields_of(found[1]), body, at)

    def _named(self, where: Stream, who: Who, block: Block, at: float) -> None:
        """Store the exception that a traceback ended with."""
        reported = where.torchrun.about is not None
        if reported and self._said(where.host, who[0], block.last):
            return  # torchrun quotes an error that the rank itself logged
        where.seen = [seen for seen in where.seen if seen.block is not block]  # that match only carried this exception
        where.watched = [seen for seen in where.watched if seen.block is not block]
        if block.local is not None and who == (None, None):
            who = (None, block.local)
        found = self._book.named(block.last)
        if found is not None:
            self._note(where, who, *found, block.last, at, block)

    def _unsaid(self, bases: Mapping[str, int]) -> list[Sighting]:
        """Return the errors that are in error files and in no stream."""
        found = [
            each for host, (value, at) in self._told.items()
            for each in aftermath.errors(host, value, at, self._book, bases.get(host))
        ]  # fmt: skip
        return [each for each in found if not self._said(each.host, each.rank, each.text)]

    def _said(self, host: str, rank: int | None, text: str) -> bool:
        """Return whether the rank, or an unknown rank of its host, logged the text."""
        seen = (each.sighting for where in self._streams.values() if where.host == host for each in where.seen)
        return any(each.text[:_ALIKE] == text.strip()[:_ALIKE] and each.rank in (None, rank) for each in seen)

    def _note(
        self,
        where: Stream,
        who: Who,
        signature: Signature,
        fields: dict[str, str],
        text: str,
        at: float,
        block: Block | None = None,
    ) -> None:
        if signature.role == "noise" or len(where.seen) >= KEEP_ALL:
            return
        if block is None and signature.id == GENERIC and not _is_last_word(text):
            return
        count = where.counts.get((who, signature.id), 0)
        if count >= KEEP_EACH:
            return
        where.counts[who, signature.id] = count + 1
        speaker = shapes.whole(fields.get("speaker") or fields.get("speaker2"))
        rank = speaker if who[0] is None else who[0]
        sighting = Sighting(
            at=at,
            host=where.host,
            rank=rank,
            signature=signature.id,
            role=signature.role,
            kind=signature.kind,
            says=filled(signature.says, fields),
            advice=filled(signature.advice, fields),
            text=text.strip(),
            fields=fields,
            file=where.file,
            line=where.number,
            reported=where.torchrun.about is not None,
        )
        seen = Seen(sighting, who, block)
        where.seen.append(seen)
        where.watched.append(seen)
        if signature.id in WEAK | REPEATS:
            where.messages[who] = Message(seen, where.number)


def _placed(death: Death, bases: Mapping[str, int]) -> Death:
    if death.rank is None and death.local_rank is not None and death.host in bases:
        return replace(death, rank=bases[death.host] + death.local_rank)
    return death


def _speaker(where: Stream, text: str) -> tuple[str, Who]:
    """Return the line without its rank prefix, and its rank: from the prefix, else from the stream."""
    body, rank, local = shapes.speaker(shapes.plain(text))
    return body, (where.rank if rank is None else rank, where.local if local is None else local)


def _is_last_word(text: str) -> bool:
    """Return whether the line is only an exception. A log line about an exception does not count."""
    return not text.startswith((" ", "\t"))
