"""One sentence for what many hosts say: a cause is the same whoever's pid stands in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PID = re.compile(r" \(pid (\d+)\)$")
MANY = 4


def cause(text: str) -> tuple[str, str]:
    """The sentence without the pid at its end, and the pid ("" where there is none)."""
    found = _PID.search(text)
    return (text[: found.start()], found[1]) if found else (text, "")


def whole(text: str, pids: Sequence[str]) -> str:
    """The sentence with the pids of all hosts that said it, in their order."""
    known = [pid for pid in pids if pid]
    if not known:
        return text
    if len(known) == 1:
        return f"{text} (pid {known[0]})"
    more = f", and {len(known) - MANY} more" if len(known) > MANY else ""
    return f"{text} (pids {', '.join(known[:MANY])}{more})"
