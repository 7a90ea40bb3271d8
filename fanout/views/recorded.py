"""Run record reader: read the heading and the events of a run directory.

``fanout report``, ``logs``, ``replay`` and ``attach`` send these events to the same views as a live run.
If the launcher was killed or still writes, the last line may be incomplete. If the disk was full, lines may be missing.
The reader uses the complete lines. Bytes in a log file that the record does not cover yet come at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fanout import answers, schema
from fanout.errors import LauncherError, UsageError
from fanout.events import MAIN_STREAM, Acted, Answered, Chunk, Dialling, Event, Examine, StreamOpened
from fanout.schema import By, Each, Invalid, Maybe, Number, Row, Text, Whole
from fanout.state import HostState, ImpossibleMove, Phase, RunState, advance
from fanout.views.base import Heading
from fanout.views.filenames import FileNames
from fanout.views.record import decode

_PIECE = 1 << 20
_MOST_RANKS = 1 << 24
_LONGEST = 16 << 20  # bytes of one line
_LISTS = "give the log directory of a run; `fanout ps` lists runs"
_NAME = Text(4096)
_RUN: dict[str, Any] = {
    "t": Number(0, 1e12), "run": Text(200), "title": Text(), "hosts": Each(_NAME, least=1), "metric?": Maybe(Text()),
    "ranks": By(Row((Whole(0, _MOST_RANKS), Maybe(Whole(0, _MOST_RANKS))))),
}  # fmt: skip
_HOST = {"host": _NAME, "verdict": Text(80), "reason": Text(), "left": Maybe(Whole(0))}
_RESULT: dict[str, Any] = {
    "exit_code": Whole(0, 255), "headline": Text(), "first": Maybe(_NAME), "hosts": Each(_HOST), "origin?": Text(80),
}  # fmt: skip


def reopened(host: HostState) -> HostState:
    """Return a host that an earlier launcher gave up in the phase WAITING, so that a later launcher can try it again."""
    return replace(host, phase=Phase.WAITING, trouble=None) if host.phase is Phase.LOST else host


def after(state: RunState, event: Event) -> RunState:
    """Return the state after a recorded event; if the event cannot follow because of a gap, return the same state.

    Several launchers may have written the record. A later one (the guardian, ``fanout stop``) may try a host again
    that an earlier one gave up.
    """
    try:
        if isinstance(event, Dialling):
            state = replace(state, hosts={**state.hosts, event.host: reopened(state.hosts[event.host])})
        return advance(state, event)
    except (ImpossibleMove, KeyError):
        return state


class Recorded:
    """Run directory, opened for reading. The constructor reads ``heading``; the events are read on request.

    Raises UsageError if the directory has no valid record.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._damage: dict[str, None] = {}  # descriptions of invalid records, each once
        first = next(self._records(), None)
        if first is None or first.get("type") != "run":
            raise UsageError(f"{path}: no record of a run", hint=_LISTS)
        try:
            schema.check(_RUN, first)
        except Invalid as error:
            raise UsageError(f"{path}/events.jsonl: its first line is damaged: {error}", hint=_LISTS) from None
        self.began_at = float(first["t"])
        self.metric = str(first.get("metric") or "")  # the user's --metric pattern
        self.heading = Heading(
            run_id=first["run"],
            title=first["title"],
            hosts=tuple(first["hosts"]),
            log_dir=path,
            ranks={host: (rank[0], rank[1]) for host, rank in first["ranks"].items()},
        )

    @property
    def damage(self) -> str:
        """Return a message about the invalid records skipped so far; "" if there are none."""
        if not self._damage:
            return ""
        count = f"{len(self._damage)} damaged records are" if len(self._damage) > 1 else "1 damaged record is"
        return f"{self.path}/events.jsonl: {count} skipped ({next(iter(self._damage))})"

    @property
    def ended(self) -> bool:
        """Return whether the record contains the outcome of the run."""
        return os.path.exists(os.path.join(self.path, "result.json"))

    def events(self) -> Iterator[Event]:
        """Yield all events in order, with bytes from the log files; a gap from a full disk gives zeros."""
        reader, at = _Reader(self.path, self.heading.hosts, self._damage), self.began_at
        for event in self._read(reader):
            at = event.at
            yield event
        if not reader.over:
            yield from reader.beyond(at)

    def written(self) -> Iterator[Event]:
        """Yield only the events in the record, for a launcher that continues to write it."""
        yield from self._read(_Reader(self.path, self.heading.hosts, self._damage))

    def told(self) -> Iterator[tuple[Event, RunState]]:
        """Yield each event with the state after it; skip an event that cannot follow because of a gap."""
        state = RunState.new(self.heading.hosts, at=self.began_at)
        for event in self.events():
            before, state = state, after(state, event)
            if state is not before:
                yield event, state

    def follow(self) -> Iterator[Event | None]:
        """Yield all events in order, also future ones; yield None while there is no further event yet.

        None also comes once after the events that existed at the call. Otherwise a fast-growing record had no such mark.
        """
        reader = _Reader(self.path, self.heading.hosts, self._damage)
        with open(os.path.join(self.path, "events.jsonl"), "rb") as file:
            rest, before = b"", os.fstat(file.fileno()).st_size
            while True:
                line = rest + file.readline(_LONGEST)
                if not line.endswith(b"\n"):
                    rest = line if len(line) < _LONGEST else b""
                    yield None
                    continue
                rest = b""
                event = reader.event(_loaded(line))
                if event is not None:
                    yield event
                if before and file.tell() >= before:
                    before = 0
                    yield None

    def result(self) -> Mapping[str, Any] | None:
        """Return the outcome from result.json; None if it is missing or invalid."""
        try:
            with open(os.path.join(self.path, "result.json"), "rb") as file:
                result: Mapping[str, Any] = schema.parsed(file.read(_LONGEST), _RESULT)
        except (OSError, Invalid):
            return None
        return result

    def _read(self, reader: _Reader) -> Iterator[Event]:
        for record in self._records():
            event = reader.event(record)
            if event is not None:
                yield event

    def _records(self) -> Iterator[dict[str, Any]]:
        path = os.path.join(self.path, "events.jsonl")
        try:
            with open(path, "rb") as file:
                while line := file.readline(_LONGEST):
                    record = _loaded(line)
                    if record:
                        yield record
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", hint="give the log directory of a run") from error


