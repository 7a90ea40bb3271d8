"""A run's directory read again: its heading and its events, byte for byte as they came.

``fanout report``, ``logs``, ``replay`` and ``attach`` show a recorded run by giving these events to the same views.
A record may end in the middle of a line (the launcher was killed, or still writes) or lack one (its disk was full):
what is whole counts. Bytes that reached a log file and are not in the record yet come at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from fanout.errors import LauncherError, UsageError
from fanout.events import MAIN_STREAM, Chunk, Event, StreamOpened
from fanout.state import ImpossibleMove, RunState, advance
from fanout.views.base import Heading
from fanout.views.filenames import FileNames
from fanout.views.record import decode

_PIECE = 1 << 20


class Recorded:
    """A run's directory. ``heading`` is read at once, the events whenever ``events`` is called."""

    def __init__(self, path: str) -> None:
        self.path = path
        first = next(self._records(), None)
        if first is None or first.get("type") != "run":
            raise UsageError(f"{path}: no record of a run", hint="name a run's log directory; `fanout ps` lists runs")
        self.began_at = float(first["t"])
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
        names = FileNames(self.heading.hosts)
        covered = {(host, MAIN_STREAM): 0 for host in self.heading.hosts}
        at, over = self.began_at, False

        def read(host: str, stream: int, offset: int, length: int) -> bytes:
            with open(os.path.join(self.path, names.of(host, stream)), "rb") as file:
                return os.pread(file.fileno(), length, offset).ljust(length, b"\0")

        for record in self._records():
            over = over or record.get("type") == "end"
            try:
                event = decode(record, read)
            except (OSError, KeyError, TypeError) as error:
                raise LauncherError(f"{self.path}: the record of the run is damaged: {error}") from error
            if event is None:
                continue
            if isinstance(event, StreamOpened):
                names.name(event.host, event.stream, event.name)
                covered.setdefault((event.host, event.stream), 0)
            elif isinstance(event, Chunk):
                key = (event.host, event.stream)
                covered[key] = max(covered.get(key, 0), event.offset + len(event.data))
            at = event.at
            yield event
        if not over:
            yield from self._unrecorded(names, covered, at)

    def told(self) -> Iterator[tuple[Event, RunState]]:
        """All events, each with the state after it; one that cannot follow, because the record has a hole, is left out."""
        state = RunState.new(self.heading.hosts, at=self.began_at)
        for event in self.events():
            try:
                state = advance(state, event)
            except (ImpossibleMove, KeyError):
                continue
            yield event, state

    def _unrecorded(self, names: FileNames, covered: dict[tuple[str, int], int], at: float) -> Iterator[Chunk]:
        """What the log files hold beyond the record: it is behind them by a moment, and after the launcher's death the
        guardian writes only to them."""
        for (host, stream), offset in covered.items():
            try:
                with open(os.path.join(self.path, names.of(host, stream)), "rb") as file:
                    file.seek(offset)
                    while data := file.read(_PIECE):
                        yield Chunk(at=at, host=host, stream=stream, offset=offset, data=data)
                        offset += len(data)
            except FileNotFoundError:
                continue  # it has said nothing

    def _records(self) -> Iterator[dict[str, Any]]:
        path = os.path.join(self.path, "events.jsonl")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        record = json.loads(line)
                    except ValueError:
                        continue  # cut off by a full disk, or by the end of a launcher
                    if isinstance(record, dict):
                        yield record
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", hint="name a run's log directory") from error
