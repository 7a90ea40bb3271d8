"""Lines of a recorded attempt, in order of arrival, for ``fanout logs`` and the Python API."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.logs.demux import LogLine, StreamDemultiplexer
from fanout.logs.line_filters import DisplayFilters, LineFilter
from fanout.record import follow
from fanout.record.run_reader import RunReader


def iter_recorded_lines(
    recorded: RunReader,
    filters: DisplayFilters,
    *,
    streams: StreamDemultiplexer | None = None,
    hosts: frozenset[str] = frozenset(),
    since: float = 0.0,
    follows: bool = False,
) -> Iterator[tuple[LogLine, float] | None]:
    """Yield each line with its time. ``hosts``: only of these, if not empty. ``streams`` assembles the lines.

    With ``follows``, also yield the lines to come until the attempt ends, and None while there is none.
    """
    streams = streams or StreamDemultiplexer(recorded.heading.hosts)
    line_filter = LineFilter(filters, recorded.heading.ranks, streams.parts)

    def select(log_lines: list[LogLine], at: float) -> Iterator[tuple[LogLine, float]]:
        for log_line in log_lines:
            if (not hosts or log_line.host in hosts) and line_filter.accept_line(log_line, at):
                yield log_line, at

    at = 0.0
    for event in follow.follow_events(recorded) if follows else recorded.iter_events():
        if event is None:
            yield None
            continue
        log_lines, at = streams.process_event(event), event.at
        if at >= since:
            yield from select(log_lines, at)
    yield from select(streams.take_rest(), at)
