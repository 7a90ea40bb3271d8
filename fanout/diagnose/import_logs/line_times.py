"""Times of log lines, in seconds that can only be compared with each other. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from fanout.logs import glog

_MONTHS = {
    name: str(number) for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}
_TIMES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], float | None]], ...] = (
    (
        re.compile(r"^\W{0,2}(\d{4})-(\d\d)-(\d\d)[T _](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?"),
        lambda m: _to_seconds(m[2], m[3], m[4], m[5], m[6], m[7]),
    ),
    (
        glog.RECORD,
        lambda m: _to_seconds(m["month"], m["day"], m["hour"], m["minute"], m["second"], m["part"]),
    ),
    (
        re.compile(r"^\s+time\s+: \d{4}-(\d\d)-(\d\d)_(\d\d):(\d\d):(\d\d)"),
        lambda m: _to_seconds(m[1], m[2], m[3], m[4], m[5], None),
    ),
    (re.compile(r"^(\d{10}\.\d{1,9}) "), lambda m: float(m[1])),
    (  # syslog and journalctl, and dmesg -T
        re.compile(
            r"^\[?(?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?: \d{4}\])?"
        ),
        lambda m: _to_seconds(_MONTHS.get(m[1], ""), m[2], m[3], m[4], m[5], m[6]),
    ),
    (
        re.compile(r'^\{"log":.{0,100000}"time":"\d{4}-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?'),
        lambda m: _to_seconds(m[1], m[2], m[3], m[4], m[5], m[6]),
    ),
)
_STARTS = frozenset("0123456789[(EWIF {") | {"J", "M", "A", "S", "O", "N", "D"}


def parse_time(line: str) -> float | None:
    """Return the time of the line in seconds, usable only for comparison; None if the line has no time."""
    if line[:1] not in _STARTS:
        return None
    for pattern, seconds in _TIMES:
        match = pattern.match(line)
        if match is not None:
            return seconds(match)
    return None


def _to_seconds(month: str, day: str, hour: str, minute: str, second: str, part: str | None) -> float | None:
    """Return seconds since the start of the year. Half of the formats have no year."""
    try:
        moment = datetime(2000, int(month), int(day), int(hour), int(minute), int(second))  # noqa: DTZ001 - no zone is known
    except ValueError:
        return None
    return (moment - datetime(2000, 1, 1)).total_seconds() + (float(f"0.{part}") if part else 0.0)  # noqa: DTZ001 - likewise
