"""Run record writer: write every byte of every stream, every event and the outcome to the launcher's disk.

    DIR/logs/gpu01.log          the exact output of train.sh on gpu01
    DIR/logs/gpu01.rank-5.log   the exact output of rank 5, if ranks have streams of their own
    DIR/events.jsonl            all events; for bytes, their place in the logs
    DIR/result.json report.txt  the outcome, for programs and for people
    DIR/verdict.json            the diagnosis, if the run failed

Each byte is written at its own offset. If the disk is full for a while, the file has a gap, and later bytes stay in
place. ``record_gaps`` lists the gaps. A failing disk never ends a run.
"""

from __future__ import annotations

import errno
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fanout.model.errors import LauncherError
from fanout.model.events import Chunk, Event, Heartbeat, StreamOpened, Tick
from fanout.model.frozen import frozen
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.event_json import (
    VERSION,
    build_chunk_record,
    build_end_record,
    build_run_record,
    build_verdict_record,
    encode_event,
    to_json_line,
)
from fanout.record.paths import LogFileNames

OPEN_FILES = 128  # macOS allows 256 descriptors per process, and ssh needs some of them
COALESCE_SECONDS = 0.25
WAITING_BYTES = 4 << 20  # records buffered while the disk is full: hours of a quiet run, a minute of a busy one
RECORDED_BYTES = 1 << 20  # less than one acknowledgement covers, so a host never deletes bytes missing in the record


@frozen
class RecordGap:
    """Gap in a file: bytes ``start`` to ``end``, or ``records`` of events.jsonl, are not on disk, and why."""

    file: str
    start: int
    end: int
    why: str
    records: int = 0

    def __str__(self) -> str:
        if self.records:
            what = f"{self.records} records are" if self.records > 1 else "1 record is"
            return f"{self.file}: {what} missing at byte {self.start}: {self.why}"
        return f"{self.file}: bytes {self.start} to {self.end} are missing: {self.why}"


@dataclass(slots=True, kw_only=True)
class _Span:
    """Consecutive bytes of one stream that share one record."""

    at: float
    offset: int
    length: int


