"""JSON view (``--json``): write every event as one JSON object per line on stdout. See docs/events.md.

The objects are those of ``events.jsonl``, but log output comes as lines of text instead of places in files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from fanout.logs.demux import LogLine, StreamDemultiplexer
from fanout.logs.levels import classify_text
from fanout.logs.pipeline import describe_dropped_lines
from fanout.model.events import Chunk, Event, Heartbeat
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.event_json import (
    VERSION,
    build_end_record,
    build_run_record,
    build_verdict_record,
    encode_event,
    to_json_line,
)
from fanout.ui.nonblocking_writer import NonblockingWriter

LIMIT = 64 * 1024  # bytes per line: a program can use longer lines than a screen


class JsonLines:
    """JSON view. Call ``begin`` before the first event and ``finish`` after the last.

    With ``waits``, a blocked reader blocks the view; without it, lines are dropped and the view reports how many.
    """

    def __init__(self, heading: RunInfo, *, stdout: TextIO, waits: bool = True) -> None:
        self._heading = heading
        self._out = NonblockingWriter(stdout, waits=waits)
        self._streams = StreamDemultiplexer(limit=LIMIT)
        self._names: dict[tuple[str, int], str] = {}
        self._now = 0.0

    @property
    def broken(self) -> bool:
        return self._out.broken

    def begin(self, at: float, **facts: Any) -> None:
        """Write the first object, the facts about the run; ``facts`` adds more keys (argv, version, …)."""
        self._now = at
        self._write_records(build_run_record(self._heading, at) | facts)

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        self._out.send_pending()
        log_lines = self._streams.process_event(event)
        records = [self._build_line_record(log_line, state) for log_line in log_lines]
        if not isinstance(event, Chunk) and not (isinstance(event, Heartbeat) and not event.load):
            record = encode_event(event)
            if record is not None:
                records.append(record)
        self._write_records(*records)

    def note(self, text: str) -> None:
        self._write_records({"v": VERSION, "t": self._now, "type": "note", "text": text})

    def finish(self, outcome: RunOutcome, text: str = "", verdict: Mapping[str, Any] | None = None) -> None:
        """Write the last objects: the verdict, if there is one, and the outcome. ``text`` is ignored."""
        self.close()
        if verdict is not None:
            self._write_records(build_verdict_record(verdict, self._now))
        self._write_records(build_end_record(outcome, self._now))

    def begin_attempt(self, heading: RunInfo) -> None:
        """Write the remaining lines of the last attempt. The next object is the first one of the next attempt."""
        self._write_rest()
        self._heading, self._names = heading, {}
        self._streams = StreamDemultiplexer(limit=LIMIT)

    def close(self) -> None:
        self._write_rest()
        self._out.close()

    def _write_rest(self) -> None:
        self._write_records(*(self._build_line_record(log_line, None) for log_line in self._streams.take_rest()))

    def _build_line_record(self, log_line: LogLine, state: RunState | None) -> dict[str, Any]:
        key = (log_line.host, log_line.stream)
        if state is not None and key not in self._names and log_line.host in state.hosts:
            self._names[key] = state.hosts[log_line.host].streams.get(log_line.stream, "")
        record: dict[str, Any] = {
            "v": VERSION,
            "t": self._now,
            "type": "bar" if log_line.kind == "bar" else "line",
        }
        record |= {"host": log_line.host, "stream": self._names.get(key, ""), "text": log_line.text}
        if log_line.kind == "rest":
            record["rest"] = True
        if log_line.kind != "bar" and (level := classify_text(log_line.text)):
            record["level"] = level
        if log_line.more:
            record["more"] = log_line.more
        return record

    def _write_records(self, *records: Mapping[str, Any]) -> None:
        if missed := self._out.take_dropped_count():
            self.note(describe_dropped_lines(missed, self._heading.log_dir))
        self._out.write("".join([to_json_line(record) + "\n" for record in records]))