class _Reader:
    """Decoder of records, in order. It tracks the file names and the bytes that the record covers."""

    def __init__(self, path: str, hosts: tuple[str, ...], damage: dict[str, None]) -> None:
        self._path = path
        self._hosts = hosts
        self._damage = damage
        self._asked: dict[tuple[str, int], str] = {}  # (host, number) of each question -> its kind
        self._names = FileNames(hosts)
        self._covered = {(host, MAIN_STREAM): 0 for host in hosts}
        self.over = False  # the record has an end

    def event(self, record: Mapping[str, Any]) -> Event | None:
        """Decode a record; return None if it is not an event or is invalid. Raises LauncherError if its log is missing."""
        self.over = self.over or record.get("type") == "end"
        try:
            event = self._valid(decode(record, self._bytes)) if record else None
        except OSError as error:
            raise LauncherError(f"{self._path}: the record of the run is damaged: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            self._damage[f"{str(record.get('type'))[:20]} at {str(record.get('t'))[:20]}: {str(error)[:120]}"] = None
            return None
        if isinstance(event, StreamOpened):
            self._names.name(event.host, event.stream, event.name)
            self._covered.setdefault((event.host, event.stream), 0)
        elif isinstance(event, Chunk):
            key = (event.host, event.stream)
            self._covered[key] = max(self._covered.get(key, 0), event.offset + len(event.data))
        return event

    def _valid(self, event: Event | None) -> Event | None:
        """Return the event with a validated answer. Raises Invalid if its host is not part of the run."""
        name = event.action.host if isinstance(event, Acted) else getattr(event, "host", None)
        if name is not None and name not in self._hosts:
            raise Invalid("host", f"{name[:40]!r} is not a host of this run")
        match event:
            case Acted(action=Examine() as question):
                self._asked[question.host, question.ask] = question.what
            case Answered() if (event.host, event.ask) in self._asked and not event.error:
                value, error = answers.checked(self._asked[event.host, event.ask], event.value)
                return replace(event, value=value, error=error)
            case _:
                pass
        return event

    def beyond(self, at: float) -> Iterator[Chunk]:
        """Yield the bytes of the log files that the record does not cover: it is written slightly later."""
        for (host, stream), offset in self._covered.items():
            try:
                with open(os.path.join(self._path, self._names.of(host, stream)), "rb") as file:
                    file.seek(offset)
                    while data := file.read(_PIECE):
                        yield Chunk(at=at, host=host, stream=stream, offset=offset, data=data)
                        offset += len(data)
            except FileNotFoundError:
                continue  # the stream has no output

    def _bytes(self, host: str, stream: int, offset: int, length: int) -> bytes:
        with open(os.path.join(self._path, self._names.of(host, stream)), "rb") as file:
            return os.pread(file.fileno(), length, offset).ljust(length, b"\0")


def _loaded(line: bytes) -> dict[str, Any]:
    """Parse a line; return {} if it is not a JSON object, because a full disk or a killed launcher cut it off."""
    try:
        record: dict[str, Any] = schema.parsed(line, {})
    except Invalid:
        return {}
    return record
