"""Signals of a planned stop: the names that a user may give. Pure."""

from __future__ import annotations

from fanout.model.errors import UsageError
from fanout.text.suggest import find_nearest

SAVE_SIGNALS = ("USR1", "USR2", "HUP", "INT", "QUIT", "ALRM", "WINCH", "URG")
_REASONS = {
    "KILL": "no program can handle SIGKILL",
    "STOP": "no program can handle SIGSTOP",
    "TERM": "the stop itself sends SIGTERM: a task that saves on SIGTERM needs only a longer --grace",
} | dict.fromkeys(("SEGV", "BUS", "FPE", "ILL", "ABRT", "SYS", "TRAP"), "it means that the program crashed")
_HINT = "--save-signal USR1"


def parse_save_signal(text: str) -> str:
    """Return the name of a signal without SIG: ``USR1`` for ``SIGUSR1`` and ``usr1``, "" for "". Raises UsageError."""
    name = text.strip().upper().removeprefix("SIG")
    if not text or name in SAVE_SIGNALS:
        return name
    if name in _REASONS:
        raise UsageError(f"--save-signal {text}: {_REASONS[name]}", hint=_HINT)
    if name.isdigit():
        raise UsageError(f"--save-signal {text}: give the name of the signal, because numbers differ", hint=_HINT)
    near = find_nearest(name, SAVE_SIGNALS) or ["USR1"]
    raise UsageError(
        f"--save-signal {text}: it must be one of {', '.join(SAVE_SIGNALS)}", hint=f"--save-signal {near[0]}"
    )
