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

from fanout.model import answers, schema
from fanout.model.actions import Inspect
from fanout.model.container_events import MachineExamined
from fanout.model.errors import LauncherError, UsageError
from fanout.model.events import (
    MAIN_STREAM,
    ActionSent,
    Answered,
    Chunk,
    Connecting,
    Event,
    StreamOpened,
)
from fanout.model.run_info import RunInfo
from fanout.model.schema import Integer, InvalidValue, ListOf, MapOf, Nullable, Number, Text, TupleOf
from fanout.model.state import HostState, InvalidTransition, Phase, RunState, apply_event
from fanout.record.event_json import decode_event, read_attempt_keys
from fanout.record.paths import LogFileNames

_PIECE = 1 << 20
_MOST_RANKS = 1 << 24
_MOST_ATTEMPTS = 1 << 20
_LONGEST = 16 << 20  # bytes of one line
_HINT = "give the log directory of a run; `fanout ps` lists runs"
_NAME = Text(4096)
_RUN: dict[str, Any] = {
    "t": Number(0, 1e12), "run": Text(200), "title": Text(), "name?": Text(200), "hosts": ListOf(_NAME, least=1), "metric?": Nullable(Text()),
    "attempt?": Integer(0, _MOST_ATTEMPTS), "max_restarts?": Integer(0, _MOST_ATTEMPTS),
    "restarts_used?": Integer(0, _MOST_ATTEMPTS), "cause?": Text(), "ranks": MapOf(TupleOf((Integer(0, _MOST_RANKS), Nullable(Integer(0, _MOST_RANKS))))),
}  # fmt: skip
_HOST = {"host": _NAME, "verdict": Text(80), "reason": Text(), "left": Nullable(Integer(0))}
_GAP = {"file": Text(4096), "start": Integer(0), "end": Integer(0), "why": Text(), "records": Integer(0)}
_RESULT: dict[str, Any] = {
    "exit_code": Integer(0, 255), "headline": Text(), "first": Nullable(_NAME), "hosts": ListOf(_HOST), "origin?": Text(80), "stopped_why?": Text(),
    "problems?": ListOf(_GAP),
}  # fmt: skip


def reopen_host(host: HostState) -> HostState:
    """Return a host that an earlier launcher gave up in the phase WAITING, so that a later launcher can try it again."""
    return replace(host, phase=Phase.WAITING, trouble=None) if host.phase is Phase.LOST else host


def apply_recorded_event(state: RunState, event: Event) -> RunState:
    """Return the state after a recorded event; if the event cannot follow because of a gap, return the same state.

    Several launchers may have written the record. A later one (the guardian, ``fanout stop``) may try a host again
    that an earlier one gave up.
    """
    try:
        if isinstance(event, Connecting):
            state = replace(state, hosts={**state.hosts, event.host: reopen_host(state.hosts[event.host])})
        return apply_event(state, event)
    except (InvalidTransition, KeyError):
        return state


