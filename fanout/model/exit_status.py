"""Exit statuses of fanout's commands. A run returns the code of the first failing script, or one of these. Pure."""

from __future__ import annotations

import enum


class ExitStatus(enum.IntEnum):
    """Exit statuses that fanout itself chooses. ``meaning`` is the text of help and docs."""

    SUCCESS = 0, "success: all hosts succeeded, no check failed, nothing is left"
    NEGATIVE = 1, "a check failed, something is left, no cause was found, or a host did not answer a question"
    USAGE = 2, "usage error or invalid file; no host was contacted"
    TIME_LIMIT = 124, "the time limit stopped the run"
    REFUSED = 125, "fanout failed, or the check refused the run"
    INTERRUPTED = 130, "interrupted by Ctrl-C (SIGINT)"
    BROKEN_PIPE = 141, "the reader of stdout closed the pipe"
    TERMINATED = 143, "interrupted by SIGTERM"
    UNREACHABLE = 255, "a host was unreachable or lost"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitStatus:
        """Return a member with its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    def __str__(self) -> str:
        return str(int(self))


def status_of_signal(number: int) -> int:
    """Return the exit status of a process that a signal ended, as a shell reports it: 143 for 15."""
    return 128 + number
