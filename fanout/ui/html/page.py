"""HTML report: one self-contained page with the verdict, timeline, curves and a log excerpt of a run.

The page is ``html/page.html`` with a style, a script and the run as JSON. Untrusted text occurs only in the JSON, with
every ``<`` escaped, and the script inserts it as text, never as markup. The page's Content-Security-Policy allows only
this one script and no network access.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from importlib import resources
from typing import Any

from fanout.logs.demux import StreamDemultiplexer, format_label
from fanout.logs.folding import format_speakers
from fanout.logs.rank_prefix import parse_stream_rank
from fanout.model.events import Event, StreamOpened
from fanout.model.hosts import fold_names
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.paths import LogFileNames
from fanout.text.sanitize import sanitize_line, sanitize_lines
from fanout.ui.html.charts import build_curves
from fanout.ui.html.log_excerpt import FANOUT, Gap, LogExcerpt
from fanout.ui.html.timeline import LOAD_UNITS, RunTimeline, StreamTimeline
from fanout.ui.status_messages import StatusReporter


def fill_template(data: dict[str, Any]) -> str:
    """Return the template, filled with the style, the script and the data."""
    template, style, script = (_read_asset(name) for name in ("page.html", "page.css", "page.js"))
    policy = f"default-src 'none'; style-src {_hash_source(style)}; script-src {_hash_source(script)}; base-uri 'none'"
    parts = {
        "policy": html.escape(policy, quote=True),
        "title": html.escape(f"fanout run {data['run']}"),
        "style": style,
        "script": script,
        "data": to_script_json(data),
    }
    whole = template
    for name, text in parts.items():  # data comes last, so a placeholder in it is never replaced
        before, mark, after = whole.partition(f"{{{{{name}}}}}")
        assert mark, f"page.html has no place for {name}"
        whole = before + text + after
    return whole


def to_script_json(data: Any) -> str:
    """Return JSON without ``<``, ``>`` and ``&``, so that an HTML parser cannot misread it."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read_asset(name: str) -> str:
    return (resources.files("fanout.ui") / "html" / name).read_text(encoding="utf-8").strip()


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class PageBuilder:
    """Subscriber that collects the content of the page from all events."""

    broken = False

    def __init__(self, heading: RunInfo, began_at: float, metric: re.Pattern[str] | None = None) -> None:
        """Create the collector. ``metric`` is the user's pattern for metrics in an unknown form."""
        self._heading, self._metric = heading, metric
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

    def build_page(self, outcome: RunOutcome, report: str, *, ended: bool, directory: str) -> str:
        """Return the HTML page of one attempt. Call this after the last event."""
        return fill_template(self.build_page_data(outcome, report, ended=ended, directory=directory))

    def build_page_data(self, outcome: RunOutcome, report: str, *, ended: bool, directory: str) -> dict[str, Any]:
        """Return the data of this attempt for the page. Call this after the last event."""
        self._add_rest()
        return self.build_data(outcome, report) | {"ended": ended, "directory": directory}

    def _add_rest(self) -> None:
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

    def build_data(self, outcome: RunOutcome, report: str) -> dict[str, Any]:
        """Return the JSON data for the script of the page (html/page.js)."""
        heading = self._heading
        speakers, lines = self._build_lines()
        return {
            "v": 1,
            "run": heading.run_id,
            "attempt": heading.attempt.number,
            "title": sanitize_line(heading.title, colour=False),
            "began": self._state.began_at,
            "seconds": self._timeline.now,
            "outcome": asdict(outcome) | {"hosts": None},
            "report": report,
            "hosts": self._build_hosts(outcome),
            "streams": [_build_stream(stream) for stream in self._timeline.streams],
            "curves": build_curves(self._timeline.streams, self._format_speakers),
            "load": self._build_load(),
            "log": {
                "lines_total": self._excerpt.lines,
                "speakers": speakers,
                "lines": lines,
                "files": self._format_log_files(),
            },
        }

    def _build_hosts(self, outcome: RunOutcome) -> list[dict[str, Any]]:
        ends = {end.host: end for end in outcome.hosts}
        hosts = []
        for host in self._timeline.hosts:
            state, end = self._state.hosts[host.name], ends.get(host.name)
            hosts.append(
                {
                    "name": host.name,
                    "rank": self._heading.ranks.get(host.name, (None, None))[0],
                    "times": host.times,
                    "down": host.down,
                    "phase": state.phase.value,
                    "verdict": end.verdict if end is not None else None,
                    "why": sanitize_line(end.reason, colour=False) if end is not None else "",
                }
            )
        return hosts

    def _build_load(self) -> list[dict[str, Any]]:
        load_names = {name for host in self._timeline.hosts for name in host.load}
        return [
            {
                "name": name,
                "unit": unit,
                "series": [
                    {"host": number, "points": host.load[name].get_points()}
                    for number, host in enumerate(self._timeline.hosts)
                    if name in host.load
                ],
            }
            for name, unit in LOAD_UNITS.items()
            if name in load_names
        ]

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


_LEVELS = {"": 0, "warning": 1, "error": 2}


def _build_stream(stream: StreamTimeline) -> dict[str, Any]:
    return {
        "host": stream.host,
        "name": sanitize_line(stream.name, colour=False),
        "rank": parse_stream_rank(stream.name),
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
