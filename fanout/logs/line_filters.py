"""Display filters: parse the options that select ranks, lines, folding and the line prefix, and apply them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from string import Formatter

from fanout.logs.demux import LogLine, split_text
from fanout.logs.metric_line import parse_line
from fanout.logs.torchrun_traceback import is_stop_message
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.settings import Settings
from fanout.text.parse_ranges import parse_ranges
from fanout.text.sanitize import sanitize_line

MAX_RANK = 999_999
FOLDS = ("off", "exact", "similar")
FIELDS = ("who", "host", "rank", "mark", "time", "stamp")
PLAIN_PREFIX = "{who} {mark} "


@frozen
class DisplayFilters:
    """Display options. ``show`` is smart, all, or a set of global ranks; ``fold`` None means the view's default."""

    show: str | frozenset[int] = "smart"
    hide: re.Pattern[str] | None = None
    grep: re.Pattern[str] | None = None
    fold: str | None = None
    prefix: str | None = None
    timestamps: bool = False
    metric: re.Pattern[str] | None = None


def parse_display_filters(settings: Settings, *, metric: str = "") -> DisplayFilters:
    """Parse the display flags. ``metric`` is the recorded --metric of the run. Raises UsageError for an invalid value."""
    return DisplayFilters(
        show=parse_show(settings.show) if settings.show else ("all" if settings.grep else "smart"),
        hide=compile_pattern("--hide", settings.hide),
        grep=compile_pattern("--grep", settings.grep),
        fold=None if settings.fold == "auto" else settings.fold,
        prefix=_parse_prefix(settings.prefix),
        timestamps=settings.timestamps,
        metric=_compile_metric(settings.metric or metric),
    )


def parse_show(text: str) -> str | frozenset[int]:
    """Parse the value of ``--show``: ``smart``, ``all``, or global ranks such as ``0,8-15``."""
    if text in ("smart", "all"):
        return text
    return parse_ranks(text, flag="--show", hint="smart, all, or global ranks such as 0,8-15")


def parse_ranks(text: str, *, flag: str, hint: str) -> frozenset[int]:
    """Parse global ranks such as ``0,8-15``. Raises UsageError, which names the flag."""
    ranges = parse_ranges(text)
    if ranges is None or any(part[-1] > MAX_RANK for part in ranges):
        wrong = next((part for part in text.split(",") if parse_ranges(part) is None), text)
        raise UsageError(f"{flag} {text[:40]}: {wrong[:40]!r} is not a rank", hint=hint)
    return frozenset(itertools.chain.from_iterable(ranges))


def compile_pattern(flag: str, text: str) -> re.Pattern[str] | None:
    """Compile the regular expression of a flag; None for "". Raises UsageError, which names the flag."""
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UsageError(f"{flag} {text}: not a regular expression: {error}") from None


def _compile_metric(text: str) -> re.Pattern[str] | None:
    pattern = compile_pattern("--metric", text)
    if pattern is None:
        return None
    if not pattern.groups:
        raise UsageError(
            f"--metric {text}: it has no capture group",
            hint=r"name the groups, for example: --metric 'it (?P<step>\d+)/(?P<total>\d+) .* nll=(?P<loss>[\d.]+)' (speed; any other)",
        )
    return pattern


