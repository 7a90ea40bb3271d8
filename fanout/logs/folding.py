"""Line folding: show equal lines of many streams once, as ``gpu[01-64]:*  | NCCL version 2.28.3  ×512``.

A line waits 0.3 s for equal lines of other streams; the order within each stream is kept. With a single stream, no line
waits. No line is lost: unfolding gives every stream all its lines. ``similar`` also folds lines that differ only in
their numbers, and shows the range of each number in its place: ``7 of 8 ranks (not 5) | took 35.1–41.8 s``. Lines of different
training steps do not fold.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fanout.logs.demux import LogLine, split_block
from fanout.logs.metric_line import may_have_metrics, parse_step
from fanout.model.hosts import fold_names, fold_numbers
from fanout.text.units import name_all

WINDOW_SECONDS = 0.3
MAX_WAITING = (
    500  # waiting lines; beyond that folding stops, because in a flood the search for equal lines costs the most
)
KEPT_LABELS = 256
MISSING_COLUMNS = 16  # of the list of ranks that did not print a line
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:,\d{3}(?!\d))*(?:\.\d+)?(?:[eE][-+]?\d+)?")
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
        self._labels: dict[frozenset[tuple[str, int]], tuple[str, str, str]] = {}
        self._known = 0  # streams when the labels were made
        self._shown = 0  # number of the last line that was returned
        self._last: dict[tuple[str, int], int] = {}  # stream -> its last line: a later line joins no earlier one

    @property
    def may_fold(self) -> bool:
        """Return whether there is more than one stream."""
        return len(self._hosts) > 1 or bool(self._parts)

    def compute_label_width(self, most: int, planned: int) -> int:
        """Return the width of the labels of folded lines, at most ``most``; 0 if no line folds.

        ``planned`` is the number of ranks of the run, so that the width does not change when their streams appear.
        """
        if self.mode == "off" or not self.may_fold:
            return 0
        streams = sum(len(self._parts.get(host, ())) or 1 for host in self._hosts)
        return min(most, len(fold_names(self._hosts))) if max(streams, planned) < 3 else most

    def fold_lines(self, log_lines: Iterable[LogLine], now: float) -> list[LogLine]:
        """Add lines and return those that can be shown now."""
        alone = self.mode == "off" or not self.may_fold
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
        mask = _build_mask(log_line.text) if self.mode == "similar" else log_line.text
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
        host, speaker, group = self._get_labels(waiting)
        return waiting.log_line._replace(
            host=host,
            speaker=speaker,
            voices=len(waiting.speakers),
            text=merge_texts([speaker_text[1] for speaker_text in waiting.speakers.values()]),
            group=group,
        )

    def _get_labels(self, waiting: _WaitingLine) -> tuple[str, str, str]:
        """Return the host ("" for several), the label and the group of a folded line; the same streams print many lines."""
        known = sum(map(len, self._parts.values()))
        if known != self._known or len(self._labels) >= KEPT_LABELS:
            self._labels, self._known = {}, known
        streams = frozenset(waiting.speakers)
        if streams not in self._labels:
            labels = [
                (key[0], label.removeprefix(key[0]).removeprefix(":")) for key, (label, _) in waiting.speakers.items()
            ]
            host = waiting.log_line.host if len({host for host, _ in labels}) == 1 else ""
            group = describe_group(labels, self._hosts, self._parts)
            self._labels[streams] = (host, format_speakers(labels, self._parts), group)
        return self._labels[streams]


def _build_mask(text: str) -> str:
    """Return the text without its numbers, but with its training step: lines of different steps do not fold."""
    step = parse_step(text) if may_have_metrics(text) else None
    mask = _NUMBER.sub(_NUMBER_MARK, text)
    return mask if step is None else f"{mask}\n{step}"


def _get_number(waiting: _WaitingLine) -> int:
    return waiting.number


def merge_texts(texts: Sequence[str]) -> str:
    """Merge texts that differ only in numbers: return one text with the range of each number in its place."""
    if len(set(texts)) == 1:
        return texts[0]
    columns = iter(list(zip(*(_NUMBER.findall(text) for text in texts), strict=True)))
    return _NUMBER.sub(lambda match: _format_range(next(columns)), texts[0])


def _format_range(column: Sequence[str]) -> str:
    """Return the smallest and the largest number as they were printed; one number if they are equal."""
    by_value = sorted(set(column), key=_get_value)
    return by_value[0] if len(by_value) == 1 else f"{by_value[0]}–{by_value[-1]}"


def _get_value(text: str) -> float:
    return float(int(text, 16)) if text.startswith("0x") else float(text.replace(",", ""))


def describe_group(speakers: Sequence[tuple[str, str]], hosts: Sequence[str], parts: Mapping[str, set[str]]) -> str:
    """Return ``all 8 ranks``, ``7 of 8 ranks (not 5)`` if most ranks printed a line, or ``ranks 1,6``; the same for hosts.

    It is "" for other streams, and for few hosts, whose names are their label.
    """
    if all(name.isdigit() for _, name in speakers):
        found = {int(name) for _, name in speakers}
        every = {int(name) for names in parts.values() for name in names if name.isdigit()}
        missing, noun = fold_numbers(every - found), "ranks"
    elif not any(name for _, name in speakers):
        found_hosts = {host for host, _ in speakers}
        missing, noun = fold_names(host for host in hosts if host not in found_hosts), "hosts"
        found, every = set(range(len(found_hosts))), set(range(len(hosts)))
    else:
        return ""
    if len(found) != len(speakers) or not found <= every:
        return ""
    if 2 * len(found) <= len(every):
        return f"ranks {fold_numbers(found)}" if noun == "ranks" else ""
    if len(found) == len(every):
        return name_all(len(every), noun.removesuffix("s"))
    return f"{len(found)} of {len(every)} {noun} (not {shorten_label(missing, MISSING_COLUMNS)})"


def label_folded_line(log_line: LogLine, columns: int) -> LogLine:
    """Return a folded line with a label of about ``columns`` columns. An error keeps the list of its hosts and ranks.

    If the label has the number of streams, ``voices`` is 1, so that the end of the line does not repeat it.
    """
    group = log_line.group
    if log_line.voices == 1 or log_line.level:
        return log_line
    if not group or (group.startswith(("all", "both", "ranks")) and len(log_line.speaker) <= columns):
        return log_line._replace(speaker=shorten_label(log_line.speaker, columns))
    if group.startswith("ranks"):
        return log_line._replace(speaker=shorten_label(group, columns))
    if len(group) > columns:
        group = group.replace(" of ", "/").replace(" ranks", "").replace(" hosts", "")
    if len(group) > columns:
        group = group.partition(" (")[0]
    return log_line._replace(speaker=group, voices=1)


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
    """Shorten a label to ``width`` columns: ``gpu[01-04,07,…]``; the end of the line shows the count."""
    most = width - len(",…]") + 1  # with the comma
    if len(label) <= width or "," not in label[: max(0, most)]:
        return label
    kept = label[: label.rindex(",", 0, most)]
    return kept + (",…]" if kept.count("[") > kept.count("]") else ",…")


def _build_sort_key(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (-1, name)
