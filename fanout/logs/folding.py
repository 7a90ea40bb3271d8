"""Line folding: show equal lines of many streams once, as ``gpu[01-64]:*  | NCCL version 2.28.3  ×512``.

A line waits 0.3 s for equal lines of other streams; the order within each stream is kept. With a single stream, no line
waits. No line is lost: unfolding gives every stream all its lines. ``similar`` also folds lines that differ only in
their numbers, and shows the range of the numbers: ``took N s  ≈×32 (35.1–41.8)``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fanout.logs.demux import LogLine, split_block
from fanout.model.hosts import fold_names

WINDOW_SECONDS = 0.3
MAX_WAITING = (
    500  # waiting lines; beyond that folding stops, because in a flood the search for equal lines costs the most
)
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NUMBER_MARK = "\ud800"  # stands for a number; decoded text never contains it


@dataclass(slots=True)
class _WaitingLine:
    number: int
    since: float
    log_line: LogLine
    mask: str
    speakers: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)  # (host, stream) -> label, text


class LineFolding:
    """Folding of lines. ``parts`` maps host -> names of its streams so far; if all of them printed a line, it is ``host:*``.

    ``mode`` is off, exact or similar, and may change at any time.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        parts: Mapping[str, set[str]],
        *,
        how: str = "exact",
        window: float = WINDOW_SECONDS,
    ) -> None:
        self.mode = how
        self._hosts, self._parts = hosts, parts
        self._window = window
        self._queue: deque[_WaitingLine] = deque()
        self._open: dict[str, list[_WaitingLine]] = {}  # by text, in order of number
        self._count = 0
        self._shown = 0  # number of the last line that was returned
        self._last: dict[tuple[str, int], int] = {}  # stream -> its last line: a later line joins no earlier one

    def fold_lines(self, log_lines: Iterable[LogLine], now: float) -> list[LogLine]:
        """Add lines and return those that can be shown now."""
        alone = self.mode == "off" or (len(self._hosts) < 2 and not self._parts)
        if alone and not self._queue:
            return list(log_lines)
        for log_line in log_lines:
            if len(self._queue) < MAX_WAITING:
                for line in split_block(log_line):
                    self._add_line(line, now)
            else:
                self._enqueue_line(
                    (log_line.host, log_line.stream), _WaitingLine(number=0, since=now, log_line=log_line, mask="")
                )
        out: list[LogLine] = []
        while self._queue and (alone or now - self._queue[0].since >= self._window):
            out.append(self._build_folded_line(self._queue.popleft()))
        return out

    def take_rest(self) -> list[LogLine]:
        """Return all waiting lines."""
        return self.fold_lines((), float("inf"))

    def _add_line(self, log_line: LogLine, now: float) -> None:
        key = (log_line.host, log_line.stream)
        mask = _NUMBER.sub(_NUMBER_MARK, log_line.text) if self.mode == "similar" else log_line.text
        peers = self._open.setdefault(mask, [])
        if peers and peers[0].number <= self._shown:
            peers[:] = peers[bisect_right(peers, self._shown, key=_get_number) :]
        if log_line.kind == "line":
            at = bisect_right(peers, self._last.get(key, 0), key=_get_number)
            if at < len(peers) and peers[at].log_line.kind == "line":
                peers[at].speakers[key] = (log_line.speaker, log_line.text)
                self._last[key] = peers[at].number
                return
        waiting = _WaitingLine(
            number=0, since=now, log_line=log_line, mask=mask, speakers={key: (log_line.speaker, log_line.text)}
        )
        self._enqueue_line(key, waiting)
        peers.append(waiting)

    def _enqueue_line(self, key: tuple[str, int], waiting: _WaitingLine) -> None:
        self._count += 1
        waiting.number = self._last[key] = self._count
        self._queue.append(waiting)

    def _build_folded_line(self, waiting: _WaitingLine) -> LogLine:
        self._shown = waiting.number
        peers = self._open.get(waiting.mask)
        if peers and peers[-1] is waiting:
            del self._open[waiting.mask]
        if len(waiting.speakers) < 2:
            return waiting.log_line
        labels = [
            (key[0], speaker_text[0].removeprefix(key[0]).removeprefix(":"))
            for key, speaker_text in waiting.speakers.items()
        ]
        text, ranges = merge_texts([speaker_text[1] for speaker_text in waiting.speakers.values()])
        return waiting.log_line._replace(
            host=waiting.log_line.host if len({host for host, _ in labels}) == 1 else "",
            speaker=format_speakers(labels, self._parts),
            voices=len(waiting.speakers),
            text=text,
            ranges=ranges,
        )


def _get_number(waiting: _WaitingLine) -> int:
    return waiting.number


def merge_texts(texts: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Merge texts that differ only in numbers: return one text with N for these numbers, and their ranges."""
    if len(set(texts)) == 1:
        return texts[0], ()
    columns = list(zip(*(_NUMBER.findall(text) for text in texts), strict=True))
    ranges = tuple(_format_range(column) for column in columns if len(set(column)) > 1)
    numbers = iter(columns)

    def shown(match: re.Match[str]) -> str:
        return match[0] if len(set(next(numbers))) == 1 else "N"

    return _NUMBER.sub(shown, texts[0]), ranges


def _format_range(column: Sequence[str]) -> str:
    by_value = sorted(set(column), key=lambda text: int(text, 16) if text.startswith("0x") else float(text))
    return f"{by_value[0]}–{by_value[-1]}"


def format_speakers(speakers: Iterable[tuple[str, str]], parts: Mapping[str, set[str]]) -> str:
    """Return one label for many hosts and streams: ``gpu[01-02]:*,gpu03:[0,5]``."""
    by_host: dict[str, dict[str, None]] = {}
    for host, name in speakers:
        by_host.setdefault(host, {})[name] = None
    groups: dict[str, list[str]] = {}
    for host, names in by_host.items():
        known = parts.get(host, set())
        ranks = "*" if len(known) > 1 and known <= set(names) else fold_names(sorted(names, key=_build_sort_key))
        groups.setdefault(ranks, []).append(host)
    return ",".join(f"{fold_names(hosts)}:{ranks}" if ranks else fold_names(hosts) for ranks, hosts in groups.items())


def shorten_label(label: str, width: int) -> str:
    """Shorten a label to about ``width`` columns: ``gpu[01-04,07,…]``; the end of the line shows the count."""
    if len(label) <= width or "," not in label[:width]:
        return label
    kept = label[: label.rindex(",", 0, width)]
    return kept + (",…]" if kept.count("[") > kept.count("]") else ",…")


def _build_sort_key(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (-1, name)
