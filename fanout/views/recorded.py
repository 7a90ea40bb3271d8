"""A run's directory read again: its heading and its events, byte for byte as they came.

``fanout report``, ``logs``, ``replay`` and ``attach`` show a recorded run by giving these events to the same views.
A record may end in the middle of a line (the launcher was killed, or still writes) or lack one (its disk was full):
what is whole counts. Bytes that reached a log file and are not in the record yet come at the end.
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
_LISTS = "name a run's log directory; `fanout ps` lists runs"
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
    """Return the host for a launcher that tries it again, where an earlier one gave it up."""
    return replace(host, phase=Phase.WAITING, trouble=None) if host.phase is Phase.LOST else host


def after(state: RunState, event: Event) -> RunState:
    """The state after a recorded event; the same where it cannot follow, because the record has a hole.

    A record may be that of several launchers: one gave a host up, and a later one (the guardian, ``fanout stop``) tried
    it again.
    """
    try:
        if isinstance(event, Dialling):
            state = replace(state, hosts={**state.hosts, event.host: reopened(state.hosts[event.host])})
        return advance(state, event)
    except (ImpossibleMove, KeyError):
        return state


class Recorded:
    """A run's directory. ``heading`` is read at once, the events whenever ``events`` is called."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._damage: dict[str, None] = {}  # what in the record is not as it must be, each place once
        first = next(self._records(), None)
        if first is None or first.get("type") != "run":
            raise UsageError(f"{path}: no record of a run", hint=_LISTS)
        try:
            schema.check(_RUN, first)
        except Invalid as error:
            raise UsageError(f"{path}/events.jsonl: its first line is damaged: {error}", hint=_LISTS) from None
        self.began_at = float(first["t"])
        self.metric = str(first.get("metric") or "")  # where the user said that figures are
        self.heading = Heading(
            run_id=first["run"],
            title=first["title"],
            hosts=tuple(first["hosts"]),
            log_dir=path,
            ranks={host: (rank[0], rank[1]) for host, rank in first["ranks"].items()},
        )

    @property
    def damage(self) -> str:
        """What was left out of the events read so far, for a person; "" if nothing was."""
        if not self._damage:
            return ""
        count = f"{len(self._damage)} damaged records are" if len(self._damage) > 1 else "1 damaged record is"
        return f"{self.path}/events.jsonl: {count} left out ({next(iter(self._damage))})"

    @property
    def ended(self) -> bool:
        """Is the outcome known?"""
        return os.path.exists(os.path.join(self.path, "result.json"))

    def events(self) -> Iterator[Event]:
        """All events in order; the bytes come from the log files, zeros where a full disk left a hole."""
        reader, at = _Reader(self.path, self.heading.hosts, self._damage), self.began_at
        for event in self._read(reader):
            at = event.at
            yield event
        if not reader.over:
            yield from reader.beyond(at)

    def written(self) -> Iterator[Event]:
        """Those that the record tells, for whoever goes on writing it where it stops."""
        yield from self._read(_Reader(self.path, self.heading.hosts, self._damage))

    def told(self) -> Iterator[tuple[Event, RunState]]:
        """All events, each with the state after it; one that cannot follow, because the record has a hole, is left out."""
        state = RunState.new(self.heading.hosts, at=self.began_at)
        for event in self.events():
            before, state = state, after(state, event)
            if state is not before:
                yield event, state

    def follow(self) -> Iterator[Event | None]:
        """All events in order, and those still to come: None whenever there is no further one yet.

        None comes once, too, behind what had been written before: a record that grows all the time has no other mark.
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
        """The outcome as it was written down; None while there is none."""
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
            raise UsageError(f"{path}: {error.strerror}", hint="name a run's log directory") from error


class _Reader:
    """Makes events of records, in their order; knows what the files are called and how far the record covers them."""

    def __init__(self, path: str, hosts: tuple[str, ...], damage: dict[str, None]) -> None:
        self._path = path
        self._hosts = hosts
        self._damage = damage
        self._asked: dict[tuple[str, int], str] = {}  # what each question about the run asked
        self._names = FileNames(hosts)
        self._covered = {(host, MAIN_STREAM): 0 for host in hosts}
        self.over = False  # the record has an end

    def event(self, record: Mapping[str, Any]) -> Event | None:
        """None for what is no event, or is damaged. Raises LauncherError where the log that it tells of is not there."""
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
        """The event, if it is of a host of this run and what the host answered is an answer. Raises Invalid."""
        name = event.action.host if isinstance(event, Acted) else getattr(event, "host", None)
        if name is not None and name not in self._hosts:
            raise Invalid("host", f"{name[:40]!r} is no host of this run")
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
        """What the log files hold beyond the record, which is behind them by a moment."""
        for (host, stream), offset in self._covered.items():
            try:
                with open(os.path.join(self._path, self._names.of(host, stream)), "rb") as file:
                    file.seek(offset)
                    while data := file.read(_PIECE):
                        yield Chunk(at=at, host=host, stream=stream, offset=offset, data=data)
                        offset += len(data)
            except FileNotFoundError:
                continue  # it has said nothing

    def _bytes(self, host: str, stream: int, offset: int, length: int) -> bytes:
        with open(os.path.join(self._path, self._names.of(host, stream)), "rb") as file:
            return os.pread(file.fileno(), length, offset).ljust(length, b"\0")


def _loaded(line: bytes) -> dict[str, Any]:
    """{} for what is no object of bounded size: cut off by a full disk, or by the end of a launcher."""
    try:
        record: dict[str, Any] = schema.parsed(line, {})
    except Invalid:
        return {}
    return record
