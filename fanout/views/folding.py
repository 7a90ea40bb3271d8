"""Equal lines of many speakers as one: ``gpu[01-64]:*  | NCCL version 2.28.3  ×512``.

A line waits a third of a second for others that say the same; the order of every speaker's own lines is kept. With
one speaker nothing waits. Nothing is lost: unfolded, every speaker has every line that it said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fanout.hosts import fold
from fanout.views.streams import Say

WINDOW_SECONDS = 0.3


@dataclass(slots=True)
class _Waiting:
    number: int
    since: float
    say: Say
    speakers: dict[tuple[str, int], str] = field(default_factory=dict)  # (host, stream) -> its label


class Folding:
    """``parts`` is host -> names of its streams so far (it grows): a host whose streams all speak is ``host:*``."""

    def __init__(self, hosts: Sequence[str], parts: Mapping[str, set[str]], *, window: float = WINDOW_SECONDS) -> None:
        self._hosts, self._parts = hosts, parts
        self._window = window
        self._queue: deque[_Waiting] = deque()
        self._open: dict[str, _Waiting] = {}  # the last line that waits with this text
        self._count = 0
        self._last: dict[tuple[str, int], int] = {}  # number of the line that a speaker said last: it joins none before

    def take(self, says: Iterable[Say], now: float) -> list[Say]:
        """What can be shown now, after these lines."""
        for say in says:
            self._add(say, now)
        alone = len(self._hosts) < 2 and not self._parts
        out: list[Say] = []
        while self._queue and (alone or now - self._queue[0].since >= self._window):
            out.append(self._shown(self._queue.popleft()))
        return out

    def finish(self) -> list[Say]:
        """All that waits."""
        return self.take((), float("inf"))

    def _add(self, say: Say, now: float) -> None:
        key = (say.host, say.stream)
        same = self._open.get(say.text)
        if same is not None and say.kind == same.say.kind == "line" and self._last.get(key, 0) < same.number:
            same.speakers[key] = say.speaker
            self._last[key] = same.number
            return
        self._count += 1
        self._last[key] = self._count
        waiting = _Waiting(number=self._count, since=now, say=say, speakers={key: say.speaker})
        self._queue.append(waiting)
        self._open[say.text] = waiting

    def _shown(self, waiting: _Waiting) -> Say:
        if self._open.get(waiting.say.text) is waiting:
            del self._open[waiting.say.text]
        if len(waiting.speakers) == 1:
            return waiting.say
        labels = [(host, label.removeprefix(host).removeprefix(":")) for (host, _), label in waiting.speakers.items()]
        speaker = together(labels, self._parts)
        one_host = len({host for host, _ in labels}) == 1
        host = waiting.say.host if one_host else ""
        return waiting.say._replace(host=host, speaker=speaker, voices=len(waiting.speakers))


def together(speakers: Iterable[tuple[str, str]], parts: Mapping[str, set[str]]) -> str:
    """Hosts and streams in one label: ``gpu[01-02]:*,gpu03:[0,5]``."""
    by_host: dict[str, list[str]] = {}
    for host, name in speakers:
        by_host.setdefault(host, []).append(name)
    groups: dict[str, list[str]] = {}
    for host, names in by_host.items():
        known = parts.get(host, set())
        ranks = "*" if len(known) > 1 and known <= set(names) else fold(sorted(names, key=_by_number))
        groups.setdefault(ranks, []).append(host)
    return ",".join(f"{fold(hosts)}:{ranks}" if ranks else fold(hosts) for ranks, hosts in groups.items())


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (-1, name)
