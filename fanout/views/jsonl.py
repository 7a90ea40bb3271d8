"""JSON view (``--json``): write every event as one JSON object per line on stdout. See docs/events.md.

The objects are those of ``events.jsonl``, but log output comes as lines of text instead of places in files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from fanout.events import Beat, Chunk, Event
from fanout.outcome import RunOutcome
from fanout.state import RunState
from fanout.views.base import Heading
from fanout.views.flow import too_slow
from fanout.views.levels import level_of
from fanout.views.outlet import Outlet
from fanout.views.record import VERSION, dumps, encode, end_record, run_record, verdict_record
from fanout.views.streams import Say, Streams

LIMIT = 64 * 1024  # bytes per line: a program can use longer lines than a screen


class JsonLines:
    """JSON view. Call ``begin`` before the first event and ``finish`` after the last.

    With ``waits``, a blocked reader blocks the view; without it, lines are dropped and the view reports how many.
    """

    def __init__(self, heading: Heading, *, stdout: TextIO, waits: bool = True) -> None:
        self._heading = heading
        self._out = Outlet(stdout, waits=waits)
        self._streams = Streams(limit=LIMIT)
        self._names: dict[tuple[str, int], str] = {}
        self._now = 0.0

    @property
    def broken(self) -> bool:
        return self._out.broken

    def begin(self, at: float, **facts: Any) -> None:
        """Write the first object, the facts about the run; ``facts`` adds more keys (argv, version, …)."""
        self._now = at
        self._write(run_record(self._heading, at) | facts)

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        self._out.push()
        says = self._streams.take(event)
        records = [self._said(say, state) for say in says]
        if not isinstance(event, Chunk) and not (isinstance(event, Beat) and not event.load):
            record = encode(event)
            if record is not None:
                records.append(record)
        self._write(*records)

    def note(self, text: str) -> None:
        self._write({"v": VERSION, "t": self._now, "type": "note", "text": text})

    def finish(self, outcome: RunOutcome, text: str = "", verdict: Mapping[str, Any] | None = None) -> None:
        """Write the last objects: the verdict, if there is one, and the outcome. ``text`` is ignored."""
        self.close()
        if verdict is not None:
            self._write(verdict_record(verdict, self._now))
        self._write(end_record(outcome, self._now))

    def close(self) -> None:
        self._write(*(self._said(say, None) for say in self._streams.finish()))
        self._out.close()

    def _said(self, say: Say, state: RunState | None) -> dict[str, Any]:
        key = (say.host, say.stream)
        if state is not None and key not in self._names and say.host in state.hosts:
            self._names[key] = state.hosts[say.host].streams.get(say.stream, "")
        record: dict[str, Any] = {
            "v": VERSION,
            "t": self._now,
            "type": "bar" if say.kind == "bar" else "line",
        }
        record |= {"host": say.host, "stream": self._names.get(key, ""), "text": say.text}
        if say.kind == "rest":
            record["rest"] = True
        if say.kind != "bar" and (level := level_of(say.text)):
            record["level"] = level
        if say.more:
            record["more"] = say.more
        return record

    def _write(self, *records: Mapping[str, Any]) -> None:
        if missed := self._out.missed():
            self.note(too_slow(missed, self._heading.log_dir))
        self._out.write("".join([dumps(record) + "\n" for record in records]))
