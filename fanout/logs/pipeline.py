"""Log pipeline of the live and the plain view: classify, count, filter and fold log lines.

A view passes every event to it and prints the result. Hidden lines are counted; the log files keep every line.
"""

from __future__ import annotations

from itertools import islice

from fanout.logs.demux import LogLine, StreamDemultiplexer, split_block
from fanout.logs.folding import LineFolding
from fanout.logs.levels import LineClassifier
from fanout.logs.line_filters import DisplayFilters, LineFilter
from fanout.logs.metrics import MetricTracker
from fanout.logs.recent_lines import RecentLines
from fanout.logs.torchrun_traceback import fold_torchrun_traceback
from fanout.model.actions import Kill, Stop
from fanout.model.events import ActionSent, Event
from fanout.model.run_info import RunInfo
from fanout.text.home_path import shorten_home
from fanout.text.units import count_noun

RECENT_FACTOR = 16  # equal lines of so many ranks may be one folded line


class LogPipeline:
    """Log pipeline. ``fold`` is the default folding; with ``bars``, progress bars give lines too.

    With ``recent``, it keeps the newest lines, also those that a filter hides.
    """

    def __init__(
        self, heading: RunInfo, filters: DisplayFilters, *, fold: str, bars: bool = True, recent: bool = False
    ) -> None:
        self.streams = StreamDemultiplexer(heading.hosts, blocks=True)
        self.line_filter = LineFilter(filters, heading.ranks, self.streams.parts)
        self.folding = LineFolding(heading.hosts, self.streams.parts, how=filters.fold or fold)
        self.metric_tracker = MetricTracker(filters.metric, heading.hosts)
        self.lines: dict[str, int] = dict.fromkeys(heading.hosts, 0)
        self.warnings: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.last_error: LogLine | None = None
        self._levels = LineClassifier()
        self._hosts, self._bars = heading.hosts, bars
        self._recent = RecentLines() if recent else None

    def process_event(self, event: Event) -> list[LogLine]:
        """Return the lines to show after this event."""
        if isinstance(event, ActionSent) and isinstance(event.action, (Stop, Kill)):
            self.line_filter.stopped_hosts.add(event.action.host)
        return self._process_lines(self.streams.process_event(event), event.at)

    def flush_folding(self, now: float) -> list[LogLine]:
        """Return the lines that wait to be folded, so that they precede a status message."""
        return self._filter_lines(self._levels.take_rest(), now) + self.folding.take_rest()

    def take_rest(self, now: float) -> list[LogLine]:
        """Return all remaining lines at the end of the run."""
        return self._process_lines(self.streams.take_rest(), now) + self.flush_folding(now)

    def find_recent(self, most: int, now: float) -> list[LogLine]:
        """Return the newest lines that pass the filters now, folded, at most ``most``, oldest first."""
        newest = self._recent.iter_newest() if self._recent is not None else iter(())
        found = (line for line in newest if self.line_filter.is_accepted(line, now))
        lines = list(islice(found, RECENT_FACTOR * most))[::-1]
        folding = LineFolding(self._hosts, self.streams.parts, how=self.folding.mode)
        return [*folding.fold_lines(lines, now), *folding.take_rest()][-most:]

    def _process_lines(self, log_lines: list[LogLine], now: float) -> list[LogLine]:
        if log_lines:
            self.metric_tracker.add_lines(log_lines, now)
            for log_line in log_lines:
                self.lines[log_line.host] += log_line.many if log_line.kind == "line" else 0
        return self._filter_lines(self._levels.classify_lines(log_lines, now), now)

    def _filter_lines(self, log_lines: list[LogLine], now: float) -> list[LogLine]:
        if self.folding.mode != "off":
            log_lines = [fold_torchrun_traceback(log_line) for log_line in log_lines]
        for log_line in log_lines:
            if log_line.level and not self.line_filter.is_stop_noise(log_line):
                self._count_level(log_line)
        if self._recent is not None:
            self._recent.add_lines(log_lines)
        keeps = self.line_filter.accept_line
        if self.line_filter.needs_single_lines:
            log_lines = [line for log_line in log_lines for line in split_block(log_line)]
        kept = [log_line for log_line in log_lines if keeps(log_line, now) and (self._bars or log_line.kind != "bar")]
        return self.folding.fold_lines(kept, now)

    def _count_level(self, log_line: LogLine) -> None:
        if log_line.text[:1] in " \t":
            return  # an indented line belongs to the line before it, as in Python's warnings
        counts = self.errors if log_line.level == "error" else self.warnings
        counts[log_line.host] = counts.get(log_line.host, 0) + 1
        if log_line.level == "error":
            self.last_error = log_line


def describe_hidden_lines(hidden: int, log_dir: str | None) -> str:
    """Return the final message about hidden lines; "" if no line was hidden."""
    if not hidden:
        return ""
    return f"{count_noun(hidden, 'line')} of the log not shown (--show all shows every rank); {_locate_lines(hidden, log_dir)}"


def describe_dropped_lines(missed: int, log_dir: str | None) -> str:
    """Return the message about lines that were dropped because the reader of the output was blocked."""
    return (
        f"{count_noun(missed, 'line')} dropped: the reader of this output was blocked; {_locate_lines(missed, log_dir)}"
    )


def _locate_lines(count: int, log_dir: str | None) -> str:
    """Return where the lines are that the screen does not have; the verb agrees with their number."""
    where = shorten_home(log_dir) if log_dir else ""
    if count == 1:
        return f"it is in {where}" if where else "it is not saved"
    return f"all of them are in {where}" if where else "they are not saved"
