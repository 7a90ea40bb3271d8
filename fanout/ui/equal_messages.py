"""Equal messages: merge messages of many hosts that differ only in the pid at the end. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PID = re.compile(r" \(pid (\d+)\)$")
MAX_PIDS = 4


def split_pid(text: str) -> tuple[str, str]:
    """Return the message without the pid at its end, and the pid ("" if there is none)."""
    found = _PID.search(text)
    return (text[: found.start()], found[1]) if found else (text, "")


def join_pids(text: str, pids: Sequence[str]) -> str:
    """Return the message with the pids of all hosts that sent it, in the order of ``pids``."""
    known = [pid for pid in pids if pid]
    if not known:
        return text
    if len(known) == 1:
        return f"{text} (pid {known[0]})"
    more = f", and {len(known) - MAX_PIDS} more" if len(known) > MAX_PIDS else ""
    return f"{text} (pids {', '.join(known[:MAX_PIDS])}{more})"
