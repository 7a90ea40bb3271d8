"""Log pipeline of the live and the plain view: classify, count, filter and fold log lines.

A view passes every event to it and prints the result. Hidden lines are counted; the log files keep every line.
"""

from __future__ import annotations

from fanout.events import Event
from fanout.views.base import Heading
from fanout.views.folding import Folding
from fanout.views.levels import Levels
from fanout.views.metrics import Course
from fanout.views.streams import Say, Streams, apart
from fanout.views.wishes import Chooser, Wishes


class Flow:
    """Log pipeline. ``fold`` is the default folding; with ``bars``, progress bars give lines too."""

    def __init__(self, heading: Heading, wishes: Wishes, *, fold: str, bars: bool = True) -> None:
        self.streams = Streams(heading.hosts, blocks=True)
        self.chooser = Chooser(wishes, heading.ranks, self.streams.parts)
        self.folding = Folding(heading.hosts, self.streams.parts, how=wishes.fold or fold)
        self.course = Course(wishes.metric)
        self.lines: dict[str, int] = dict.fromkeys(heading.hosts, 0)
        self.warnings: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.last_error: Say | None = None
        self._levels = Levels()
        self._bars = bars

    def take(self, event: Event) -> list[Say]:
        """Return the lines to show after this event."""
        return self._through(self.streams.take(event), event.at)

    def settle(self, now: float) -> list[Say]:
        """Return the lines that wait to be folded, so that they precede a status message."""
        return self._chosen(self._levels.finish(), now) + self.folding.finish()

    def finish(self, now: float) -> list[Say]:
        """Return all remaining lines at the end of the run."""
        return self._through(self.streams.finish(), now) + self.settle(now)

    def _through(self, says: list[Say], now: float) -> list[Say]:
        if says:
            self.course.hear(says, now)
            for say in says:
                self.lines[say.host] += say.many if say.kind == "line" else 0
        return self._chosen(self._levels.take(says, now), now)

    def _chosen(self, says: list[Say], now: float) -> list[Say]:
        for say in says:
            if say.level:
                self._count(say)
        keeps = self.chooser.keeps
        if self.chooser.picky:
            says = [line for say in says for line in apart(say)]
        kept = [say for say in says if keeps(say, now) and (self._bars or say.kind != "bar")]
        return self.folding.take(kept, now)

    def _count(self, say: Say) -> None:
        if say.text[:1] in " \t":
            return  # an indented line belongs to the line before it, as in Python's warnings
        counts = self.errors if say.level == "error" else self.warnings
        counts[say.host] = counts.get(say.host, 0) + 1
        if say.level == "error":
            self.last_error = say


def left_out(hidden: int, log_dir: str | None) -> str:
    """Return the final message about hidden lines; "" if no line was hidden."""
    if not hidden:
        return ""
    where = f"all of them are in {log_dir}" if log_dir else "they are not saved"
    return f"{hidden:,} line{'s' if hidden != 1 else ''} of the log not shown (--show all shows every rank); {where}"


def too_slow(missed: int, log_dir: str | None) -> str:
    """Return the message about lines that were dropped because the reader of the output was blocked."""
    where = f"all of them are in {log_dir}" if log_dir else "they are not saved"
    return f"{missed:,} line{'s' if missed != 1 else ''} dropped: the reader of this output was blocked; {where}"
