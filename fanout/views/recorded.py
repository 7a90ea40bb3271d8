"""A run's directory read again: its heading and its events, byte for byte as they came.

``fanout report``, ``logs``, ``replay`` and ``attach`` show a recorded run by giving these events to the same views.
A record may end in the middle of a line (the launcher was killed, or still writes) or lack one (its disk was full):
what is whole counts. Bytes that reached a log file and are not in the record yet come at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fanout.errors import LauncherError, UsageError
from fanout.events import MAIN_STREAM, Chunk, Dialling, Event, StreamOpened
from fanout.state import HostState, ImpossibleMove, Phase, RunState, advance
from fanout.views.base import Heading
from fanout.views.filenames import FileNames
from fanout.views.record import decode

_PIECE = 1 << 20


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
        first = next(self._records(), None)
        if first is None or first.get("type") != "run":
            raise UsageError(f"{path}: no record of a run", hint="name a run's log directory; `fanout ps` lists runs")
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
    def ended(self) -> bool:
        """Is the outcome known?"""
        return os.path.exists(os.path.join(self.path, "result.json"))

    def events(self) -> Iterator[Event]:
        """All events in order; the bytes come from the log files, zeros where a full disk left a hole."""
        reader, at = _Reader(self.path, self.heading.hosts), self.began_at
        for event in self._read(reader):
            at = event.at
            yield event
        if not reader.over:
            yield from reader.beyond(at)

    def written(self) -> Iterator[Event]:
        """Those that the record tells, for whoever goes on writing it where it stops."""
        yield from self._read(_Reader(self.path, self.heading.hosts))

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
        reader = _Reader(self.path, self.heading.hosts)
        with open(os.path.join(self.path, "events.jsonl"), "rb") as file:
            rest, before = b"", os.fstat(file.fileno()).st_size
            while True:
                line = rest + file.readline()
                if not line.endswith(b"\n"):
                    rest = line
                    yield None
                    continue
                rest = b""
                event = reader.event(_loaded(line.decode("utf-8", "replace")))
                if event is not None:
                    yield event
                if before and file.tell() >= before:
                    before = 0
                    yield None

    def result(self) -> Mapping[str, Any] | None:
        """The outcome as it was written down; None while there is none."""
        try:
            with open(os.path.join(self.path, "result.json"), encoding="utf-8") as file:
                result = json.load(file)
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) else None

    def _read(self, reader: _Reader) -> Iterator[Event]:
        for record in self._records():
            event = reader.event(record)
            if event is not None:
                yield event

    def _records(self) -> Iterator[dict[str, Any]]:
        path = os.path.join(self.path, "events.jsonl")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                yield from filter(None, map(_loaded, file))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", hint="name a run's log directory") from error


class _Reader:
    """Makes events of records, in their order; knows what the files are called and how far the record covers them."""

    def __init__(self, path: str, hosts: tuple[str, ...]) -> None:
        self._path = path
        self._names = FileNames(hosts)
        self._covered = {(host, MAIN_STREAM): 0 for host in hosts}
        self.over = False  # the record has an end

    def event(self, record: Mapping[str, Any]) -> Event | None:
        """None for what is no event. Raises LauncherError."""
        self.over = self.over or record.get("type") == "end"
        try:
            event = decode(record, self._bytes) if record else None
        except (OSError, KeyError, TypeError) as error:
            raise LauncherError(f"{self._path}: the record of the run is damaged: {error}") from error
        if isinstance(event, StreamOpened):
            self._names.name(event.host, event.stream, event.name)
            self._covered.setdefault((event.host, event.stream), 0)
        elif isinstance(event, Chunk):
            key = (event.host, event.stream)
            self._covered[key] = max(self._covered.get(key, 0), event.offset + len(event.data))
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


def _loaded(line: str) -> dict[str, Any]:
    """{} for what is no object: cut off by a full disk, or by the end of a launcher."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