class RunWriter:
    """Subscriber that writes the run record. When the disk first fails, it calls ``warn`` once with a message.

    Raises LauncherError if the directory cannot be created or opened.
    """

    broken = False

    def __init__(self, path: str, heading: RunInfo, *, warn: Callable[[str], None] | None = None) -> None:
        self.path = path
        self._heading = heading
        self._warn = warn
        self._problems: list[RecordGap] = []
        self._last_problem: dict[str, int] = {}  # file -> index of its last problem in the list
        self._pending: dict[tuple[str, int], _Span] = {}
        self._pending_since: float | None = None
        self._events_size = 0
        self._waiting = bytearray()  # records that are not on the disk yet
        self._full = ""  # the error of the last write, "" after a success
        self._now = self._written_at = 0.0  # times of the newest event, and of the last write
        self._names = LogFileNames(heading.hosts)
        try:
            os.makedirs(os.path.join(path, "logs"), mode=0o700, exist_ok=True)
            os.chmod(path, 0o700)
            self._files = _LogFiles(path)
            self._events = os.open(os.path.join(path, "events.jsonl"), _FLAGS | os.O_APPEND, 0o600)
            self._events_size = os.fstat(self._events).st_size
            self._end_last_line()
        except OSError as error:
            raise LauncherError(
                f"cannot write the logs of this run to {path}: {error.strerror}",
                hint="choose another directory with --log-dir DIR",
            ) from error

    @property
    def record_gaps(self) -> tuple[RecordGap, ...]:
        """Return the gaps in the record; empty if the record is complete."""
        return tuple(self._problems)

    def get_log_path(self, host: str, stream: int = 0) -> str:
        """Return the path of a stream's log file."""
        return os.path.join(self.path, self._names.get_path(host, stream))

    def begin(self, at: float, **facts: Any) -> None:
        """Write the first record, the facts about the run; ``facts`` adds more keys (argv, version, …)."""
        self._now = at
        self._write_record(build_run_record(self._heading, at) | facts)

    def register_stream(self, event: StreamOpened) -> None:
        """Register a stream whose file name an earlier launcher of this run chose."""
        self._names.set_name(event.host, event.stream, event.name)

    def _end_last_line(self) -> None:
        """End an incomplete last line, which a launcher leaves if it is killed while it writes."""
        if self._events_size:
            with open(os.path.join(self.path, "events.jsonl"), "rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    self._events_size += os.write(self._events, b"\n")

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        if isinstance(event, Chunk):
            self._store_chunk(event)
        elif isinstance(event, Tick) or (isinstance(event, Heartbeat) and not event.load):
            if self._pending_since is not None and event.at - self._pending_since >= COALESCE_SECONDS:
                self._flush_spans()
        else:
            self._flush_spans()
            if isinstance(event, StreamOpened):
                self._names.set_name(event.host, event.stream, event.name)
            record = encode_event(event)
            if record is not None:
                self._write_record(record, at_once=not isinstance(event, Heartbeat))

    def note(self, text: str) -> None:
        """Record a message of the launcher."""
        self._flush_spans()
        self._write_record({"v": VERSION, "t": self._now, "type": "note", "text": text})

    def finish(self, outcome: RunOutcome, text: str, verdict: Mapping[str, Any] | None = None) -> None:
        """Write ``result.json`` and ``report.txt``, and the verdict into the record."""
        self._flush_spans()
        if verdict is not None:
            self._write_record(build_verdict_record(verdict, self._now))
        self._write_record(build_end_record(outcome, self._now))
        self._flush_buffer()
        problems = [asdict(problem) for problem in self._problems]
        result = {"v": VERSION, "run": self._heading.run_id, "title": self._heading.title, **asdict(outcome)}
        self.write_file("result.json", json.dumps(result | {"problems": problems}, indent=2) + "\n")
        self.write_file("report.txt", text if text.endswith("\n") else text + "\n")

    def close(self) -> None:
        self._flush_spans()
        self._flush_buffer()
        self._files.close()
        if self._events >= 0:
            os.close(self._events)
            self._events = -1

    def _store_chunk(self, chunk: Chunk) -> None:
        name = self._names.get_path(chunk.host, chunk.stream)
        done, error = self._files.write(name, chunk.offset, chunk.data)
        if error is not None:
            self._add_gap(name, chunk.offset + done, chunk.offset + len(chunk.data), error)
        key = (chunk.host, chunk.stream)
        span = self._pending.get(key)
        if span is not None and span.offset + span.length == chunk.offset:
            span.at, span.length = chunk.at, span.length + len(chunk.data)
        else:
            if span is not None:
                self._flush_spans()
            self._pending[key] = _Span(at=chunk.at, offset=chunk.offset, length=len(chunk.data))
        if self._pending_since is None:
            self._pending_since = chunk.at
        if self._pending[key].length >= RECORDED_BYTES or chunk.at - self._pending_since >= COALESCE_SECONDS:
            self._flush_spans()

    def _flush_spans(self) -> None:
        """Record the places of the bytes since the last flush. It precedes any other record, so times ascend."""
        for (host, stream), span in sorted(self._pending.items(), key=lambda item: item[1].at):
            self._write_record(build_chunk_record(host, stream, at=span.at, offset=span.offset, length=span.length))
        self._pending.clear()
        self._pending_since = None

    def _write_record(self, record: Mapping[str, Any], *, at_once: bool = True) -> None:
        """Write a record, unless it can wait for others. If the disk is full, buffer up to WAITING_BYTES; drop more.

        Many hosts report their load, and one write for each would cost more than all the rest of the record.
        """
        line = (to_json_line(record) + "\n").encode()
        if len(self._waiting) + len(line) > WAITING_BYTES:
            self._drop_records(1)
        else:
            self._waiting += line
        if at_once or self._now - self._written_at >= COALESCE_SECONDS:
            self._write_buffer()

    def _write_buffer(self) -> None:
        self._written_at = self._now
        try:
            done = os.write(self._events, self._waiting)
            self._full = "" if done == len(self._waiting) else os.strerror(errno.ENOSPC)
            self._events_size += done
            del self._waiting[:done]
        except OSError as error:
            self._full = error.strerror or str(error)
        if self._full:
            self._warn_once("events.jsonl", self._full)

    def _drop_records(self, records: int) -> None:
        self._add_gap("events.jsonl", self._events_size, self._events_size, self._full, records=records)

    def _flush_buffer(self) -> None:
        """Write the buffered records; drop them if the disk is still full."""
        if self._waiting:
            self._write_buffer()
        if self._waiting:
            self._drop_records(self._waiting.count(b"\n"))
            self._waiting.clear()

    def write_file(self, name: str, text: str) -> None:
        """Write a small separate file into the run directory."""
        path = os.path.join(self.path, name)
        try:
            with open(os.open(path, _FLAGS | os.O_TRUNC, 0o600), "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except OSError as error:
            self._add_gap(name, 0, len(text), error.strerror or str(error))

    def _add_gap(self, file: str, start: int, end: int, why: str, *, records: int = 0) -> None:
        """Add a gap to ``record_gaps``; if it continues the last gap of the file, extend that one."""
        self._warn_once(file, why)
        place = self._last_problem.get(file)
        last = self._problems[place] if place is not None else None
        if place is not None and last is not None and (last.end, last.why) == (start, why):
            self._problems[place] = replace(last, end=end, records=last.records + records)
            return
        self._last_problem[file] = len(self._problems)
        self._problems.append(RecordGap(file=file, start=start, end=end, why=why, records=records))

    def _warn_once(self, file: str, why: str) -> None:
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(
                f"cannot write to {os.path.join(self.path, file)}: {why}; the run continues, but its record may have gaps"
            )


_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class _LogFiles:
    """Log files by name, written at offsets. Only the most recently used files stay open."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._open: OrderedDict[str, int] = OrderedDict()

    def write(self, name: str, offset: int, data: bytes) -> tuple[int, str | None]:
        """Write ``data`` at ``offset``; return the number of bytes written, and the error or None."""
        done = 0
        try:
            descriptor = self._get_descriptor(name)
            while done < len(data):
                done += os.pwrite(descriptor, data[done:] if done else data, offset + done)
        except OSError as error:
            return done, error.strerror or str(error)
        return done, None

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _get_descriptor(self, name: str) -> int:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        if len(self._open) >= OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        self._open[name] = os.open(os.path.join(self._root, name), _FLAGS, 0o600)
        return self._open[name]
