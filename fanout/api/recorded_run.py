"""Recorded run: what the record of a run holds, during the run and afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fanout.logs.demux import LogLine
from fanout.logs.line_filters import DisplayFilters, compile_pattern, parse_ranks
from fanout.model.errors import UsageError
from fanout.model.events import Event
from fanout.model.frozen import frozen
from fanout.record.index import split_attempt_path
from fanout.record.recorded_attempts import find_reported_attempt
from fanout.record.run_reader import RunReader
from fanout.run.recorded_lines import iter_recorded_lines


@frozen
class RunRecord:
    """Record of a run, or of one attempt of it. ``directories`` are those of its attempts, in order."""

    directories: tuple[str, ...]

    @property
    def directory(self) -> str:
        """Return the directory of the attempt whose report is that of the run."""
        return find_reported_attempt(self.directories)

    @property
    def run_id(self) -> str:
        return os.path.basename(split_attempt_path(self.directories[0])[0])

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the names of the hosts in rank order."""
        return RunReader(self.directory).heading.hosts

    @property
    def result(self) -> Mapping[str, Any] | None:
        """Return result.json: the exit code, the headline and the end of each host. None while the run is active."""
        return RunReader(self.directory).read_result()

    @property
    def exit_code(self) -> int | None:
        """Return the exit status of the run, None while it is active."""
        result = self.result
        return None if result is None else int(result["exit_code"])

    @property
    def report(self) -> str:
        """Return the report as text, "" while the run is active."""
        try:
            with open(os.path.join(self.directory, "report.txt"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""

    def events(self) -> Iterator[Event]:
        """Yield the recorded events of all attempts, in order."""
        for directory in self.directories:
            yield from RunReader(directory).iter_events()

    def lines(
        self, *, rank: int | str | None = None, host: str | Sequence[str] = (), grep: str = ""
    ) -> Iterator[LogLine]:
        """Yield the log lines of all attempts in order of arrival, as ``fanout logs`` prints them. Raises UsageError."""
        names = frozenset([host] if isinstance(host, str) else host)
        unknown = sorted(names - set(self.hosts))
        if unknown:
            raise UsageError(f"host {unknown[0]}: not in this run", hint=f"hosts: {', '.join(self.hosts)}")
        filters = DisplayFilters(
            show="all" if rank is None else parse_ranks(str(rank), flag="rank", hint='rank=0 or rank="0,8-15"'),
            grep=compile_pattern("grep", grep),
        )
        for directory in self.directories:
            for found in iter_recorded_lines(RunReader(directory), filters, hosts=names):
                if found is not None:
                    yield found[0]