def _parse_prefix(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
        wrong = next((name for name in names if name not in FIELDS), None)
        if wrong is None:
            text.format(**dict.fromkeys(FIELDS, ""))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise UsageError(f"--prefix {text}: {error}", hint="write {{ for a literal brace") from None
    if wrong is not None:
        raise UsageError(f"--prefix {text}: unknown field {wrong!r}", hint=f"fields: {', '.join(FIELDS)}")
    return text


class LineFilter:
    """Filter for log lines. ``hidden`` counts the lines that it removed.

    "smart" shows all lines of rank 0, and the warnings and errors of all ranks. A host without rank streams is shown in
    full, because it has only one stream. What torchrun prints because fanout stops it is hidden. Megatron prints its
    losses on the last rank. So if rank 0 prints no loss for a while, the first rank that prints one is shown in full too.
    """

    PATIENCE_SECONDS = 5.0

    def __init__(
        self, filters: DisplayFilters, ranks: Mapping[str, tuple[int, int | None]], parts: Mapping[str, set[str]]
    ) -> None:
        self.show: str | frozenset[int] = filters.show
        self.host = ""  # show only this host, with all of its ranks
        self.text = ""  # show only lines with this text
        self.stopped_hosts: set[str] = set()  # fanout has sent TERM or KILL to them
        self._grep, self._hide = filters.grep, filters.hide
        self._ranks, self._parts = ranks, parts
        self._rank_zero_logs_loss = False
        self._loss_rank: tuple[int, float] | None = None  # the first other rank that printed a loss, and when
        self.hidden = 0

    def accept_line(self, log_line: LogLine, now: float) -> bool:
        """Return whether to show this line or block; count it if not."""
        keep = self.is_accepted(log_line, now)
        if not keep and log_line.kind != "bar":
            self.hidden += log_line.many if log_line.many > 1 else log_line.text.count("\n") + 1
        return keep

    def is_accepted(self, log_line: LogLine, now: float) -> bool:
        """Return whether this line or block passes all filters."""
        if not (log_line.host == self.host if self.host else self._is_shown(log_line, now)):
            return False
        if self.text and not contains_text(log_line.text, self.text):
            return False
        if self._grep is not None and self._grep.search(log_line.text) is None:
            return False
        return self._hide is None or self._hide.search(log_line.text) is None

    @property
    def needs_single_lines(self) -> bool:
        """Return whether each line must be tested on its own, because of a pattern or a text."""
        return self._grep is not None or self._hide is not None or bool(self.text)

    @property
    def pattern(self) -> str:
        """Return the pattern of --grep, "" without one."""
        return self._grep.pattern if self._grep is not None else ""

    @property
    def planned_ranks(self) -> int | None:
        """Return the number of ranks in the plan; None if the count of any host is unknown."""
        return count_planned_ranks(self._ranks)

    def _is_shown(self, log_line: LogLine, now: float) -> bool:
        if self.show == "all":
            return True
        if isinstance(self.show, frozenset):
            return self._is_selected(log_line, self.show)
        if self.is_stop_noise(log_line):
            return False
        if log_line.rank == 0 and not self._rank_zero_logs_loss and _has_loss(log_line):
            self._rank_zero_logs_loss = True
        if log_line.rank == 0 or log_line.level:
            return True
        if log_line.rank < 0:
            return log_line.host not in self._parts or self._ranks.get(log_line.host, (0, None))[0] == 0
        return not self._rank_zero_logs_loss and self._is_metric_rank(log_line, now)

    def is_stop_noise(self, log_line: LogLine) -> bool:
        """Return whether torchrun printed this line because fanout stops its host."""
        return log_line.host in self.stopped_hosts and is_stop_message(log_line)

    def _is_metric_rank(self, log_line: LogLine, now: float) -> bool:
        """Return whether this rank prints the loss in place of rank 0."""
        if self._loss_rank is None and _has_loss(log_line):
            self._loss_rank = (log_line.rank, now)
        return (
            self._loss_rank is not None
            and log_line.rank == self._loss_rank[0]
            and now - self._loss_rank[1] >= self.PATIENCE_SECONDS
        )

    def _is_selected(self, log_line: LogLine, ranks: frozenset[int]) -> bool:
        if log_line.rank >= 0:
            return log_line.rank in ranks
        if log_line.host in self._parts:
            return bool(log_line.level)  # torchrun's own output
        return not ranks.isdisjoint(get_host_ranks(log_line.host, self._ranks))


def contains_text(line: str, text: str) -> bool:
    """Return whether a line contains a text. A text in lower case matches both cases."""
    return text in line if text != text.lower() else text in line.lower()


def _has_loss(log_line: LogLine) -> bool:
    """Return whether the line, or a line of the block, has a loss of the training, and not a word such as loss_scale."""
    if "loss" not in log_line.text.lower():
        return False
    return any(reading is not None and reading.loss is not None for reading in map(parse_line, split_text(log_line)))


def count_planned_ranks(plan: Mapping[str, tuple[int, int | None]]) -> int | None:
    """Return the number of ranks in a plan; None if the count of any host is unknown."""
    counts = [count for _, count in plan.values()]
    return sum(count for count in counts if count is not None) if counts and None not in counts else None


def get_host_ranks(host: str, plan: Mapping[str, tuple[int, int | None]]) -> range:
    """Return the global ranks of a host by its place in the plan; an unknown count means one rank."""
    first = 0
    for name, (_, count) in plan.items():
        if name == host:
            return range(first, first + (count or 1))
        first += count or 1
    return range(0)


class LinePrefix:
    """Prefix of a log line. Prefixes are cached per stream, because a flood of lines comes from few streams."""

    MARKS: Mapping[str, str] = {"line": "|", "rest": "+", "bar": "~"}
    MOST = 4096

    def __init__(self, template: str) -> None:
        self._template = template
        self._timed = "{time" in template or "{stamp" in template
        self._made: dict[tuple[str, str, str, int], str] = {}

    def format_prefix(self, log_line: LogLine, width: int, at: float) -> str:
        """Return the prefix of a line that arrived at ``at``; ``width`` is the width of the longest label."""
        key = (log_line.host, log_line.speaker, log_line.kind, width)
        made = self._made.get(key)
        if made is None or self._timed:
            made = sanitize_line(self._template.format(**self._build_values(log_line, width, at)), colour=False)
            if len(self._made) < self.MOST:
                self._made[key] = made
        return made

    def _build_values(self, log_line: LogLine, width: int, at: float) -> dict[str, str]:
        if log_line.host:
            host, rank = log_line.host, log_line.speaker.removeprefix(log_line.host).removeprefix(":")
        else:  # several hosts printed the same line
            host, _, rank = log_line.speaker.rpartition(":") if ":" in log_line.speaker else (log_line.speaker, "", "")
        values = {"who": f"{log_line.speaker:<{width}}", "host": host, "rank": rank, "mark": self.MARKS[log_line.kind]}
        if not self._timed:
            return values | {"time": "", "stamp": ""}
        from datetime import datetime

        moment = datetime.fromtimestamp(at).astimezone()
        return values | {"time": moment.strftime("%H:%M:%S"), "stamp": moment.isoformat(timespec="milliseconds")}
