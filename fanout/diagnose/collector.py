"""Evidence collector: read every event of a run and keep the evidence in bounded memory.

Bytes without a known word cost one search. Only bytes that may contain evidence are split into lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fanout.diagnose import failure_facts, torchrun_lines
from fanout.diagnose.evidence import Evidence, LogMatch, ProcessExit, StackSnapshot
from fanout.diagnose.flight_dumps import DumpCollection
from fanout.diagnose.host_answers import HostAnswers
from fanout.diagnose.host_history import HostContacts
from fanout.diagnose.launcher_absence import LauncherAbsence
from fanout.diagnose.signatures import (
    DETAILED,
    GENERIC,
    REPEATS,
    WEAK,
    Signature,
    SignatureSet,
    extract_fields,
    fill_template,
    load_builtin,
)
from fanout.diagnose.stream_evidence import (
    OpenMatch,
    OpenMessage,
    RankKey,
    StreamState,
    build_tail,
    check_progress,
    check_step,
    freeze_match,
    has_open_message,
    read_message_line,
    split_prefix,
)
from fanout.diagnose.torchrun_lines import TorchrunParser
from fanout.diagnose.tracebacks import NEEDLES, Traceback
from fanout.diagnose.world import plan_ranks
from fanout.logs import rank_prefix
from fanout.logs.line_splitter import LIMIT, LineBuffer, split_file_lines
from fanout.logs.prefilter import digest_chunk, strip_digits
from fanout.model.actions import Inspect
from fanout.model.events import ActionSent, Answered, Chunk, Connected, Event, MachineExamined, StreamOpened
from fanout.model.state import RunState

LONGEST_LINE = LIMIT
KEEP_EACH = 3  # matches of one signature by one rank of one stream
_ALIKE = 400  # compared characters of two texts
KEEP_ALL = 400  # matches of one stream
_ALSO = tuple(strip_digits(word.encode()) for word in (*NEEDLES, *torchrun_lines.NEEDLES))


class EvidenceCollector:
    """Event subscriber that collects evidence; ``build_evidence`` works at any time."""

    broken = False

    def __init__(
        self,
        hosts: tuple[str, ...],
        *,
        ranks: Mapping[str, tuple[int, int | None]] | None = None,
        book: SignatureSet | None = None,
        file_of: Callable[[str, int], str] = lambda host, stream: host,
        name_file: Callable[[str, int, str], None] = lambda host, stream, name: None,
        error: float = 0.25,
        live: bool = True,
    ) -> None:
        self.hosts = hosts
        self.ranks = dict(ranks or {})
        self.gpus: dict[str, tuple[str, ...]] = {}  # host -> ids, in the order of its processes
        self._addresses: dict[str, set[str]] = {host: {host} for host in hosts}
        self._logged: dict[str, frozenset[int]] = {}
        self._book = book or load_builtin()
        self._file_of, self._name_file = file_of, name_file
        self._error, self._live = error, live
        self._streams: dict[tuple[str, int], StreamState] = {}
        self._links = HostContacts()
        self._absence = LauncherAbsence()
        self._asked: dict[tuple[str, int], str] = {}
        self._stands: dict[tuple[str, int], StackSnapshot] = {}
        self.dumps = DumpCollection()
        self._answers = HostAnswers(self._book)

    def __call__(self, event: Event, state: RunState) -> None:
        self.add_event(event)

    def add_event(self, event: Event) -> None:
        """Process one event."""
        self._absence.add_event(event)
        self._links.add_event(event)
        match event:
            case Chunk():
                self.add_bytes(event.host, event.data, at=event.at, stream=event.stream)
            case StreamOpened():
                self._name_file(event.host, event.stream, event.name)  # before the first use of the file name
                where = self._get_stream(event.host, event.stream)
                where.rank, where.err = rank_prefix.parse_stream_rank(event.name), event.name.endswith(" err")
            case ActionSent(action=Inspect() as question):
                self._asked[question.host, question.ask] = question.what
            case Answered() if (event.host, event.ask) in self._asked and isinstance(event.value, Mapping):
                self._store_answer(event.host, self._asked[event.host, event.ask], event.value, event.at)
            case MachineExamined() if isinstance(event.value, Mapping):
                self._answers.add_machine(event.host, event.value, event.at)
            case Connected():
                self._answers.note_connection(event.host, event.hello)
                names = (event.hello.get("hostname"), event.hello.get("peer"))
                for name in names:
                    self.add_addresses({event.host: str(name)} if name else {})
            case _:
                pass

    def _store_answer(self, host: str, what: str, value: Mapping[str, Any], at: float) -> None:
        """Store the answer of a host; a later stack of a process replaces an earlier one."""
        entries = value.get("ranks") if what == "stacks" else value.get("stacks")
        container = self._answers.containers.get(host, "")
        for stand in failure_facts.parse_stacks(host, entries, value.get("ends"), container=container):
            before = self._stands.get((host, stand.pid))
            if before is not None and stand.moved is None and stand.frames == before.frames:
                stand = replace(stand, moved=before.moved)  # one sample shows no movement
            self._stands[host, stand.pid] = stand
        if what == "aftermath":
            self._answers.add_answer(host, value, at, self._links.find_boot_id(host))
            if isinstance(value.get("flights"), list):
                self.dumps.add_dumps(host, value["flights"])
            for address in failure_facts.list_addresses(value):
                self.add_addresses({host: address})

    def add_addresses(self, addresses: Mapping[str, str]) -> None:
        """Add host -> a name or address by which other hosts may name it."""
        for host, address in addresses.items():
            self._addresses.setdefault(address, set()).add(host)

    def add_ranks(self, host: str, ranks: Iterable[int]) -> None:
        """Add ranks whose lines are in the logs of a host, also those without any evidence."""
        self._logged[host] = self._logged.get(host, frozenset()) | {*ranks}

    def note(self, text: str) -> None:
        """Ignore a note: messages of the launcher are no evidence."""

    def close(self) -> None:
        """Keep everything: there is nothing to close."""

    def add_bytes(self, host: str, data: bytes, *, at: float, stream: int = 0) -> None:
        """Process bytes of a stream that arrived at a time."""
        where = self._get_stream(host, stream)
        where.last.add_bytes(data, at)
        begun = where.unread.unfinished
        block = where.unread.add_bytes(data)
        if not block:
            return
        seam = block[: block.find(b"\n", len(begun)) + 1 or None] if begun else b""  # a word may be cut in two
        if self._may_matter(where, data) or self._may_matter(where, seam):
            self._read_lines(where, block, at)
        elif where.watched:
            check_progress(where, block, at)
        where.ended += digest_chunk(data).ends
        where.number = where.ended

    def set_rank(self, host: str, stream: int, *, rank: int | None = None, local: int | None = None) -> None:
        """Set the rank of a stream, by its global or its local number."""
        where = self._get_stream(host, stream)
        where.rank, where.local = rank, local

    def add_time_error(self, host: str, seconds: float) -> None:
        """Record that the times of this host may be wrong by so many seconds."""
        self._links.add_time_error(host, seconds)

    def add_line(self, host: str, text: str, *, at: float, number: int, stream: int = 0) -> None:
        """Process one line of a file, with its number."""
        where = self._get_stream(host, stream)
        where.number = where.ended = number
        where.last.add_bytes(text.encode("utf-8", "replace") + b"\n", at)
        self._read_line(where, text, at)

    def skip_bytes(self, host: str, data: bytes, *, at: float, stream: int = 0) -> None:
        """Keep only the end of bytes without evidence, and the progress that they show."""
        where = self._get_stream(host, stream)
        where.last.add_bytes(data, at)
        check_progress(where, data, at)
        where.ended += data.count(b"\n")

    def may_contain_evidence(self, host: str, data: bytes, stream: int = 0) -> bool:
        """Return whether these bytes may contain evidence."""
        return self._may_matter(self._get_stream(host, stream), data)

    def build_evidence(self) -> Evidence:
        """Return the evidence collected so far."""
        for where in self._streams.values():
            if where.unread.unfinished:
                self._read_lines(where, where.unread.unfinished, self._links.heard.get(where.host, 0.0))
                where.unread = LineBuffer()
        deaths = [death for where in self._streams.values() for death in where.torchrun.deaths.values()]
        bases = {host: ranks[0] for host, ranks in plan_ranks(self.ranks).items() if ranks}
        bases |= {d.host: d.rank - d.local_rank for d in deaths if d.rank is not None and d.local_rank is not None}
        sightings = [
            replace(freeze_match(seen, bases, self._book), trailing=where.ended - seen.sighting.line)
            for where in self._streams.values()
            for seen in where.seen
        ] + self._answers.proofs
        sightings += self._find_unlogged(bases)
        return Evidence(
            hosts=self.hosts,
            ranks=self.ranks,
            gpus=dict(self.gpus),
            logged=dict(self._logged),
            sightings=tuple(sorted(sightings, key=lambda each: (each.at, each.file, each.line))),
            deaths=tuple(
                sorted((_assign_rank(death, bases) for death in deaths), key=lambda each: (each.at, each.line))
            ),
            ends=dict(self._links.ends),
            addresses={name: next(iter(hosts)) for name, hosts in self._addresses.items() if len(hosts) == 1},
            gaps=dict(self._links.gaps),
            silences=self._links.disconnections,
            rebooted=dict(self._links.rebooted),
            tails=tuple(build_tail(where, bases) for where in self._streams.values()),
            away=self._absence.seconds,
            stands=tuple(self._stands.values()),
            flights=tuple(self.dumps.flights.values()),
            looked=frozenset(self.dumps.looked) if self._live else frozenset(),
            notes=(*self._answers.iter_notes(), *self.dumps.unread),
            containers=dict(self._answers.containers),
            error=self._error,
            live=self._live,
        )

    def _get_stream(self, host: str, stream: int) -> StreamState:
        where = self._streams.get((host, stream))
        if where is None:
            file = self._file_of(host, stream)
            where = self._streams[host, stream] = StreamState(host, file, TorchrunParser(host, file))
        return where

    def _may_matter(self, where: StreamState, data: bytes) -> bool:
        if where.tracebacks.is_busy or where.torchrun.is_reading or has_open_message(where):
            return True
        text = digest_chunk(data).text
        return any(needle in text for needle in _ALSO) or self._book.may_match(data)

    def _read_lines(self, where: StreamState, data: bytes, at: float) -> None:
        for number, text in split_file_lines(data, limit=LONGEST_LINE):
            where.number = where.ended + number + 1
            self._read_line(where, text, at)

    def _read_line(self, where: StreamState, text: str, at: float) -> None:
        body, who = split_prefix(where, text)
        where.torchrun.parse_line(body, at, where.number)
        if where.torchrun.is_restart(body):
            where.forget_attempt()
        check_step(where, who, body, at)
        who = where.torchrun.current_rank or who
        inside, named = where.tracebacks.add_line(who, body, where.number)
        if named is not None:
            self._add_exception(where, who, named, at)
        elif not inside:
            found = self._book.match_line(body)
            if not read_message_line(where, who, found, body) and found is not None:
                self._add_match(where, who, found[0], extract_fields(found[1]), body, at)

    def _add_exception(self, where: StreamState, who: RankKey, block: Traceback, at: float) -> None:
        """Store the exception that a traceback ended with."""
        reported = where.torchrun.current_rank is not None
        if reported and self._is_logged(where.host, who[0], block.last):
            return  # torchrun quotes an error that the rank itself logged
        where.seen = [seen for seen in where.seen if seen.block is not block]  # that match only carried this exception
        where.watched = [seen for seen in where.watched if seen.block is not block]
        if block.local is not None and who == (None, None):
            who = (None, block.local)
        found = self._book.match_exception(block.last)
        if block.owner is not None and who[0] not in (None, block.owner):
            return  # an error of another rank, which this one only prints
        if found is not None:
            if block.owner is not None and who[0] is None:
                who, block.is_quoted = (block.owner, None), True
            self._add_match(where, who, *found, block.last, at, block)

    def _find_unlogged(self, bases: Mapping[str, int]) -> list[LogMatch]:
        """Return the errors that are in error files and in no stream."""
        found = [
            each
            for host, (value, at) in self._answers.answers.items()
            for each in failure_facts.parse_error_files(host, value, at, self._book, bases.get(host))
        ]
        return [each for each in found if not self._is_logged(each.host, each.rank, each.text)]

    def _is_logged(self, host: str, rank: int | None, text: str) -> bool:
        """Return whether the rank, or an unknown rank of its host, logged the text; for rank None, whether any rank did."""
        seen = (each.sighting for where in self._streams.values() if where.host == host for each in where.seen)
        alike = (each for each in seen if each.text[:_ALIKE] == text.strip()[:_ALIKE])
        return any(rank is None or each.rank in (None, rank) for each in alike)

    def _add_match(
        self,
        where: StreamState,
        who: RankKey,
        signature: Signature,
        fields: dict[str, str],
        text: str,
        at: float,
        block: Traceback | None = None,
    ) -> None:
        if signature.role == "noise" or len(where.seen) >= KEEP_ALL:
            return
        if block is None and signature.id == GENERIC and not _is_bare_exception(text):
            return
        count = where.counts.get((who, signature.id), 0)
        if count >= (KEEP_EACH if block is None else 2 * KEEP_EACH):  # warnings do not displace the exception
            return
        if where.began and signature.role == "root":
            where.forget_earlier_attempt()
        where.counts[who, signature.id] = count + 1
        speaker = rank_prefix.parse_number(fields.get("speaker") or fields.get("speaker2"))
        rank = speaker if who[0] is None else who[0]
        sighting = LogMatch(
            at=at,
            host=where.host,
            rank=rank,
            signature=signature.id,
            role=signature.role,
            kind=signature.kind,
            says=fill_template(signature.says, fields),
            advice=fill_template(signature.advice, fields),
            text=text.strip(),
            fields=fields,
            file=where.file,
            line=where.number,
            reported=where.torchrun.current_rank is not None,
        )
        seen = OpenMatch(sighting, who, block, before=where.find_last_step(who))
        where.seen.append(seen)
        where.watched.append(seen)
        if signature.id in WEAK | REPEATS | DETAILED:
            where.messages[who] = OpenMessage(seen, where.number)


def _assign_rank(death: ProcessExit, bases: Mapping[str, int]) -> ProcessExit:
    if death.rank is None and death.local_rank is not None and death.host in bases:
        return replace(death, rank=bases[death.host] + death.local_rank)
    return death


def _is_bare_exception(text: str) -> bool:
    """Return whether the line is only an exception. A log line about an exception does not count."""
    return not text.startswith((" ", "\t"))
