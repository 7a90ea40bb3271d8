"""A run's directory read again: its heading and its events, byte for byte as they came.

``fanout report``, ``logs``, ``replay`` and ``attach`` show a recorded run by giving these events to the same views.
A record may end in the middle of a line (the launcher was killed, or still writes): what is whole counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fanout.errors import LauncherError, UsageError
from fanout.events import Event, StreamOpened
from fanout.views.base import Heading
from fanout.views.filenames import FileNames
from fanout.views.record import decode


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
        decoder = self._decoder()
        for record in self._records():
            event = decoder(record)
            if event is not None:
                yield event

    def follow(self) -> Iterator[Event | None]:
        """All events in order, and those still to come: None whenever there is no further one yet."""
        decoder = self._decoder()
        with open(os.path.join(self.path, "events.jsonl"), "rb") as file:
            rest = b""
            while True:
                line = rest + file.readline()
                if not line.endswith(b"\n"):
                    rest = line
                    yield None
                    continue
                rest = b""
                event = decoder(_loaded(line.decode("utf-8", "replace")))
                if event is not None:
                    yield event

    def result(self) -> Mapping[str, Any] | None:
        """The outcome as it was written down; None while there is none."""
        try:
            with open(os.path.join(self.path, "result.json"), encoding="utf-8") as file:
                result = json.load(file)
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) else None

    def _decoder(self) -> Callable[[Mapping[str, Any]], Event | None]:
        names = FileNames(self.heading.hosts)

        def read(host: str, stream: int, offset: int, length: int) -> bytes:
            with open(os.path.join(self.path, names.of(host, stream)), "rb") as file:
                return os.pread(file.fileno(), length, offset).ljust(length, b"\0")

        def decoded(record: Mapping[str, Any]) -> Event | None:
            try:
                event = decode(record, read) if record else None
            except (OSError, KeyError, TypeError) as error:
                raise LauncherError(f"{self.path}: the record of the run is damaged: {error}") from error
            if isinstance(event, StreamOpened):
                names.name(event.host, event.stream, event.name)
            return event

        return decoded

    def _records(self) -> Iterator[dict[str, Any]]:
        path = os.path.join(self.path, "events.jsonl")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                yield from filter(None, map(_loaded, file))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", hint="name a run's log directory") from error


def _loaded(line: str) -> dict[str, Any]:
    """{} for what is no object: cut off by a full disk, or by the end of a launcher."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