class RunReader:
    """Run directory, opened for reading. The constructor reads ``heading``; the events are read on request.

    Raises UsageError if the directory has no valid record.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._damage: dict[str, None] = {}  # descriptions of invalid records, each once
        first = next(self._iter_records(), None)
        if first is None or first.get("type") != "run":
            raise UsageError(f"{path}: no record of a run", hint=_HINT)
        try:
            schema.check_value(_RUN, first)
        except InvalidValue as error:
            raise UsageError(f"{path}/events.jsonl: its first line is damaged: {error}", hint=_HINT) from None
        self.began_at = float(first["t"])
        self.metric = str(first.get("metric") or "")  # the user's --metric pattern
        self.heading = RunInfo(
            run_id=first["run"],
            title=first["title"],
            name=first.get("name", ""),
            hosts=tuple(first["hosts"]),
            log_dir=path,
            attempt=read_attempt_keys(first),
            ranks={host: (rank[0], rank[1]) for host, rank in first["ranks"].items()},
        )

    @property
    def damage_message(self) -> str:
        """Return a message about the invalid records skipped so far; "" if there are none."""
        if not self._damage:
            return ""
        count = f"{len(self._damage)} damaged records are" if len(self._damage) > 1 else "1 damaged record is"
        return f"{self.path}/events.jsonl: {count} skipped ({next(iter(self._damage))})"

    @property
    def has_outcome(self) -> bool:
        """Return whether the record contains the outcome of the run."""
        return os.path.exists(os.path.join(self.path, "result.json"))

    def iter_events(self) -> Iterator[Event]:
        """Yield all events in order, with bytes from the log files; a gap from a full disk gives zeros."""
        reader, at = _RecordDecoder(self.path, self.heading.hosts, self._damage), self.began_at
        for event in self._decode_records(reader):
            at = event.at
            yield event
        if not reader.over:
            yield from reader.iter_unrecorded_chunks(at)

    def iter_recorded_events(self) -> Iterator[Event]:
        """Yield only the events in the record, for a launcher that continues to write it."""
        yield from self._decode_records(_RecordDecoder(self.path, self.heading.hosts, self._damage))

    def iter_states(self) -> Iterator[tuple[Event, RunState]]:
        """Yield each event with the state after it; skip an event that cannot follow because of a gap."""
        state = RunState.initial(self.heading.hosts, at=self.began_at)
        for event in self.iter_events():
            before, state = state, apply_recorded_event(state, event)
            if state is not before:
                yield event, state

    def follow_events(self, *, reads_log: bool = True) -> Iterator[Event | None]:
        """Yield all events in order, also future ones; yield None while there is no further event yet.

        None also comes once after the events that existed at the call. Otherwise a fast-growing record had no such mark.
        Unless it ``reads_log``, chunks have no bytes.
        """
        reader = _RecordDecoder(self.path, self.heading.hosts, self._damage, reads_log=reads_log)
        with open(os.path.join(self.path, "events.jsonl"), "rb") as file:
            rest, before = b"", os.fstat(file.fileno()).st_size
            while True:
                line = rest + file.readline(_LONGEST)
                if not line.endswith(b"\n"):
                    rest = line if len(line) < _LONGEST else b""
                    yield None
                    continue
                rest = b""
                event = reader.decode_record(_parse_line(line))
                if event is not None:
                    yield event
                if before and file.tell() >= before:
                    before = 0
                    yield None

    def read_result(self) -> Mapping[str, Any] | None:
        """Return the outcome from result.json; None if it is missing or invalid."""
        try:
            with open(os.path.join(self.path, "result.json"), "rb") as file:
                result: Mapping[str, Any] = schema.parse_json(file.read(_LONGEST), _RESULT)
        except (OSError, InvalidValue):
            return None
        return result

    def _decode_records(self, reader: _RecordDecoder) -> Iterator[Event]:
        for record in self._iter_records():
            event = reader.decode_record(record)
            if event is not None:
                yield event

    def _iter_records(self) -> Iterator[dict[str, Any]]:
        path = os.path.join(self.path, "events.jsonl")
        try:
            with open(path, "rb") as file:
                while line := file.readline(_LONGEST):
                    record = _parse_line(line)
                    if record:
                        yield record
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", hint="give the log directory of a run") from error


class _RecordDecoder:
    """Decoder of records, in order. It tracks the file names and the bytes that the record covers."""

    def __init__(self, path: str, hosts: tuple[str, ...], damage: dict[str, None], *, reads_log: bool = True) -> None:
        self._path = path
        self._reads_log = reads_log
        self._hosts = hosts
        self._damage = damage
        self._asked: dict[tuple[str, int], str] = {}  # (host, number) of each question -> its kind
        self._names = LogFileNames(hosts)
        self._covered = {(host, MAIN_STREAM): 0 for host in hosts}
        self.over = False  # the record has an end

    def decode_record(self, record: Mapping[str, Any]) -> Event | None:
        """Decode a record; return None if it is not an event or is invalid. Raises LauncherError if its log is missing."""
        self.over = self.over or record.get("type") == "end"
        try:
            event = self._validate_event(decode_event(record, self._read_bytes)) if record else None
        except OSError as error:
            raise LauncherError(f"{self._path}: the record of the run is damaged: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            self._damage[f"{str(record.get('type'))[:20]} at {str(record.get('t'))[:20]}: {str(error)[:120]}"] = None
            return None
        if isinstance(event, StreamOpened):
            self._names.set_name(event.host, event.stream, event.name)
            self._covered.setdefault((event.host, event.stream), 0)
        elif isinstance(event, Chunk):
            key = (event.host, event.stream)
            self._covered[key] = max(self._covered.get(key, 0), event.offset + len(event.data))
        return event

    def _validate_event(self, event: Event | None) -> Event | None:
        """Return the event with a validated answer. Raises InvalidValue if its host is not part of the run."""
        name = event.action.host if isinstance(event, ActionSent) else getattr(event, "host", None)
        if name is not None and name not in self._hosts:
            raise InvalidValue("host", f"{name[:40]!r} is not a host of this run")
        match event:
            case ActionSent(action=Inspect() as question):
                self._asked[question.host, question.ask] = question.what
            case Answered() if (event.host, event.ask) in self._asked and not event.error:
                value, error = answers.check_answer(self._asked[event.host, event.ask], event.value)
                return replace(event, value=value, error=error)
            case MachineExamined(error=""):
                value, error = answers.check_answer("aftermath", event.value)
                return replace(event, value=value, error=error)
            case _:
                pass
        return event

    def iter_unrecorded_chunks(self, at: float) -> Iterator[Chunk]:
        """Yield the bytes of the log files that the record does not cover: it is written slightly later."""
        for (host, stream), offset in self._covered.items():
            try:
                with open(os.path.join(self._path, self._names.get_path(host, stream)), "rb") as file:
                    file.seek(offset)
                    while data := file.read(_PIECE):
                        yield Chunk(at=at, host=host, stream=stream, offset=offset, data=data)
                        offset += len(data)
            except FileNotFoundError:
                continue  # the stream has no output

    def _read_bytes(self, host: str, stream: int, offset: int, length: int) -> bytes:
        if not self._reads_log:
            return b""
        with open(os.path.join(self._path, self._names.get_path(host, stream)), "rb") as file:
            return os.pread(file.fileno(), length, offset).ljust(length, b"\0")


def _parse_line(line: bytes) -> dict[str, Any]:
    """Parse a line; return {} if it is not a JSON object, because a full disk or a killed launcher cut it off."""
    try:
        record: dict[str, Any] = schema.parse_json(line, {})
    except InvalidValue:
        return {}
    return record
