"""Page content: a subscriber that collects the data of one attempt from all events, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from fanout.logs.demux import StreamDemultiplexer, format_label
from fanout.logs.folding import format_speakers
from fanout.model.events import Event, StreamOpened
from fanout.model.hosts import fold_names
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.paths import LogFileNames
from fanout.text.sanitize import sanitize_line, sanitize_lines
from fanout.ui.html.charts import build_load_charts, build_metric_charts
from fanout.ui.html.log_excerpt import FANOUT, Gap, LogExcerpt
from fanout.ui.html.page_head import PageVerdict, RecordStage, describe_cause, summarize_page
from fanout.ui.html.timeline import RunTimeline, StreamTimeline
from fanout.ui.status_messages import StatusReporter

_LEVELS = {"": 0, "warning": 1, "error": 2}


class PageBuilder:
    """Subscriber that collects the content of the page from all events."""

    broken = False

    def __init__(
        self, heading: RunInfo, began_at: float, metric: re.Pattern[str] | None = None, *, directory: str = ""
    ) -> None:
        """Create the collector. ``metric`` is the user's pattern for metrics, ``directory`` that of the record."""
        self._heading, self._metric, self._directory = heading, metric, directory
        self._names = LogFileNames(heading.hosts)
        self._streams, self._narrator = StreamDemultiplexer(heading.hosts), StatusReporter()
        self._excerpt = LogExcerpt()
        self._timeline = RunTimeline(heading.hosts, began_at)
        self._state = RunState.initial(heading.hosts, at=began_at)

    def __call__(self, event: Event, state: RunState) -> None:
        self._state = state
        if isinstance(event, StreamOpened):
            self._names.set_name(event.host, event.stream, event.name)
        self._timeline.add_event(event)
        at = self._timeline.now
        self._add_output(event, at)
        for message in self._narrator.handle_event(event, state):
            self._excerpt.add_message(" ".join(sanitize_lines(message.text)), message.level, at)

    def add_rest(self) -> None:
        """Add what waits for more: lines without an end, and messages. Call this after the last event."""
        at = self._timeline.now
        self._add_output(None, at)
        for message in self._narrator.flush_messages():
            self._excerpt.add_message(" ".join(sanitize_lines(message.text)), message.level, at)

    def _add_output(self, event: Event | None, at: float) -> None:
        for log_line in self._streams.take_rest() if event is None else self._streams.process_event(event):
            number = self._timeline.get_stream_index(log_line.host, log_line.stream)
            stream = self._timeline.streams[number]
            stream.add_metrics(log_line.text, at, self._metric)
            if log_line.kind == "bar":
                continue
            level = self._excerpt.add_line(number, log_line, at)
            stream.lines += 1
            stream.errors += level == "error"
            stream.warnings += level == "warning"

    def build_data(
        self, outcome: RunOutcome, report: str, verdict: PageVerdict, stage: RecordStage, state: RunState
    ) -> dict[str, Any]:
        """Return the JSON data for the script of the page, for a run at ``state.now``."""
        heading, streams, began_at = self._heading, self._timeline.streams, self._state.began_at
        speakers, lines = self._build_lines()
        is_active = stage is RecordStage.ACTIVE
        return {
            "run": heading.run_id,
            "name": heading.name,
            "attempt": heading.attempt.number,
            "title": sanitize_line(heading.title, colour=False),
            "began": began_at,
            "seconds": max(self._timeline.now, self._timeline.to_run_seconds(state.now) if is_active else 0.0),
            "stage": stage.value,
            "summary": asdict(summarize_page(heading, state, outcome, verdict, stage, streams)),
            "cause": describe_cause(verdict, began_at, streams, heading.hosts),
            "outcome": asdict(outcome) | {"hosts": None},
            "report": report,
            "hosts": self._build_hosts(outcome, stage),
            "streams": [_build_stream(stream) for stream in streams],
            "curves": build_metric_charts(streams, self._format_speakers),
            "load": build_load_charts(self._timeline.hosts),
            "log": {
                "lines_total": self._excerpt.lines,
                "speakers": speakers,
                "lines": lines,
                "files": self._format_log_files(),
            },
            "directory": self._directory,
        }

    def _build_hosts(self, outcome: RunOutcome, stage: RecordStage) -> list[dict[str, Any]]:
        ends = {end.host: end for end in outcome.hosts}
        hosts = []
        for host in self._timeline.hosts:
            state, end = self._state.hosts[host.name], ends.get(host.name)
            is_over = end is not None and (stage is not RecordStage.ACTIVE or state.exit or state.phase.is_final)
            hosts.append(
                {
                    "name": host.name,
                    "rank": self._heading.ranks.get(host.name, (None, None))[0],
                    "times": host.times,
                    "down": host.down,
                    "phase": state.phase.value,
                    "verdict": end.verdict if end is not None and is_over else None,
                    "why": sanitize_line(end.reason, colour=False) if end is not None and is_over else "",
                }
            )
        return hosts

    def _build_lines(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """Return the speakers [label, stream numbers] and the lines [time, speaker, level, text] or [missing lines]."""
        speakers: dict[tuple[int, ...], int] = {}
        lines: list[list[Any]] = []
        for entry in self._excerpt.iter_entries():
            if isinstance(entry, Gap):
                lines.append([entry.lines])
            else:
                number = speakers.setdefault(tuple(entry.speakers), len(speakers))
                lines.append([entry.at, number, _LEVELS[entry.level], entry.text])
        return [[self._format_speakers(who), _to_ranges(who)] for who in speakers], lines

    def _format_speakers(self, who: tuple[int, ...]) -> str:
        if who == (FANOUT,):
            return "fanout"
        streams = [self._timeline.streams[number] for number in who]
        pairs = [(self._heading.hosts[stream.host], format_label("", stream.name)[1:]) for stream in streams]
        return format_speakers(pairs, self._streams.parts) if len(pairs) > 1 else ":".join(filter(None, pairs[0]))

    def _format_log_files(self) -> str:
        hosts = self._heading.hosts
        return f"logs/{fold_names(hosts)}.log" if len(hosts) > 1 else self._names.get_path(hosts[0], 0)


def _build_stream(stream: StreamTimeline) -> dict[str, Any]:
    return {
        "host": stream.host,
        "name": sanitize_line(stream.name, colour=False),
        "rank": stream.rank,
        "first": stream.first,
        "last": stream.last,
        "bytes": stream.bytes,
        "lines": stream.lines,
        "errors": stream.errors,
        "warnings": stream.warnings,
        "steps": stream.steps.get_points(),
    }


def _to_ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return numbers as inclusive ranges."""
    out: list[list[int]] = []
    for number in sorted(set(numbers)):
        if out and out[-1][1] == number - 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return out
