"""What the user wants to see of the log: which ranks, which lines, folded how, and what stands before each line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from fanout.errors import UsageError
from fanout.views.sanitise import clean
from fanout.views.streams import Say

FOLDS = ("off", "exact", "similar")
FIELDS = ("who", "host", "rank", "mark", "time", "stamp")
PLAIN_PREFIX = "{who} {mark} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """``show`` is smart, all, or a set of global ranks; ``fold`` None leaves it to the view."""

    show: str | frozenset[int] = "smart"
    hide: re.Pattern[str] | None = None
    grep: re.Pattern[str] | None = None
    fold: str | None = None
    prefix: str | None = None
    timestamps: bool = False
    metric: re.Pattern[str] | None = None


def wishes(
    *,
    show: str = "",
    hide: str = "",
    grep: str = "",
    fold: str = "auto",
    prefix: str | None = None,
    timestamps: bool = False,
    metric: str = "",
) -> Wishes:
    """The wishes that these flags say. Raises UsageError for what cannot be understood."""
    return Wishes(
        show=ranks_or_word(show) if show else ("all" if grep else "smart"),
        hide=_pattern("--hide", hide),
        grep=_pattern("--grep", grep),
        fold=None if fold == "auto" else fold,
        prefix=_template(prefix),
        timestamps=timestamps,
        metric=_metric(metric),
    )


def ranks_or_word(text: str) -> str | frozenset[int]:
    """``smart``, ``all``, or the ranks in ``0,8-15``."""
    if text in ("smart", "all"):
        return text
    ranks: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise UsageError(f"--show {text}: {part!r} is no rank", hint="smart, all, or global ranks such as 0,8-15")
        ranks.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(ranks)


def _pattern(flag: str, text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UsageError(f"{flag} {text}: not a regular expression: {error}") from None


def _metric(text: str) -> re.Pattern[str] | None:
    pattern = _pattern("--metric", text)
    if pattern is None:
        return None
    if not pattern.groups:
        raise UsageError(
            f"--metric {text}: it has no group",
            hint=r"name what is found: --metric 'it (?P<step>\d+)/(?P<total>\d+) .* nll=(?P<loss>[\d.]+)' (speed; any other)",
        )
    return pattern


def _template(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
        wrong = next((name for name in names if name not in FIELDS), None)
        if wrong is None:
            text.format(**dict.fromkeys(FIELDS, ""))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise UsageError(f"--prefix {text}: {error}", hint="a brace itself is written {{") from None
    if wrong is not None:
        raise UsageError(f"--prefix {text}: no field is called {wrong!r}", hint=f"fields: {', '.join(FIELDS)}")
    return text


class Chooser:
    """Which lines are shown. ``hidden`` counts those that were not.

    Smart is rank 0 in full, and from everybody what looks like a warning or an error. A host that has no streams of
    ranks is shown in full, because there its own stream is all there is; so is the first rank that tells figures
    where rank 0 has told none for a while (Megatron prints its losses on the last rank).
    """

    PATIENCE_SECONDS = 5.0

    def __init__(
        self, wishes: Wishes, ranks: Mapping[str, tuple[int, int | None]], parts: Mapping[str, set[str]]
    ) -> None:
        self.show: str | frozenset[int] = wishes.show
        self._grep, self._hide = wishes.grep, wishes.hide
        self._ranks, self._parts = ranks, parts
        self._zero_tells = False
        self._teller: tuple[int, float] | None = None  # the first other rank that told figures, and when
        self.hidden = 0

    def keeps(self, say: Say, now: float) -> bool:
        """Is this line, or block, to be seen? Counts it if not."""
        keep = self._shown(say, now)
        if keep and self._grep is not None:
            keep = self._grep.search(say.text) is not None
        if keep and self._hide is not None:
            keep = self._hide.search(say.text) is None
        self.hidden += say.many if not keep and say.kind != "bar" else 0
        return keep

    @property
    def picky(self) -> bool:
        """Does every line have to be looked at by itself?"""
        return self._grep is not None or self._hide is not None

    @property
    def planned(self) -> int | None:
        """How many ranks the plan has; None where a host's are not known."""
        counts = [count for _, count in self._ranks.values()]
        return sum(count for count in counts if count is not None) if counts and None not in counts else None

    def _shown(self, say: Say, now: float) -> bool:
        if self.show == "all":
            return True
        if isinstance(self.show, frozenset):
            return self._wanted(say, self.show)
        if say.rank == 0 and not self._zero_tells and "loss" in say.text:
            self._zero_tells = True
        if say.rank == 0 or say.level:
            return True
        if say.rank < 0:
            return say.host not in self._parts or self._ranks.get(say.host, (0, None))[0] == 0
        return not self._zero_tells and self._tells(say, now)

    def _tells(self, say: Say, now: float) -> bool:
        """Is this a rank that tells the figures in rank 0's stead?"""
        if self._teller is None and "loss" in say.text:
            self._teller = (say.rank, now)
        return (
            self._teller is not None and say.rank == self._teller[0] and now - self._teller[1] >= self.PATIENCE_SECONDS
        )

    def _wanted(self, say: Say, ranks: frozenset[int]) -> bool:
        if say.rank >= 0:
            return say.rank in ranks
        if say.host in self._parts:
            return bool(say.level)  # torchrun's own words
        return not ranks.isdisjoint(ranks_of(say.host, self._ranks))


def ranks_of(host: str, plan: Mapping[str, tuple[int, int | None]]) -> range:
    """The global ranks of a host by its place in the plan; one a host where nobody knows how many it has."""
    first = 0
    for name, (_, count) in plan.items():
        if name == host:
            return range(first, first + (count or 1))
        first += count or 1
    return range(0)


class Prefix:
    """What stands before a line, made once for each speaker: a flood of lines has few of them."""

    MARKS: Mapping[str, str] = {"line": "|", "rest": "+", "bar": "~"}
    MOST = 4096

    def __init__(self, template: str) -> None:
        self._template = template
        self._timed = "{time" in template or "{stamp" in template
        self._made: dict[tuple[str, str, str, int], str] = {}

    def of(self, say: Say, width: int, at: float) -> str:
        """The prefix; ``width`` is that of the longest speaker."""
        key = (say.host, say.speaker, say.kind, width)
        made = self._made.get(key)
        if made is None or self._timed:
            made = clean(self._template.format(**self._values(say, width, at)), colour=False)
            if len(self._made) < self.MOST:
                self._made[key] = made
        return made

    def _values(self, say: Say, width: int, at: float) -> dict[str, str]:
        if say.host:
            host, rank = say.host, say.speaker.removeprefix(say.host).removeprefix(":")
        else:  # several hosts that said the same
            host, _, rank = say.speaker.rpartition(":") if ":" in say.speaker else (say.speaker, "", "")
        values = {"who": f"{say.speaker:<{width}}", "host": host, "rank": rank, "mark": self.MARKS[say.kind]}
        if not self._timed:
            return values | {"time": "", "stamp": ""}
        from datetime import datetime

        moment = datetime.fromtimestamp(at).astimezone()
        return values | {"time": moment.strftime("%H:%M:%S"), "stamp": moment.isoformat(timespec="milliseconds")}
